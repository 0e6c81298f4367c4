"""`python -m guidance`: from a weights directory to a labelled picture."""

import subprocess
import sys
from dataclasses import fields
from functools import partial

import pytest
import torch
from PIL import Image
from tiny import perturbed
from torch.testing import assert_close

import guidance
from ddpm import ancestral, cosine_schedule, ddim, linear_schedule
from guidance.__main__ import Negative, main
from guidance.app import guides
from guidance.app.draw import draw, window
from guidance.app.flags import run
from guidance.app.models import load_models
from guidance.app.pictures import save_gif
from guidance.app.rows import rows_of
from train.config import Config
from unet import NoisyClassifier, UNet, load, save

INFO = {"schedule": linear_schedule(100).info, "data": "digits", "classes": ["ant", "bee", "cat"]}
INFO["schedule"]["beta_T"] = 0.2


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    save(path / "unet.safetensors", perturbed(UNet), INFO)
    save(path / "classifier.safetensors", perturbed(NoisyClassifier), INFO)
    return path


def guided(kind, weights, out, *flags):
    base = [kind, "--weights", str(weights), "--out", str(out), "--n", "4"]
    if "--steps" not in flags:
        base += ["--steps", "6"]
    return main([*base, *map(str, flags)])


COMMANDS = {
    "none": ("none", [], 3),
    "null": ("none", ["--class", "null"], 1),
    "classifier": ("classifier", ["--scale", "0,2"], 6),
    "conditional": ("classifier", ["--class", "bee", "--conditional"], 1),
    "mean shift": ("classifier", ["--mean-shift", "--sampler", "ancestral"], 3),
    "classifier-free": ("classifier-free", ["--w", "0,1,3", "--class", "cat"], 3),
    "ancestral": ("classifier-free", ["--sampler", "ancestral", "--variance", "beta"], 3),
    "negative": ("negative", ["--negative", "1", "--start-step", "0,2,6"], 3),
    "interval": ("classifier-free", ["--w", "1,3", "--start-step", "2", "--class", "0"], 2),
    "window": ("negative", ["--negative", "ant,bee", "--class", "2", "--stop-step", "3"], 2),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_guidance_draws_its_rows(weights, tmp_path, capsys, name):
    kind, flags, rows = COMMANDS[name]
    out = tmp_path / "deep" / "picture.png"
    assert guided(kind, weights, out, *flags, "--gif") == 0
    printed = capsys.readouterr().out
    assert f"{out}: {rows} rows of 4 images in" in printed
    assert str(out.with_suffix(".gif")) in printed
    with Image.open(out) as picture:
        assert picture.format == "PNG" and min(picture.size) > 100
    with Image.open(out.with_suffix(".gif")) as gif:
        assert gif.n_frames == 6
        width, height = (2 * 4 + 1) * 9 + 1, rows * 9 + 1  # x_t, a gap, x̂_0
        assert gif.width * height == gif.height * width


def test_the_same_seed_draws_the_same_bytes(weights, tmp_path):
    flags = ["--negative", "1", "--sampler", "ancestral", "--class", "0"]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert guided("negative", weights, tmp_path / f"{name}.png", *flags, "--seed", seed) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def final(weights, guide, sampler, c=1, seed=0):
    models = load_models(weights, classifier=True)
    return draw(models, guide, torch.full((4,), c), seed, sampler=sampler)


S, T = 6, 100
DDIM, ANCESTRAL = partial(ddim, steps=S), partial(ancestral, steps=S, variance="posterior")
NOISY = partial(ddim, steps=S, eta=0.7)


def interval(start_step=0, stop_step=None):
    return dict(zip(("start", "stop"), window(T, S, start_step, stop_step), strict=True))


def negative(w=2.0, start_step=0, stop_step=None, c=2):
    return guides.negative(c, w, **interval(start_step, stop_step))


@pytest.mark.parametrize("sampler", [DDIM, ANCESTRAL, NOISY])
def test_guides_share_their_noise(weights, sampler):
    """What a guide leaves as it is stays so, bit for bit: w = 0 is none, a late start is CFG."""
    plain = final(weights, guides.none(), sampler)
    assert torch.equal(plain, final(weights, guides.none(), sampler))
    assert torch.equal(final(weights, guides.classifier_free(0.0), sampler), plain)
    for scale in (0.0, 2.0):
        guided = final(weights, guides.classifier(scale, conditional=True), sampler)
        assert torch.equal(guided, plain) == (scale == 0)
    free = final(weights, guides.classifier_free(2.0), sampler)
    for start, same in ((S, True), (0, False), (S // 2, False)):
        late = final(weights, negative(start_step=start), sampler)
        assert torch.equal(late, free) == same
    null = final(weights, guides.classifier(0.0), sampler)
    assert torch.equal(null, final(weights, guides.none(), sampler, c=3))  # it guides ε(∅)


def test_an_interval_reaches_classifier_free_guidance(weights):
    plain = final(weights, guides.none(), DDIM)
    always = final(weights, guides.classifier_free(2.0), DDIM)
    for start, stop, same in ((S, S, plain), (0, 0, plain), (0, S, always), (1, S - 1, None)):
        guide = guides.classifier_free(2.0, **interval(start, stop))
        x = final(weights, guide, DDIM)
        assert torch.equal(x, plain) == (same is plain)
        assert torch.equal(x, always) == (same is always)


def test_the_stop_step_reaches_the_guidance(weights):
    free = final(weights, guides.classifier_free(2.0), DDIM)
    always = final(weights, guides.negative(2, 2.0), DDIM)
    for stop, same in ((0, free), (S, always), (S // 2, None)):
        x = final(weights, negative(stop_step=stop), DDIM)
        assert torch.equal(x, free) == (same is free)
        assert torch.equal(x, always) == (same is always)


def test_models_are_where_and_what_was_asked_for(weights):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    one = load_models(weights, device="meta")
    two = load_models(weights, device="meta", classifier=True)
    assert one.classifier is None and next(two.classifier.parameters()).is_meta
    assert one.info["data"] == "digits" and one.classes == ["ant", "bee", "cat"]
    c = torch.ones(4, dtype=torch.int64, device="meta")
    x_T = one.noise(4, torch.Generator().manual_seed(0))
    assert next(ddim(one.schedule, guides.none()(one, c), x_T, 2)).x.is_meta


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_samples_of_many_classes_are_each_classs_own(weights, batch_size):
    """In the order of the labels, from the noise that one class alone would start from, however
    many at once."""
    models, c = load_models(weights), torch.tensor([2, 0, 1, 1, 3, 0])
    free, sampler = guides.classifier_free(1.5), partial(ddim, steps=4)
    x = draw(models, free, c, 3, sampler=sampler, batch_size=batch_size)
    assert x.shape == (6, 1, 8, 8) and x.dtype == torch.float32
    x_T = models.noise(6, torch.Generator().manual_seed(3))
    for k in range(4):
        *_, last = ddim(models.schedule, free(models, torch.full((6,), k)), x_T, 4)
        assert_close(x[c == k], last.x[c == k], rtol=0, atol=1e-4)
    again = draw(models, free, c, 4, sampler=sampler)
    assert not torch.allclose(again, x, atol=1e-2)


def test_a_class_for_each_image_reaches_every_guide(weights):
    """Labels of a mixed batch, positive or negative, do what they do alone."""
    models, mixed = load_models(weights, classifier=True), torch.tensor([0, 1, 2])
    alone = lambda guide, k: draw(models, guide, torch.full((3,), k), 0, sampler=DDIM)  # noqa: E731
    for guide in (
        guides.classifier(2.0),
        guides.classifier(2.0, conditional=True),
        guides.negative(2, 2.0),
        guides.none(),
    ):
        x = draw(models, guide, mixed, 0, sampler=DDIM)
        for k in range(3):
            assert_close(x[k], alone(guide, k)[k], rtol=0, atol=1e-4)
    for guide in (partial(guides.negative, w=2.0), guides.posterior_negative):
        x = alone(guide(mixed), 3)
        for k in range(3):
            assert_close(x[k], alone(guide(k), 3)[k], rtol=0, atol=1e-4)
        assert not torch.allclose(x[0], alone(guide(1), 3)[0], atol=1e-3)


def test_eta_and_variance_reach_the_sampler(weights):
    samplers = (DDIM, NOISY, ANCESTRAL, partial(ancestral, steps=S, variance="beta"))
    outcomes = [final(weights, guides.none(), sampler, c=0) for sampler in samplers]
    for k, one in enumerate(outcomes):
        assert not any(torch.equal(one, other) for other in outcomes[k + 1 :])


def test_a_class_is_called_by_its_name_although_that_is_a_number(weights):
    """Folders may be called 1, 2, 3: `--class 1` is the picture of 1. 0 is no name, so a number."""
    models = load_models(weights)._replace(classes=["1", "2", "3"])
    flags = Negative(weights="", negative="3,0", positive="1,2,0,null")
    rows, _ = rows_of("negative", flags, models)
    assert [row.positive for row in rows] == [0, 0, 1, 1, 0, 0, 3, 3]
    assert [row.label for row in rows[:4]] == ["1, −3", "1, −1", "2, −3", "2, −1"]


def test_a_guide_that_needs_a_classifier_says_so(weights):
    models, c = load_models(weights), torch.tensor([0])
    for guide in (guides.classifier(1.0), guides.posterior_negative(1)):
        with pytest.raises(ValueError, match="needs a classifier"):
            draw(models, guide, c, 0)


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("none", "--class 4", "--class must be among ant, bee, cat, or a number in 0..3 (3 is ∅)"),
        ("none", "--class dog", "--class must be among ant, bee, cat"),
        ("none", "--class -1", "--class must be among ant, bee, cat"),
        ("none", "--w 3", "unrecognized arguments: --w 3"),
        ("none", "--steps 0", "--steps must be at least 1, got 0"),
        ("negative", "--negative 1 --steps -5", "--steps must be at least 1, got -5"),
        ("none", "--steps 101", "--steps must lie in 1..100 (T), got 101"),
        ("none", "--n 0", "--n must be in 1..1000, got 0"),
        ("none", "--seed -1", "--seed must be in 0..9223372036854775806, got -1"),
        ("none", "--eta nan", "--eta must be a finite number"),
        ("none", "--eta 99", "eta must keep σ_t²"),
        ("none", "--eta 1 --sampler ancestral", "--eta needs --sampler ddim"),
        ("none", "--eta 1 --sampler dpm-solver", "--eta needs --sampler ddim"),
        ("none", "--sampler euler", "argument --sampler: invalid choice: 'euler'"),
        ("none", "--device tpu9", "device tpu9 can't be used here"),
        ("none", "--out picture.jpg", "--out must end in .png, got picture.jpg"),
        ("classifier", "--class null", "--class must name a class for classifier guidance, got ∅"),
        ("classifier", "--scale nan", "--scale must be a finite number"),
        ("classifier", "--scale x", "argument --scale: must be numbers with commas between"),
        ("classifier", "--mean-shift", "--mean-shift needs --sampler ancestral"),
        ("classifier-free", "--w inf", "--w must be a finite number"),
        ("classifier-free", "--w 1,,2", "argument --w: must be numbers with commas between"),
        ("negative", "", "the following arguments are required: --negative"),
        ("classifier-free", "--start-step 7", "start_step must lie in 0..6"),
        ("classifier-free", "--w -1,0,x", "--w: must be numbers with commas between, got '-1,0,x'"),
        ("classifier-free", "--w=", "--w must be a list of one value at least"),
        ("none", "--batch-size 0", "--batch-size must be at least 1, got 0"),
        ("negative", "--negative 9", "--negative must be among"),
        ("negative", "--negative 1 --start-step 7", "start_step must lie in 0..6"),
        ("negative", "--negative 1 --start-step x", "argument --start-step: must be integers"),
        ("negative", "--negative 1 --stop-step 7", "stop_step must lie in 0..6"),
        (
            "negative",
            "--negative 1 --start-step 4 --stop-step 3",
            "start_step must not come after stop_step",
        ),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(weights, tmp_path, capsys, kind, flags, message):
    out = tmp_path / "picture.png"
    try:
        code = guided(kind, weights, out, *flags.split())
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error, error
    assert error.strip().count("\n") == 0 and error.startswith("python -m guidance")
    assert not out.exists()


def broken(weights, tmp_path, **changes):
    """A copy of the weights with the classifier's info or architecture changed."""
    models = load_models(weights, classifier=True)
    save(tmp_path / "unet.safetensors", models.unet, INFO)
    shape = {k: v for k, v in changes.items() if k in ("size", "channels", "attention")}
    info = {k: v for k, v in changes.items() if k not in shape}
    classifier = perturbed(NoisyClassifier, **shape)
    save(tmp_path / "classifier.safetensors", classifier, {**INFO, **info})
    return tmp_path


def test_a_directory_without_what_is_needed(weights, tmp_path, capsys):
    out = tmp_path / "picture.png"
    assert guided("none", tmp_path / "nowhere", out) == 2
    assert "no unet.safetensors in the directory" in capsys.readouterr().err
    (tmp_path / "unet.safetensors").write_bytes((weights / "unet.safetensors").read_bytes())
    assert guided("none", tmp_path, out) == 0
    assert guided("classifier", tmp_path, out) == 2
    error = capsys.readouterr().err
    assert "no classifier.safetensors" in error and "python -m train --preset digits" in error
    (tmp_path / "unet.safetensors").write_bytes((weights / "classifier.safetensors").read_bytes())
    assert guided("none", tmp_path, out) == 2
    assert "holds a NoisyClassifier, not a UNet" in capsys.readouterr().err


def test_a_run_without_a_classifier_can_get_one(weights, tmp_path, capsys):
    """By the flag that it was left out with, in half of the steps of ε_θ."""
    unet, info = load(weights / "unet.safetensors")
    run = {**info, "config": {"classifier_steps": 0, "judge_steps": 5}, "steps": 9}
    save(tmp_path / "unet.safetensors", unet, run)
    (tmp_path / "config.json").write_text("{}")
    assert guided("classifier", tmp_path, tmp_path / "picture.png") == 2
    advice = f"`python -m train --out {tmp_path} --resume --classifier-steps 4` makes one"
    assert advice in capsys.readouterr().err


PRESETS = next(f for f in fields(Config) if f.name == "preset").metadata["choices"]


@pytest.mark.parametrize(
    ("data", "preset"), [*zip(PRESETS, PRESETS, strict=True), (None, "digits"), ("x; y", "digits")]
)
def test_a_missing_classifier_is_named_with_the_preset_that_trains_it(tmp_path, data, preset):
    info = {key: value for key, value in {**INFO, "data": data}.items() if value is not None}
    save(tmp_path / "unet.safetensors", perturbed(UNet), info)
    with pytest.raises(FileNotFoundError, match=f"`python -m train --preset {preset}`"):
        load_models(tmp_path, classifier=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": cosine_schedule(100).info}, "was trained with another schedule"),
        ({"classes": ["a", "b", "c"]}, "was trained with another classes than"),
        ({"size": 16, "attention": (8,)}, "takes images of size 16, the U-Net of 8"),
        ({"channels": 3}, "takes images of channels 3, the U-Net of 1"),
    ],
)
def test_a_classifier_that_does_not_fit_the_network(weights, tmp_path, capsys, changes, message):
    assert guided("classifier", broken(weights, tmp_path, **changes), tmp_path / "p.png") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"data": "digits"}, "does not say its schedule and classes"),
        ({"schedule": INFO["schedule"]}, "does not say its schedule and classes"),
        ({**INFO, "classes": ["a"]}, "names 1 classes for K = 3"),
        ({**INFO, "schedule": {"name": "sine"}}, "info['name'] must be one of"),
    ],
)
def test_weights_that_do_not_say_enough(tmp_path, capsys, info, message):
    save(tmp_path / "unet.safetensors", perturbed(UNet), info)
    assert guided("none", tmp_path, tmp_path / "p.png") == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_is_one_line_and_exit_code_130(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert run("python -m guidance", interrupted) == 130
    assert capsys.readouterr() == ("", "python -m guidance: interrupted\n")


@pytest.mark.parametrize("command", ["guidance", "train", "train.evaluate"])
def test_help_from_the_shell(command):
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: python -m {command}")


def test_help_does_not_wait_for_torch():
    code = "import sys, guidance.__main__ as m; m.parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_every_public_name_is_there():
    assert [getattr(guidance, name).__name__ for name in guidance.__all__] == guidance.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        guidance.nothing  # noqa: B018


def test_neighbouring_seeds_share_no_noise(weights):
    """The sampler's first noise under one seed is not the x_T of the next."""
    models = load_models(weights)
    drawn = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        drawn += [models.noise(4, generator).flatten() for _ in range(6)]
    for k, one in enumerate(drawn):
        for other in drawn[k + 1 :]:
            assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 5 / len(one) ** 0.5
    assert not torch.equal(*(final(weights, guides.none(), ANCESTRAL, seed=s) for s in (0, 1)))


def test_a_long_process_makes_a_short_gif(weights, tmp_path):
    out = tmp_path / "p.png"
    assert guided("none", weights, out, "--steps", "100", "--class", "0", "--gif") == 0
    models = load_models(weights)
    x_T = models.noise(2, torch.Generator().manual_seed(0))
    steps = list(ddim(models.schedule, models.unet, x_T, 99))
    save_gif(tmp_path / "odd.gif", [*steps, *steps, *steps], 1)
    for name, frames in (("p.gif", 100), ("odd.gif", 99)):
        with Image.open(tmp_path / name) as gif:
            assert gif.n_frames == frames
