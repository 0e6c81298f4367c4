"""The data sets: read from their files, drawn in batches, refused with what to do."""

import dataclasses
import struct

import pytest
import torch
from helpers import train

from train.__main__ import main
from train.data import Dataset, load_data


def test_the_embedded_digits():
    data = load_data("digits", "nowhere")
    assert data.images.shape == (1437, 1, 8, 8) and data.test_images.shape == (360, 1, 8, 8)
    assert data.images.dtype == torch.uint8 and data.levels == 17 and not data.flip
    x = data.scale(torch.cat([data.images, data.test_images]))
    assert x.min() == -1 and x.max() == 1 and x.dtype == torch.float32
    counts = torch.bincount(data.test_labels, minlength=10)
    assert counts.min() >= 34 and counts.max() <= 38  # stratified


def test_batches_are_drawn_scaled_and_flipped_on_the_device():
    images = (
        torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    )
    images[1:] = 128
    labels = torch.tensor([0, 1, 2])
    data = Dataset("x", images, labels, images, labels, ["a", "b", "c"])
    generator = torch.Generator().manual_seed(0)
    x, c = data.batch(3000, generator)
    assert x.shape == (3000, 1, 2, 2) and abs((c == 0).double().mean() - 1 / 3) < 0.05
    assert {tuple(i.flatten().tolist()) for i in x[c == 0]} == {(-1, 1, 1, -1)}
    mirrored, c = dataclasses.replace(data, flip=True).batch(3000, generator)
    share = (mirrored[c == 0][:, 0, 0, 0] == 1).double().mean()
    assert abs(share - 0.5) < 5 * (0.25 / 1000) ** 0.5
    assert {tuple(i.flatten().tolist()) for i in mirrored[c == 0]} == {
        (-1, 1, 1, -1),
        (1, -1, -1, 1),
    }


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
        "--classifier-steps", 1, "--schedule", "cosine",
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
    assert torch.equal(data.quantise(x), every) and data.quantise(x).dtype == torch.uint8
    assert torch.equal(data.quantise(x + 0.9 / (levels - 1)), every)  # less than half a level
    assert data.quantise(torch.tensor([-3.0, 3.0])).tolist() == [0, levels - 1]
