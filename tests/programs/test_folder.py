"""One's own pictures: read as they look, split, trained on, found again, refused in one line.

The pixels are expected by another road: arrays turned, weighed and cropped by hand.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tvf
from helpers import at_call, ctrl_c, files, main, train, unrendered
from PIL import Image

from guidance.__main__ import main as guidance
from train.config import PRESETS, Config, for_pictures, from_flags, parser
from train.data import SETS, load_data
from train.evaluate.__main__ import main as evaluate
from train.experiments import price_of_w, removal
from train.experiments.__main__ import main as experiments
from train.experiments.intervals import summarise
from train.folder import load_folder
from train.objectives import unet_loss
from train.pictures import decode
from unet import UNet, load


def noise(height, width, channels=3, seed=0):
    """A picture that no mirror, turn or swap of channels leaves as it is."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def chw(array):
    return array.transpose(2, 0, 1) if array.ndim == 3 else array[None]


def folder(root, classes, side=8):
    """A picture of its own for each of so many a class: class k is about 40·k bright."""
    for k, (name, n) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for i in range(n):
            array = noise(side, side, seed=1000 * k + i) // 8 + np.uint8(40 * (k % 6))
            Image.fromarray(array).save(root / name / f"{i:03d}.png")
    return root


def loaded(root, **settings):
    return load_folder(Config(**{"data": str(root), "size": 8, **settings}))


# -- one picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "webp", "PNG", "bmp", "tif", "ppm"])
def test_a_picture_of_the_right_size_is_read_as_it_is(tmp_path, suffix):
    array, path = noise(8, 8), tmp_path / f"a.{suffix}"
    Image.fromarray(array).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(decode(path, 8, grey=False), chw(array))


def test_jpeg(tmp_path):
    array = np.repeat(np.repeat(noise(2, 2), 16, 0), 16, 1)  # four even squares lose little
    Image.fromarray(array).save(tmp_path / "a.jpeg", quality=100, subsampling=0)
    read = decode(tmp_path / "a.jpeg", 32, grey=False)
    assert abs(read.astype(int) - chw(array)).max() <= 4


