"""Pictures, samples and GIFs: every pixel as it was drawn, and nothing that is not wanted."""

import io
import sys
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import perturbed
from tqdm import tqdm

from ddpm import Step, ddim, linear_schedule
from guidance.__main__ import main
from guidance.app.pictures import Panel, as_bytes, frames, save_gif, save_panels
from guidance.app.samples import names_of, save_samples
from unet import UNet, save

INFO = {"schedule": linear_schedule(100, beta_T=0.2).info, "classes": ["ant", "b/e: $x^2$", "кот"]}


def images(rows, n, size, channels=1, seed=0):
    shape = (rows, n, channels, size, size)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)) / 127.5 - 1


def found(picture, pixels):
    """Where this block of pixels is in the picture, which is to hold it once: (y, x)."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (3, 3, 3)).squeeze(2)
    places = np.argwhere((windows == pixels[:3, :3]).all((2, 3, 4)))
    height, width = pixels.shape[:2]
    exact = [
        (y, x) for y, x in places if np.array_equal(picture[y : y + height, x : x + width], pixels)
    ]
    assert len(exact) == 1
    return exact[0]


@pytest.mark.parametrize(
    ("size", "times"), [(8, 8), (28, 2), (32, 2), (63, 1), (64, 1), (128, 1), (200, 1)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_of_a_figure_is_a_square_of_whole_pixels(tmp_path, size, times, channels):
    """Of two panels, whatever stands around them."""
    panels = [
        Panel("one", ["a", "a longer label"], images(2, 3, size, channels)),
        Panel(
            "a title that is wider than its images, by far", ["b"], images(1, 1, size, channels, 1)
        ),
    ]
    save_panels(tmp_path / "p.png", panels, "a caption, 50 steps")
    with Image.open(tmp_path / "p.png") as file:
        picture = np.array(file.convert("RGB"))
    for panel in panels:
        for k, row in enumerate(as_bytes(panel.images).numpy()):
            for j, image in enumerate(row):
                whole = np.broadcast_to(image, (size, size, 3)).repeat(times, 0).repeat(times, 1)
                y, x = found(picture, whole)
                if (k, j) == (0, 0):
                    first = y, x
                assert (y, x) == (
                    first[0] + k * (size + 1) * times,
                    first[1] + j * (size + 1) * times,
                )
    ink = np.argwhere((picture < 128).all(2))
    assert (ink.min(0) >= 5).all() and (ink.max(0) < np.array(picture.shape[:2]) - 5).all()


def test_labels_are_no_formulas_and_may_be_of_any_alphabet(tmp_path):
    labels = ["$", "a_$b^$", "猫", "∅", ""]
    save_panels(tmp_path / "p.png", [Panel("$x_{", labels, images(5, 1, 8))], "$\\frac$ 猫")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_gif_keeps_only_its_frames():
    """Of 1,000 updates never more than 100 states are alive, and no ε."""
    alive = weakref.WeakSet()

    def process():
        for t in range(1000, 0, -1):
            tensors = [torch.full((2, 1, 8, 8), float(t)) for _ in range(3)]
            alive.update(tensors)
            yield Step(t, *tensors)

    kept, most = [], 0
    for step in frames(process(), 1000):
        kept.append(step)
        most = max(most, len(alive))
    assert [s.t for s in kept] == list(range(991, 0, -10)) and most <= 2 * 100 + 6
    assert [s.t for s in frames(process(), 1000, 1)] == [1]
    assert [len(list(frames(process(), 1000, m))) for m in (7, 999, 1000)] == [7, 500, 1000]
    for length in (1, 99, 100, 101, 199):
        short = [s.t for s in frames(list(process())[-length:], length)]
        assert len(short) <= 100 and short[-1] == 1 and (length > 100 or len(short) == length)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    save(path / "unet.safetensors", perturbed(UNet), INFO)
    return path


def guided(weights, *flags):
    base = ["none", "--weights", str(weights), "--n", "5", "--steps", "4"]
    return main([*base, *map(str, flags)])


def test_the_command_keeps_no_more_than_the_gif_needs(weights, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "guidance.app.command.save_gif", lambda path, steps, rows: seen.extend(steps)
    )
    out = ["--out", tmp_path / "p.png", "--steps", 100, "--class", 0]
    assert guided(weights, *out, "--gif") == 0
    assert len(seen) == 100 and all(len(step.x) == 5 and not len(step.eps) for step in seen)
    monkeypatch.setattr("guidance.app.pictures.FRAMES", 10)
    monkeypatch.setattr("guidance.app.command.FRAMES", 10)
    seen.clear()
    assert guided(weights, *out, "--gif") == 0
    assert [step.t for step in seen] == list(range(91, 0, -10))


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_samples_are_what_was_drawn(tmp_path, channels):
    """PNGs and the .npz hold every level of every pixel, NHWC, as FID tools take them."""
    x = images(1, 4, 9, channels)[0]
    x[0, :, 0], x[1, :, 0] = 1.7, -3.0
    labels = torch.tensor([0, 2, 2, 3])
    save_samples(tmp_path / "deep", x, labels, ["a", "b", "c", "d"])
    exact = ((x.double().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    with np.load(tmp_path / "deep" / "samples.npz") as file:
        assert set(file) == {"arr_0", "labels"}
        assert file["arr_0"].shape == (4, 9, 9, 3) and file["arr_0"].dtype == np.uint8
        assert np.array_equal(file["arr_0"], exact.expand(-1, -1, -1, 3))
        assert file["labels"].tolist() == [0, 2, 2, 3]
    for name, image in zip("abcd", exact, strict=True):
        with Image.open(tmp_path / "deep" / f"{name}.png") as picture:
            assert picture.mode == {1: "L", 3: "RGB"}[channels]
            assert np.array_equal(np.array(picture).reshape(image.shape), image)
    assert len(list((tmp_path / "deep").iterdir())) == 5  # no leftovers


def test_names_are_fit_for_a_file_system():
    names = names_of(["b/e: $x^2$", "кот", "∅", "..", "a" * 300], 2)
    assert names[:4] == [
        "row000-image000-b_e_x_2", "row000-image001-b_e_x_2",
        "row001-image000-кот", "row001-image001-кот",
    ]  # fmt: skip
    assert names[4] == "row002-image000-null" and names[6] == "row003-image000-class"
    assert len(set(names)) == 10 and max(map(len, names)) < 90


def test_the_command_saves_each_sample_of_each_row(weights, tmp_path, capsys):
    """The picture's pixels are the samples'; a directory that has samples already is refused."""
    out = tmp_path / "p.png"
    flags = ["--out", out, "--save", tmp_path / "s", "--class", "ant,2,null"]
    assert guided(weights, *flags) == 0
    assert f"{tmp_path / 's' / 'samples.npz'}, and each of its 15 images" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert len(names) == 16 and names[0] == "row000-image000-ant.png"
    assert names[-2] == "row002-image004-null.png"
    with np.load(tmp_path / "s" / "samples.npz") as file:
        assert file["labels"].tolist() == [0] * 5 + [2] * 5 + [3] * 5
        arrays = file["arr_0"]
    with Image.open(out) as picture:
        shown = np.array(picture.convert("RGB"))
    for name, array in zip(names, arrays, strict=False):
        with Image.open(tmp_path / "s" / name) as picture:
            assert np.array_equal(np.array(picture), array[..., 0])
        found(shown, array.repeat(8, 0).repeat(8, 1))
    out.unlink()
    assert guided(weights, *flags) == 2 and not out.exists()
    assert "has samples in it already; save these in another" in capsys.readouterr().err
    assert guided(weights, "--out", out, "--save", weights / "unet.safetensors") == 2
    assert "is no directory to save samples in" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--eta", "0.7"], ["--sampler", "ancestral"]])
def test_the_batch_size_changes_no_sample(weights, tmp_path, flags):
    """By the 8-bit samples, which a last bit of float32 may move by one level."""
    saved = []
    for batch_size in (1, 3, 100):
        place = tmp_path / str(batch_size)
        rest = ["--save", place, "--batch-size", batch_size, "--class", "0,1", "--gif"]
        assert guided(weights, "--out", place / "p.jpg.png", *flags, *rest) == 0
        with np.load(place / "samples.npz") as file:
            saved.append(file["arr_0"].astype(int))
    assert max(abs(saved[0] - saved[k]).max() for k in (1, 2)) <= 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_over_all_updates_that_only_a_terminal_sees(weights, tmp_path, monkeypatch, terminal):
    bars, made = [], tqdm.__init__

    def kept(bar, *args, **kwargs):
        bars.append(bar)
        made(bar, *args, **kwargs)

    monkeypatch.setattr(tqdm, "__init__", kept)
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    flags = ["--out", tmp_path / "p.png", "--batch-size", 2, "--class", "0,1"]
    assert guided(weights, *flags) == 0
    (bar,) = bars
    if terminal:
        assert (bar.n, bar.total) == (2 * 3 * 4, 2 * 3 * 4)
        assert "/24" in sys.stderr.getvalue() and not sys.stderr.getvalue().split("\r")[-1].strip()
    else:
        assert bar.disable and sys.stderr.getvalue() == ""


def test_pictures_without_a_name_get_a_free_number(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "guidance-none-3.png").write_bytes(b"a user's own")
    for _ in range(3):
        assert guided(weights, "--class", 0, "--gif") == 0
    stems = ["guidance-none", "guidance-none-2", "guidance-none-4"]
    printed = capsys.readouterr().out
    for stem in stems:
        with Image.open(f"runs/{stem}.png") as picture, Image.open(f"runs/{stem}.gif") as gif:
            assert picture.format == "PNG" and gif.format == "GIF"
        assert f"{stem}.png: 1 rows" in printed
    assert (tmp_path / "runs" / "guidance-none-3.png").read_bytes() == b"a user's own"
    assert len(list((tmp_path / "runs").iterdir())) == 7
    assert guided(weights, "--class", 0, "--out", "runs/guidance-none-3.png") == 0  # asked for
    assert len(list((tmp_path / "runs").iterdir())) == 7


def test_odd_gifs(tmp_path):
    x_T = images(1, 2, 8)[0]
    steps = list(ddim(linear_schedule(100, beta_T=0.2), lambda x, t: x.sin(), x_T, 99))
    save_gif(tmp_path / "odd.gif", [*steps, *steps, *steps], 1)
    with Image.open(tmp_path / "odd.gif") as gif:
        assert gif.n_frames == 99
