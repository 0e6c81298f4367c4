"""The data sets: read from their files, drawn in batches, refused with what to do."""

import itertools
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import train
from PIL import Image
from torch.testing import assert_close

from train.__main__ import main
from train.config import Config
from train.data import Dataset, load_data
from train.folder import load_folder

ROOT = Path(__file__).parents[2]


# -- where a pixel is ------------------------------------------------------------------------------


def test_the_embedded_digits():
    """Those of scikit-learn's own array, each once, in the one part or in the other."""
    from sklearn.datasets import load_digits

    data, published = load_data("digits", "nowhere"), load_digits()
    pairs = zip(published.images, published.target, strict=True)
    label = {image.tobytes(): int(k) for image, k in pairs}
    parts = (data.images, data.labels), (data.test_images, data.test_labels)
    found = [[image.double().numpy().tobytes() for image in images] for images, _ in parts]
    assert [len(part) for part in found] == [1437, 360] and len(label) == 1437 + 360
    assert {*found[0], *found[1]} == set(label)  # so that no test image is trained on
    for (images, labels), of in zip(parts, found, strict=True):
        assert [label[image] for image in of] == labels.tolist()
        assert images.shape[1:] == (1, 8, 8) and images.dtype == torch.uint8
    assert torch.cat([data.images, data.test_images]).unique().tolist() == list(range(17))
    assert data.levels == 17 and not data.flip
    counts = torch.bincount(data.test_labels, minlength=10)
    assert counts.min() >= 34 and counts.max() <= 38  # stratified


@pytest.fixture
def unchecked(monkeypatch):
    """Files that are not the published ones are read all the same."""
    monkeypatch.setattr("train.data.check_files", lambda *a: None)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)


def marked(*marks):
    """(1, C, H, W) of zeros, but for (channel, row, column, value); the shape comes first."""
    shape, *values = marks
    image = torch.zeros(1, *shape, dtype=torch.uint8)
    for channel, row, column, value in values:
        image[0, channel, row, column] = value
    return image


def test_a_pixel_of_mnist(unchecked, tmp_path):
    """Byte 28·row + column of an image's 784, after a header of 16; of labels after one of 8."""
    for part, value in (("train", 200), ("t10k", 100)):
        pixels = bytearray(3 * 784)
        pixels[784 + 28 * 1 + 5] = value  # of the second image
        raw = tmp_path / "MNIST" / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        header = struct.pack(">4I", 0x803, 3, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 3) + b"\7\0\3")
    data = load_data("mnist", str(tmp_path))
    for images, labels, value in (
        (data.images, data.labels, 200),
        (data.test_images, data.test_labels, 100),
    ):
        assert torch.equal(images[1:2], marked((1, 28, 28), (0, 1, 5, value)))
        assert images.shape == (3, 1, 28, 28) and not images[::2].any()
        assert labels.tolist() == [7, 0, 3] and labels.dtype == torch.int64


def test_a_pixel_of_cifar10(unchecked, tmp_path):
    """Value 1024·channel + 32·row + column of 3,072, the channels being red, green, blue."""
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    for k, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        pixels = np.zeros((1, 3072), np.uint8)
        pixels[0, [32 * 1 + 5, 1024 + 32 * 2 + 7, 2048 + 32 * 30]] = 200 + k, 100 + k, 50 + k
        (base / name).write_bytes(pickle.dumps({"data": pixels, "labels": [9 - k]}))
    names = ["airplane", "automobile"]
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    data = load_data("cifar10", str(tmp_path))
    images = torch.cat([data.images, data.test_images])
    for k in range(6):
        marks = (0, 1, 5, 200 + k), (1, 2, 7, 100 + k), (2, 30, 0, 50 + k)
        assert torch.equal(images[k : k + 1], marked((3, 32, 32), *marks)), k
    assert data.labels.tolist() == [9, 8, 7, 6, 5] and data.test_labels.tolist() == [4]
    assert data.classes == names and data.flip


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_pixel_of_a_picture(tmp_path, mode):
    """Pillow's (x, y) is column and row."""
    (tmp_path / "a").mkdir()
    picture, colour = Image.new(mode, (8, 8)), (200, 30, 90)
    picture.putpixel((5, 1), colour if mode == "RGB" else colour[0])
    picture.save(tmp_path / "a" / "x.png")
    data = load_folder(Config(data=str(tmp_path), size=8, grey=mode == "L"))
    channels = len(picture.getbands())
    marks = [(channel, 1, 5, colour[channel]) for channel in range(channels)]
    assert torch.equal(data.images, marked((channels, 8, 8), *marks))


