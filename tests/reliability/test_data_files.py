"""A data set's file that is not the published one is named, and neither read nor trained on.

Small files stand for the real ones, with their own checksums in the place of the published.
"""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
from bomb import Bomb
from torchvision.datasets import CIFAR10, MNIST

from train.__main__ import main
from train.data import MNIST_MD5, load_data


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """MNIST's four archives, and the same files unpacked."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng, sums, resources = np.random.default_rng(0), {}, []
    for name in MNIST_MD5:
        shape = (30, 28, 28) if "images" in name else (30,)
        values = rng.integers(0, 256, shape) if "images" in name else np.arange(30) % 10
        header = struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape)
        (raw / name).write_bytes(header + values.astype(np.uint8).tobytes())
        (raw / f"{name}.gz").write_bytes(gzip.compress((raw / name).read_bytes(), mtime=0))
        sums[name] = md5(raw / name)
        resources.append((f"{name}.gz", md5(raw / f"{name}.gz")))
    monkeypatch.setattr("train.data.MNIST_MD5", sums)
    monkeypatch.setattr(MNIST, "resources", resources)
    return raw


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    base = tmp_path / CIFAR10.base_folder
    base.mkdir()
    rng = np.random.default_rng(0)
    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    for name in names:
        data = rng.integers(0, 256, (4, 3072)).astype(np.uint8)
        (base / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 2, 3]}))
    meta = {"label_names": [f"thing {k}" for k in range(4)]}
    (base / "batches.meta").write_bytes(pickle.dumps(meta))
    sums = [[name, md5(base / name)] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(base / "batches.meta")})
    return base


def spoil(path, how):
    content = path.read_bytes()
    if how == "directory":
        path.unlink()
        path.mkdir()
    elif how == "loop":
        path.unlink()
        path.symlink_to(path.name)
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        path.write_bytes({"cut": content[:-1], "empty": b"", "flipped": flipped}[how])


WAYS = ["cut", "empty", "flipped", "directory", "loop"]


def refused(preset, root, path, capsys):
    """By the command that would train on it: one line, which names the file."""
    run = root / "run"
    assert main(["--preset", preset, "--data-dir", str(root), "--out", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m train: error: ") and error.count("\n") == 1, error
    assert f"{path} is not the file that {preset.upper()} was published with" in error
    assert not run.exists()


def test_whole_files_are_read(mnist, cifar10, tmp_path):
    assert load_data("mnist", str(tmp_path)).images.shape == (30, 1, 28, 28)
    data = load_data("cifar10", str(tmp_path))
    assert data.images.shape == (20, 3, 32, 32) and data.classes[3] == "thing 3"


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", MNIST_MD5)
def test_an_unpacked_file_of_mnist(mnist, tmp_path, capsys, name, how):
    spoil(mnist / name, how)
    refused("mnist", tmp_path, mnist / name, capsys)


@pytest.mark.parametrize("how", WAYS)
def test_an_archive_of_mnist(mnist, tmp_path, capsys, how):
    name = "t10k-images-idx3-ubyte"
    archive = mnist / f"{name}.gz"
    spoil(archive, how)
    assert len(load_data("mnist", str(tmp_path)).images) == 30  # it is unpacked already
    (mnist / name).unlink()
    refused("mnist", tmp_path, archive, capsys)


def test_whole_archives_are_unpacked(mnist, tmp_path):
    before = load_data("mnist", str(tmp_path))
    for name in MNIST_MD5:
        (mnist / name).unlink()
    after = load_data("mnist", str(tmp_path))
    assert bool((before.images == after.images).all() and (before.labels == after.labels).all())


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_batch_of_cifar10(cifar10, tmp_path, capsys, name, how):
    spoil(cifar10 / name, how)
    refused("cifar10", tmp_path, cifar10 / name, capsys)


@pytest.mark.parametrize("how", WAYS)
def test_the_archive_of_cifar10(cifar10, tmp_path, capsys, how):
    archive = tmp_path / CIFAR10.filename
    archive.write_bytes(b"not the published one")
    spoil(archive, how)
    assert len(load_data("cifar10", str(tmp_path)).images) == 20
    (cifar10 / "data_batch_2").unlink()
    refused("cifar10", tmp_path, archive, capsys)


def test_a_batch_of_a_stranger_is_not_unpickled(cifar10, tmp_path, capsys):
    (cifar10 / "data_batch_1").write_bytes(pickle.dumps(Bomb(tmp_path / "marker")))
    refused("cifar10", tmp_path, cifar10 / "data_batch_1", capsys)
    assert not (tmp_path / "marker").exists()