TURNED = {  # EXIF's orientation: how the upright picture comes from the stored one
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
def test_a_photograph_is_upright(tmp_path, orientation):
    array, exif = noise(8, 8), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    read = decode(tmp_path / "a.png", 8, grey=False)
    assert np.array_equal(read, chw(TURNED[orientation](array)))


def test_the_centre_is_kept(tmp_path):
    for name, array, centre in (
        ("wide", noise(8, 14), np.s_[:, 3:11]),
        ("high", noise(20, 8), np.s_[6:14]),
    ):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
        read = decode(tmp_path / f"{name}.png", 8, grey=False)
        assert np.array_equal(read, chw(array[centre])), name


@pytest.mark.parametrize(("height", "width", "size"), [(60, 90, 8), (54, 36, 16), (4, 6, 8)])
def test_resizing_is_antialiased_as_torchvision_does(tmp_path, height, width, size):
    """The shorter side, then the centre; of a tensor, by torch's own filter: no Pillow."""
    array, short = noise(height, width) // 2 + 64, min(height, width)  # no overshoot is cut off
    Image.fromarray(array).save(tmp_path / "a.png")
    shape, whole = [size * height // short, size * width // short], torch.tensor(chw(array)).float()
    modes = tvf.InterpolationMode
    top, left = ((side - size) // 2 for side in shape)
    smooth, rough = (
        tvf.resize(whole, shape, mode, antialias=mode is modes.BICUBIC)
        .clamp(0, 255)[:, top : top + size, left : left + size]
        .numpy()
        for mode in (modes.BICUBIC, modes.NEAREST)
    )
    read = decode(tmp_path / "a.png", size, grey=False)
    assert np.abs(read - smooth).max() < 1.5
    assert np.abs(rough - smooth).max() > 20  # what it is not


def over_white(colour, alpha):
    alpha = alpha[..., None] / 255
    return colour * alpha + 255 * (1 - alpha)


def test_what_is_transparent_lies_on_white(tmp_path):
    rgba, la = noise(8, 8, 4), noise(8, 8, 2)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(la, "LA").save(tmp_path / "la.png")
    palette = Image.fromarray(noise(8, 8, 1) % 4, "P")
    colours = [255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30]
    palette.putpalette(colours)
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "clear.png", transparency=2)
    table = np.array(colours).reshape(4, 3)[np.asarray(palette)]
    clear = np.where((np.asarray(palette) == 2)[..., None], 255, table)
    expected = {
        "rgba": over_white(rgba[..., :3], rgba[..., 3]),
        "la": over_white(la[..., :1].repeat(3, 2), la[..., 1]),
        "p": table,
        "clear": clear,
    }
    for name, array in expected.items():
        read = decode(tmp_path / f"{name}.png", 8, grey=False)
        assert np.abs(read - chw(array)).max() <= 1, name
    assert not np.array_equal(table, clear)


def test_grey_in_colour_and_colour_in_grey(tmp_path):
    grey, colour = noise(8, 8, 1), noise(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(grey > 99).save(tmp_path / "bit.png")
    assert np.array_equal(decode(tmp_path / "grey.png", 8, grey=False), np.stack([grey] * 3))
    assert np.array_equal(decode(tmp_path / "grey.png", 8, grey=True), grey[None])
    assert np.array_equal(decode(tmp_path / "bit.png", 8, grey=True), 255 * (grey > 99)[None])
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(decode(tmp_path / "colour.png", 8, grey=True)[0] - luma).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits(tmp_path, suffix):
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8)).astype(np.uint16)
    deep[0, :2] = 0, 65535
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    read = decode(tmp_path / f"deep.{suffix}", 8, grey=True)[0]
    assert np.array_equal(read, np.round(deep / 257)) and set(read[0, :2]) == {0, 255}


def test_the_colours_of_print(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red = decode(tmp_path / "red.jpg", 8, grey=False).mean((1, 2))
    assert red[0] > 240 and red[1:].max() < 15


# -- a folder --------------------------------------------------------------------------------------


def test_classes_are_folders_and_labels_their_places(tmp_path, capsys):
    root = folder(tmp_path / "my pets", {"b": 4, "a": 6, "c": 5})
    (root / "a" / "deep" / "er").mkdir(parents=True)
    shutil.move(root / "a" / "000.png", root / "a" / "deep" / "er" / "x.PNG")
    (root / "elsewhere.png").write_text("not in a class")
    (root / "a" / "notes.txt").write_text("not a picture")
    for hidden in (root / ".DS_Store", root / "b" / "._000.png", root / "c" / ".DS_Store"):
        hidden.write_text("a system's own")
    (root / ".git").mkdir()
    (tmp_path / "other").mkdir()
    shutil.move(root / "c", tmp_path / "other" / "c")
    (root / "c").symlink_to(tmp_path / "other" / "c")
    (tmp_path / "other" / "c" / "circle").symlink_to(root / "c")
    data = loaded(root, held_out=0.2)
    assert data.name == "my pets/" and data.classes == ["a", "b", "c"]
    assert data.levels == 256 and data.images.dtype == torch.uint8 and not data.flip
    assert torch.bincount(data.labels).tolist() == [5, 3, 4]
    assert torch.bincount(data.test_labels).tolist() == [1, 1, 1]
    brightness = {"a": 40, "b": 0, "c": 80}  # as they were made
    for x, y in ((data.images, data.labels), (data.test_images, data.test_labels)):
        for image, k in zip(x, y, strict=True):
            assert 0 <= int(image.min()) - brightness[data.classes[k]] <= int(image.max()) < 120
            assert int(image.max()) - brightness[data.classes[k]] < 32
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "notes.txt" in said and "elsewhere.png" in said
    assert "DS_Store" not in said and "._" not in said
    assert loaded(root, grey=True).images.shape[1] == 1 and loaded(root, flip=True).flip


def sets(data):
    return tuple({tuple(i.flatten().tolist()) for i in x} for x in (data.images, data.test_images))


def test_the_split_is_by_seed_even_and_without_overlap(tmp_path):
    root = folder(tmp_path / "x", {"a": 40, "b": 20, "c": 3, "d": 2, "e": 1})
    data = loaded(root)
    learned, held = sets(data)
    assert len(learned) + len(held) == 66 and not learned & held
    assert torch.bincount(data.test_labels, minlength=5).tolist() == [4, 2, 1, 1, 0]
    assert torch.bincount(data.labels).tolist() == [36, 18, 2, 1, 1]  # one at least of each
    assert (data.test_labels.diff() < 0).any()  # not class by class: the first are a sample
    assert sets(loaded(root)) == (learned, held)
    assert sets(loaded(root, seed=1))[1] != held
    assert torch.bincount(loaded(root, held_out=0.99).labels).tolist() == [1] * 5
    shutil.move(root, tmp_path / "moved")
    assert sets(loaded(tmp_path / "moved")) == (learned, held)
    Image.fromarray(noise(8, 8, seed=9)).save(tmp_path / "moved" / "a" / "new.png")
    assert len(sets(loaded(tmp_path / "moved"))[1] & held) >= len(held) - 1


def test_thousands_of_pictures_cost_their_pixels(tmp_path, monkeypatch):
    """No more than one is open at a time: 3,000 of them are their bytes, and a little."""
    root = folder(tmp_path / "x", {"a": 3})
    for i in range(3000):
        os.link(root / "a" / f"{i % 3:03d}.png", root / "a" / f"copy-{i}.png")
    data = loaded(root)
    assert len(data.images) + len(data.test_images) == 3003
    assert len(os.listdir("/proc/self/fd")) < 100


# -- settings --------------------------------------------------------------------------------------

SIZES = {
    4: ("digits", (1, 2), 4),
    8: ("digits", (1, 2), 4),
    16: ("digits", (1, 2), 8),
    20: ("mnist", (1, 2, 3), 5),
    28: ("mnist", (1, 2, 3), 7),
    32: ("cifar10", (1, 2, 2, 2), 16),
    40: ("cifar10", (1, 2, 2, 2), 10),
    64: ("cifar10", (1, 2, 2, 2), 16),
    128: ("cifar10", (1, 2, 2, 2), 16),
    136: ("cifar10", (1, 2, 2, 2), 17),
    256: ("cifar10", (1, 2, 2, 2, 2), 16),
    1024: ("cifar10", (1, 2, 2, 2, 2, 2, 2), 16),
}


@pytest.mark.parametrize("size", SIZES)
def test_the_settings_of_a_size(size):
    like, multipliers, attention = SIZES[size]
    config = from_flags(vars(parser().parse_args(["--data", "x/pets", "--size", str(size)])))
    assert (config.preset, config.multipliers, config.attention) == (
        like,
        multipliers,
        (attention,),
    )
    assert config.lr == PRESETS[like].lr and config.run == "runs/pets"


def test_the_presets_own_sizes_get_the_presets_own_settings():
    for size, like in ((8, "digits"), (28, "mnist"), (32, "cifar10")):
        assert for_pictures(size) == PRESETS[like]


def test_every_size_has_a_network_or_is_refused_with_two_that_have():
    for size in range(4, 300):
        try:
            config = for_pictures(size)
        except ValueError as error:
            below, above = map(int, str(error).split(": ")[1].split(",")[0].split(" or "))
            assert below < size < above and size % (8 if size >= 32 else 4 if size > 16 else 2)
            assert for_pictures(below) and for_pictures(above)
            continue
        shape = {"width": 8, "blocks": 1, "multipliers": config.multipliers}
        with torch.device("meta"):
            UNet(size, 3, 2, attention=config.attention, **shape)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data {pets} --preset digits", "--preset and --data exclude each other"),
        ("--size 32", "--size says how your own pictures are read, and needs --data DIR"),
        ("--grey --preset mnist", "--grey says how"),
        ("--flip", "--flip says how"),
        ("--held-out 0.2", "--held-out says how"),
        ("--data {pets} --size 36", "--size must be divisible by 8"),
        ("--data {pets} --size 36", "32 or 40, got 36"),
        ("--data {pets} --size 3", "--size must be in 4..1024, got 3"),
        ("--data {pets} --size 20 --multipliers 1,1,1,1", "--size must be divisible by 8"),
        ("--data {pets} --size 8 --attention 5", "attention must name sides among [8, 4]"),
        ("--data {pets} --held-out 0", "--held-out must be"),
        ("--data {pets} --held-out 1", "--held-out must be"),
        ("--data {here}/nowhere", "nowhere is no directory"),
        ("--data {here}/file.png", "file.png is no directory"),
        ("--data {here}/empty", "must hold a folder for each class"),
        ("--data {here}/flat", "must hold a folder for each class"),
        ("--data {here}/hollow", "hollow/b has no pictures"),
        ("--data {here}/parts", "but the parts of a data set"),
        ("--data {here}/parts", "parts/train"),
        ("--data {here}/broken", "5 of 7 pictures can't be read"),
        ("--data {here}/broken", "broken/a/cut.png"),
        ("--data {here}/broken", "and 2 more"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(flags, message, tmp_path, capsys):
    folder(tmp_path / "pets", {"cat": 3, "dog": 3})
    (tmp_path / "file.png").write_text("")
    (tmp_path / "empty").mkdir()
    folder(tmp_path, {"flat": 2})
    (folder(tmp_path / "hollow", {"a": 2}) / "b").mkdir()
    folder(tmp_path / "parts" / "train", {"a": 2})
    folder(tmp_path / "parts" / "test", {"a": 2})
    broken = folder(tmp_path / "broken", {"a": 2}) / "a"
    whole = (broken / "000.png").read_bytes()
    (broken / "cut.png").write_bytes(whole[: len(whole) // 2])
    (broken / "nothing.png").write_bytes(b"")
    (broken / "text.jpg").write_text("a text")
    (broken / "link.png").symlink_to(tmp_path / "gone")
    os.mkfifo(broken / "pipe.png")
    out = tmp_path / "run"
    words = flags.format(pets=tmp_path / "pets", here=tmp_path).split()
    assert train(*words, "--out", out, "--schedule", "cosine") == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("python -m train: error: "), error
    assert error.count("\n") == 1 and not out.exists()


def test_a_picture_too_large_to_be_one_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    root = folder(tmp_path / "x", {"a": 1})
    assert train("--data", root, "--size", 8, "--out", tmp_path / "run") == 2
    assert "a/000.png (Image size (64 pixels) exceeds limit" in capsys.readouterr().err
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # for which Pillow has a warning
    assert len(loaded(root).images) == 1


# -- runs ------------------------------------------------------------------------------------------

NAMES = ["$x_{$", "été", "猫", "العربية"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on four classes with names that are hard to write."""
    here = tmp_path_factory.mktemp("own")
    root = folder(here / "pets", dict.fromkeys(NAMES, 20))
    (here / "run").mkdir()
    (here / "run" / ".DS_Store").write_text("makes no run")
    flags = ("--size", 8, "--flip", "--held-out", 0.2, "--out", here / "run")
    assert train("--data", root, *flags, shown=True) == 0
    return here


def test_a_run_from_start_to_guided_samples(run, tmp_path, capsys):
    """Warnings are errors here: a letter that the font lacks must not be one."""
    assert {"guidance.png", "judge.safetensors", "pictures.json"} <= files(run / "run")
    out = tmp_path / "x.png"
    line = ["--weights", str(run / "run"), "--steps", "2", "--n", "2", "--out", str(out)]
    assert guidance(["classifier-free", *line, "--class", "猫,$x_{$,0"]) == 0
    assert guidance(["classifier", *line]) == 0
    assert guidance(["negative", *line, "--negative", "été"]) == 0
    assert out.stat().st_size > 1000


def test_what_is_derived_from_the_pictures_travels_with_the_weights(run):
    _, info = load(run / "run" / "unet.safetensors")
    assert info["data"] == "pets/" and info["classes"] == sorted(NAMES) and info["levels"] == 256
    found = info["pictures"]
    assert (found["size"], found["grey"], found["flip"]) == (8, False, True)
    assert (found["held_out"], found["seed"], found["number"]) == (0.2, 0, 80)
    assert str(run) not in json.dumps(info)  # nothing of this machine
    assert not {"data", "size", "grey", "flip", "held_out"} & info["config"].keys()


def measured(run, *more, data="pets"):
    line = ["--weights", run / "run", "--n", 8, "--steps", 2, "--out", run / "e.csv"]
    return evaluate([str(x) for x in (*line, "--data", run / data, *more)])


def test_samples_are_measured_beside_the_same_pictures(run, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("train.evaluate.cas.STEPS", 1)
    monkeypatch.setattr(
        "train.evaluate.lab.load_again", lambda *a: seen.append(again(*a)) or seen[0]
    )
    assert measured(run, "--cas", "--bound", 2) == 0
    assert "changed" not in capsys.readouterr().err
    data = loaded(run / "pets", flip=True, held_out=0.2)
    for name in ("images", "labels", "test_images", "test_labels"):
        assert torch.equal(getattr(seen[0], name), getattr(data, name))
    assert (run / "e.csv").read_text(encoding="utf-8").splitlines()[1].startswith("pets/,")


def again(*arguments):
    from train.folder import load_again

    return load_again(*arguments)


def test_experiments_on_ones_own_pictures(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("train.evaluate.cas.STEPS", 1)
    of_each = {name: (kind, values[-1:]) for name, (kind, values) in removal.METHODS.items()}
    monkeypatch.setattr(removal, "METHODS", of_each)
    monkeypatch.setattr(price_of_w, "GUIDES", dict(list(price_of_w.GUIDES.items())[:2]))
    line = ["--weights", run / "run", "--n", 12, "--steps", 2, "--seeds", 2, "--out", tmp_path]
    for name in ("price-of-w", "removal"):
        assert experiments([name, *map(str, line), "--data", str(run / "pets")]) == 0, name
        shown = capsys.readouterr().out
        with monkeypatch.context() as patch:
            unrendered(patch)
            assert experiments([name, "--plot", "--out", str(tmp_path)]) == 0
        assert capsys.readouterr().out == shown
        if name == "removal":
            assert re.search(r"none +\| 0 +\| 25 ", shown), shown  # each of four


def test_a_share_of_unknown_pictures_is_a_value_a_seed():
    """Student's interval over seeds, where Wilson's would need to know how many there were."""
    import pandas as pd

    rows = pd.DataFrame({"data": ["pets/"] * 2, "w": [1] * 2, "n": [100] * 2, "recall": [0.2, 0.4]})
    found = summarise(rows, ["w"], ["recall"])["recall"].iloc[0]
    assert found["mean"] == pytest.approx(0.3)
    assert found["high"] - found["mean"] == pytest.approx(
        12.706 * 0.1, rel=1e-3
    )  # t_{0.975}(1)·s/√2


def test_the_folder_has_to_be_named_and_is_compared(run, tmp_path, capsys):
    line = ["--weights", str(run / "run"), "--n", "8", "--steps", "2", "--out", str(run / "f.csv")]
    assert evaluate(line) == 2
    error = capsys.readouterr().err
    assert "--data must name the folder pets/ again" in error and error.count("\n") == 1
    shutil.copytree(run / "pets", tmp_path / "copy")
    shutil.copytree(run / "run", tmp_path / "run")
    assert measured(tmp_path, data="copy") == 0
    assert "changed" not in capsys.readouterr().err  # another name and place, the same pictures
    Image.fromarray(noise(8, 8, seed=9)).save(tmp_path / "copy" / "猫" / "new.png")
    assert measured(tmp_path, data="copy") == 0
    said = [x for x in capsys.readouterr().err.splitlines() if "changed" in x]
    assert len(said) == 1 and "80 pictures then, 81 now" in said[0]
    (tmp_path / "copy" / "猫").rename(tmp_path / "copy" / "chat")
    assert measured(tmp_path, data="copy") == 2
    error = capsys.readouterr().err
    assert "has the classes" in error and error.count("\n") == 1
    assert evaluate(["--weights", "weights/digits", "--data", str(run / "pets")]) == 2
    assert "were not trained on a folder" in capsys.readouterr().err


@pytest.mark.parametrize("pictures", [None, [], {}, {"size": -1}, {"size": 8, "grey": 3}])
def test_weights_that_do_not_say_how_pictures_are_read(run, tmp_path, capsys, pictures):
    from unet import save

    shutil.copytree(run / "run", tmp_path / "run")
    model, info = load(run / "run" / "unet.safetensors")
    save(tmp_path / "run" / "unet.safetensors", model, {**info, "pictures": pictures})
    line = ["--weights", str(tmp_path / "run"), "--data", str(run / "pets")]
    assert evaluate(line) == 2
    error = capsys.readouterr().err
    assert "do not say how pictures are read" in error and error.count("\n") == 1


def test_a_stopped_run_goes_on_by_the_advice_it_gives(run, tmp_path, capsys, monkeypatch):
    """Bit for bit; the folder may have been moved, and what has changed in it is said."""
    shutil.copytree(run / "pets", tmp_path / "pets")
    flags = ("--size", 8, "--flip", "--held-out", 0.2, "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("train.objectives.unet_loss", lambda *a: at_call(7, ctrl_c, unet_loss(*a)))
        assert train("--data", tmp_path / "pets", *flags) == 130
    advice = capsys.readouterr().err.split("Go on with: ")[1].split()
    assert advice[:5] == ["python", "-m", "train", "--data", str(tmp_path / "pets")]
    (tmp_path / "pets").rename(tmp_path / "moved")
    assert main(advice[3:]) == 2
    assert "is no directory" in capsys.readouterr().err
    advice[4] = str(tmp_path / "moved")
    assert main(advice[3:]) == 0
    assert "changed" not in capsys.readouterr().err
    for name in ("unet", "classifier", "judge"):
        file = f"run/{name}.safetensors"
        assert (tmp_path / file).read_bytes() == (run / file).read_bytes(), name
    (tmp_path / "moved" / "猫" / "000.png").unlink()
    assert main(advice[3:]) == 0
    assert "80 pictures then, 79 now" in capsys.readouterr().err
    (tmp_path / "run" / "pictures.json").write_text("{")
    assert main(advice[3:]) == 2
    assert "pictures.json can't be read" in capsys.readouterr().err


def test_a_run_of_a_preset_gets_no_folder_on_resume(run, tmp_path, capsys):
    flags = ("--steps", 1, "--classifier-steps", 0, "--judge-steps", 0)
    assert train("--out", tmp_path / "run", *flags) == 0
    assert main(["--data", str(run / "pets"), "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "--data can't change on --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "judged"),
    [
        ({"only": 30}, False),
        ({"only": 1}, False),
        ({"a": 1, "b": 1}, False),
        ({"a": 2, "b": 1}, True),
        ({"a": 50, "b": 2}, True),
        ({f"{k:02d}": 2 for k in range(14)}, True),  # two more than a picture shows
    ],
)
def test_any_number_of_classes(tmp_path, capsys, classes, judged):
    root, out = folder(tmp_path / "x", classes), tmp_path / "run"
    flags = ("--data", root, "--size", 8, "--out", out, "--steps", 2, "--sampling-steps", 1)
    of_its_own = sum(classes.values()) < 30  # what is drawn depends on the classes alone
    assert train(*flags, shown=of_its_own) == 0
    said = capsys.readouterr().out
    assert ("no classifier and no judge is trained" in said) != judged
    assert (
        (out / "classifier.safetensors").exists() == judged == (out / "judge.safetensors").exists()
    )
    line = ["--weights", str(out), "--steps", "2", "--n", "2", "--out", str(tmp_path / "x.png")]
    assert guidance(["classifier-free", *line, "--w", "0,2"]) == 0
    assert guidance(["negative", *line, "--negative", "0"]) == 0
    if len(classes) == 1:
        capsys.readouterr()
        assert guidance(["classifier", *line]) == 2
        assert evaluate(["--weights", str(out), "--data", str(root)]) == 2
        error = capsys.readouterr().err
        assert error.count("knows one class") == 2 == error.count("\n")
    if not judged:  # and the same command goes on
        assert train(*flags, "--resume") == 0


def test_too_few_pictures_to_measure_against(tmp_path, capsys):
    root = folder(tmp_path / "pets", {"a": 4, "b": 4})
    assert train("--data", root, "--size", 8, "--out", tmp_path / "run") == 0
    assert measured(tmp_path) == 2
    error = capsys.readouterr().err
    assert "has 2 held-out pictures, too few to measure" in error


def test_files_are_utf_8_whatever_the_locale(run, tmp_path):
    """A file opened in the locale's encoding is a warning there, and warnings are errors.

    In the locale C, where it is ASCII; in UTF-8 are the runs of all other tests.
    """
    code = "import helpers, sys, warnings\n"
    code += "ours = dict(category=EncodingWarning, module='(train|guidance|unet)[.]')\n"
    code += "warnings.filterwarnings('error', **ours)\n"
    code += "flags = sys.argv[1:]\n"
    code += "sys.exit(helpers.train(*flags, shown=True) or helpers.train(*flags, '--resume'))"
    python = [sys.executable, "-X", "warn_default_encoding", "-c"]
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environ |= {"PYTHONPATH": os.pathsep.join(["tests", *sys.path]), "PYTHONIOENCODING": "utf-8"}
    flags = ["--data", run / "pets", "--size", 8, "--out", tmp_path / "run", "--steps", 2]
    flags += ["--sampling-steps", 1, "--judge-steps", 0, "--classifier-steps", 0]
    ended = subprocess.run(
        [*python, code, *map(str, flags)], env=environ, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    saved = json.loads((tmp_path / "run" / "pictures.json").read_text(encoding="utf-8"))
    assert saved["classes"] == sorted(NAMES)


# -- torchvision's other sets ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "cifar100"])
def test_a_set_with_the_interface_of_the_three(name, monkeypatch, tmp_path, capsys):
    """A class that has what torchvision's has, with pictures of its own."""
    from torchvision import datasets

    kind, colour = SETS[name][0], name == "cifar100"
    shape = (28, 28) if not colour else (32, 32, 3)
    arrays = {part: np.stack([chw(noise(*shape[:2], 1))[0]] * 20) for part in (True, False)}
    if colour:
        arrays = {part: np.stack([noise(*shape, seed=i) for i in range(20)]) for part in arrays}

    class Fake(getattr(datasets, kind)):
        def __init__(self, root, train, download=False):
            if not download:
                raise RuntimeError("not there")
            (root / "downloaded").touch()
            array = arrays[train]
            self.data = array if colour else torch.tensor(array)
            self.targets = [i % 10 for i in range(20)] if colour else torch.arange(20) % 10
            self.classes = [f"thing {k}" for k in range(10)]

    Fake.__name__ = kind
    monkeypatch.setattr(datasets, kind, Fake)
    monkeypatch.setattr("train.evaluate.cas.STEPS", 1)
    data = load_data(name, str(tmp_path))
    assert data.name == name and data.classes[3] == "thing 3" and data.flip == colour
    assert data.images.shape == ((20, 3, 32, 32) if colour else (20, 1, 28, 28))
    assert np.array_equal(data.images[7].numpy(), chw(arrays[True][7]))
    assert data.test_labels.tolist() == [i % 10 for i in range(20)]
    out = tmp_path / "run"
    flags = ("--data-dir", tmp_path, "--out", out, "--steps", 2, "--schedule", "cosine")
    assert train("--preset", name, *flags, "--sampling-steps", 1, "--judge-steps", 1) == 0
    assert json.loads((out / "config.json").read_text())["preset"] == name
    line = ["--weights", out, "--n", 10, "--steps", 1, "--data-dir", tmp_path, "--out", out / "x"]
    assert evaluate([*map(str, line), *([] if colour else ["--cas"])]) == 0


def test_a_stranger_file_of_such_a_set_is_named(tmp_path, capsys):
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"no such pickle")
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(b"no such archive")
    for name, file in (("cifar100", "train"), ("kmnist", "t10k-labels-idx1-ubyte.gz")):
        assert main(["--preset", name, "--data-dir", str(tmp_path), "--out", str(raw / "r")]) == 2
        error = capsys.readouterr().err
        assert f"{file} is not the file that {SETS[name][0]} was published with" in error