def test_the_first_pictures_of_the_published_files(unchecked):
    """Read as the two tests above write them."""
    raw, batch = ROOT / "data/MNIST/raw", ROOT / "data/cifar-10-batches-py/data_batch_1"
    if not ((raw / "train-images-idx3-ubyte").exists() and batch.exists()):
        pytest.skip("MNIST and CIFAR-10 are not in data/")
    with open(raw / "train-images-idx3-ubyte", "rb") as file:
        grey = list(file.read(16 + 2 * 784)[16:])
    with open(batch, "rb") as file:
        colour = pickle.load(file, encoding="latin1")["data"][:2].flatten().tolist()
    for name, values, side in (("mnist", grey, 28), ("cifar10", colour, 32)):
        images = load_data(name, str(ROOT / "data")).images[:2]
        places = itertools.product(*map(range, images.shape))
        C = images.shape[1]
        for k, c, row, column in places:
            assert images[k, c, row, column] == values[((k * C + c) * side + row) * side + column]


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_is_what_its_generator_says(flip):
    """Image by image: number i_n, from −1 to 1, its columns reversed where a coin says so."""
    images = torch.arange(3 * 2 * 2 * 3).view(3, 2, 2, 3).to(torch.uint8)  # not their own mirrors
    labels = torch.tensor([2, 0, 1])
    data = Dataset("x", images, labels, images[:0], labels[:0], ["a", "b", "c"], 37, flip)
    ours, theirs = (torch.Generator().manual_seed(4) for _ in range(2))
    for _ in range(2):  # the second goes on in the stream
        x, c = data.batch(20, theirs)
        numbers = torch.randint(3, (20,), generator=ours).tolist()
        coins = (torch.rand(20, generator=ours) < 0.5).tolist() if flip else [False] * 20
        assert len({*zip(numbers, coins, strict=True)}) == (6 if flip else 3)
        for image, label, i, mirrored in zip(x, c, numbers, coins, strict=True):
            rows = (images[i].double() / 18 - 1).tolist()
            expected = [[row[::-1] if mirrored else row for row in channel] for channel in rows]
            assert_close(image.double(), torch.tensor(expected).double(), rtol=0, atol=1e-6)
            assert label == labels[i]
    assert torch.equal(ours.get_state(), theirs.get_state())


# -- files -----------------------------------------------------------------------------------------


def write_idx(path, array):
    """The MNIST file format: magic 0x0000080d (d dimensions of bytes), sizes, bytes."""
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + bytes(array.flatten().tolist()))


def test_mnist_is_read_from_its_files_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("network"))
    monkeypatch.setattr("train.data.MNIST_MD5", {})
    generator = torch.Generator().manual_seed(0)
    for part, n in (("train", 40), ("t10k", 20)):
        images = torch.randint(0, 256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        write_idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", images)
        labels = (torch.arange(n) % 10).to(torch.uint8)
        write_idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", labels)
    data = load_data("mnist", str(tmp_path))
    assert data.images.shape == (40, 1, 28, 28) and data.test_images.shape == (20, 1, 28, 28)
    assert data.classes == [str(k) for k in range(10)] and data.levels == 256
    out = tmp_path / "run"
    code = train(
        "--preset", "mnist", "--data-dir", tmp_path, "--out", out, "--attention", "7",
        "--multipliers", "1,1,1", "--steps", 2, "--sampling-steps", 1,
        "--classifier-steps", 1, "--schedule", "cosine", shown=True,
    )  # fmt: skip
    assert code == 0 and (out / "guidance.png").exists()
    out = capsys.readouterr().out
    assert "class accuracy at w = 1: " in out and "the judge on real test images" in out


@pytest.mark.parametrize("preset", ["mnist", "cifar10"])
def test_a_download_that_fails_says_where_the_files_belong(preset, tmp_path, monkeypatch, capsys):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert (
        main(["--preset", preset, "--data-dir", str(tmp_path), "--out", str(tmp_path / "r")]) == 2
    )
    error = capsys.readouterr().err
    assert "could not be downloaded or read" in error and str(tmp_path) in error
    assert "`--preset digits` needs no download" in error and "Traceback" not in error
    assert error.strip().count("\n") == 0
    assert not (tmp_path / "r").exists()


def test_data_that_is_there_needs_no_right_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *a: False)
    monkeypatch.setattr("train.data.MNIST_MD5", {})
    for part, n in (("train", 3), ("t10k", 2)):
        images = torch.zeros(n, 28, 28, dtype=torch.uint8)
        write_idx(tmp_path / f"MNIST/raw/{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", images[:, 0, 0])
    assert len(load_data("mnist", str(tmp_path)).images) == 3


def test_a_data_directory_that_can_not_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    flags = ["--preset", "mnist", "--data-dir", str(tmp_path / "file" / "data")]
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert "can't be made" in error and "`--preset digits` needs no download" in error


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_to_quantise_is_the_inverse_of_to_scale(levels):
    every = torch.arange(levels).to(torch.uint8).view(-1, 1, 1, 1)
    data = Dataset("x", every, every, every, every, [], levels=levels)
    x = data.scale(every)
    assert x[0] == -1 and x[-1] == 1 and x.dtype == torch.float32
    assert torch.equal(data.quantise(x), every) and data.quantise(x).dtype == torch.uint8
    assert torch.equal(data.quantise(x + 0.9 / (levels - 1)), every)  # less than half a level
    assert data.quantise(torch.tensor([-3.0, 3.0])).tolist() == [0, levels - 1]
