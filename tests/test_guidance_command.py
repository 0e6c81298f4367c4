"""`python -m guidance`: from a weights directory to a labelled picture."""

import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import guidance
from ddpm import cosine_schedule, linear_schedule
from guidance.__main__ import main
from guidance.command import run
from guidance.models import load_models
from guidance.pictures import save_gif
from guidance.sampling import Request, Sampler, draw, sample
from unet import NoisyClassifier, UNet, save

TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "classes": 3}
INFO = {"schedule": linear_schedule(100).info, "data": "digits", "classes": ["ant", "bee", "cat"]}
INFO["schedule"]["beta_T"] = 0.2


def perturbed(kind, **kwargs):
    torch.manual_seed(0)
    model = kind(**{**TINY, **kwargs})
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    save(path / "unet.safetensors", perturbed(UNet), INFO)
    save(path / "classifier.safetensors", perturbed(NoisyClassifier), INFO)
    return path


def guide(kind, weights, out, *flags):
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
    "window": ("negative", ["--negative", "ant,bee", "--class", "2", "--stop-step", "3"], 2),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_guidance_draws_its_rows(weights, tmp_path, capsys, name):
    kind, flags, rows = COMMANDS[name]
    out = tmp_path / "deep" / "picture.png"
    assert guide(kind, weights, out, *flags, "--gif") == 0
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
        assert guide("negative", weights, tmp_path / f"{name}.png", *flags, "--seed", seed) == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def start(models, n, seed):
    generator = torch.Generator().manual_seed(seed)
    return models.noise(n, generator), generator


def final(weights, request, sampler, seed=0):
    models = load_models(weights, classifier=True)
    *_, last = sample(models, request, sampler, *start(models, 4, seed))
    return last.x


@pytest.mark.parametrize("sampler", [Sampler(steps=6), Sampler("ancestral", 6), Sampler(eta=0.7)])
def test_rows_share_their_noise(weights, sampler):
    """What a flag leaves as it is stays so, bit for bit: w = 0 is none, a late start is CFG."""
    S = sampler.steps
    plain = final(weights, Request("none", 1), sampler)
    assert torch.equal(plain, final(weights, Request("none", 1), sampler))
    assert torch.equal(final(weights, Request("classifier-free", 1, w=0.0), sampler), plain)
    for scale in (0.0, 2.0):
        guided = final(weights, Request("classifier", 1, scale=scale, conditional=True), sampler)
        assert torch.equal(guided, plain) == (scale == 0)
    free = final(weights, Request("classifier-free", 1, w=2.0), sampler)
    for start, same in ((S, True), (0, False), (S // 2, False)):
        late = final(weights, Request("negative", 1, 2, w=2.0, start_step=start), sampler)
        assert torch.equal(late, free) == same
    null = final(weights, Request("classifier", 1, scale=0.0), sampler)
    assert torch.equal(null, final(weights, Request("none", 3), sampler))  # it guides ε(∅)


def test_the_stop_step_reaches_the_guidance(weights):
    sampler, S = Sampler(steps=6), 6
    free = final(weights, Request("classifier-free", 1, w=2.0), sampler)
    always = final(weights, Request("negative", 1, 2, w=2.0), sampler)
    for stop, same in ((0, free), (S, always), (S // 2, None)):
        x = final(weights, Request("negative", 1, 2, w=2.0, stop_step=stop), sampler)
        assert torch.equal(x, free) == (same is free)
        assert torch.equal(x, always) == (same is always)


def test_models_are_where_and_what_was_asked_for(weights):
    """meta stands for an accelerator: tensors without values, which refuse to meet the CPU's."""
    one = load_models(weights, device="meta")
    two = load_models(weights, device="meta", classifier=True)
    assert one.classifier is None and next(two.classifier.parameters()).is_meta
    assert one.info["data"] == "digits" and one.classes == ["ant", "bee", "cat"]
    assert next(sample(one, Request("none", 1), Sampler(steps=2), *start(one, 4, 0))).x.is_meta


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_samples_of_many_classes_are_each_classs_own(weights, batch_size):
    """In the order of the labels, from the noise that one class alone would start from, however
    many at once. An ancestral sampler's noise depends on the batch; x_T does not."""
    models, sampler, c = load_models(weights), Sampler(steps=4), torch.tensor([2, 0, 1, 1, 3, 0])
    x = draw(models, Request("classifier-free", 0, w=1.5), sampler, c, 3, batch_size=batch_size)
    assert x.shape == (6, 1, 8, 8) and x.dtype == torch.float32
    for k in range(4):
        request = Request("classifier-free", k, w=1.5)
        *_, last = sample(models, request, sampler, *start(models, 6, 3))
        assert_close(x[c == k], last.x[c == k], rtol=0, atol=1e-4)
    again = draw(models, Request("classifier-free", 0, w=1.5), sampler, c, 4)
    assert not torch.allclose(again, x, atol=1e-2)


def test_a_class_for_each_image_reaches_every_guidance(weights):
    """Labels of a mixed batch, positive or negative, do what they do alone."""
    models = load_models(weights, classifier=True)
    sampler, mixed = Sampler(steps=4), torch.tensor([0, 1, 2])
    for request in (
        Request("classifier", 0, scale=2.0),
        Request("classifier", 0, scale=2.0, conditional=True),
        Request("negative", 0, 2, w=2.0),
        Request("none", 0),
    ):
        x = draw(models, request, sampler, mixed, 0)
        for k in range(3):
            alone = draw(models, request, sampler, torch.full((3,), k), 0)
            assert_close(x[k], alone[k], rtol=0, atol=1e-4)
    for kind in ("negative", "posterior-negative"):
        x_T, _ = start(models, 3, 0)
        *_, last = sample(models, Request(kind, 3, mixed, w=2.0, scale=1.0), sampler, x_T)
        for k in range(3):
            *_, alone = sample(models, Request(kind, 3, k, w=2.0, scale=1.0), sampler, x_T)
            assert_close(last.x[k], alone.x[k], rtol=0, atol=1e-4)
        assert not torch.allclose(last.x[0], alone.x[0], atol=1e-3)


def test_mean_shift_is_another_algorithm(weights):
    sampler = Sampler("ancestral", 6)
    by_eq_14, by_shift, off = (
        final(weights, Request("classifier", 1, scale=s, mean_shift=m), sampler)
        for s, m in ((2.0, False), (2.0, True), (0.0, True))
    )
    assert not torch.equal(by_eq_14, by_shift) and not torch.equal(by_shift, off)
    assert torch.equal(off, final(weights, Request("none", 3), sampler))


def test_eta_and_variance_reach_the_sampler(weights):
    request = Request("none", 0)
    outcomes = [
        final(weights, request, s)
        for s in (
            Sampler(steps=6),
            Sampler(steps=6, eta=0.5),
            Sampler("ancestral", 6),
            Sampler("ancestral", 6, variance="beta"),
        )
    ]
    for k, one in enumerate(outcomes):
        assert not any(torch.equal(one, other) for other in outcomes[k + 1 :])


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("none", "--class 4", "--class must be among ant, bee, cat, or a number in 0..3 (3 is ∅)"),
        ("none", "--class dog", "--class must be among ant, bee, cat"),
        ("none", "--class -1", "--class must be among ant, bee, cat"),
        ("none", "--w 3", "unrecognized arguments: --w 3"),
        ("none", "--steps 0", "steps must be an integer in 1..100 (T), got 0"),
        ("negative", "--negative 1 --steps -5", "steps must be an integer in 1..100"),
        ("none", "--steps 101", "steps must be an integer in 1..100 (T), got 101"),
        ("none", "--n 0", "--n must be at least 1, got 0"),
        ("none", "--seed -1", "--seed must lie in 0..2^63−2, got -1"),
        ("none", "--eta nan", "eta must be a number"),
        ("none", "--eta 99", "eta must be a number"),
        ("none", "--eta 1 --sampler ancestral", "--eta needs --sampler ddim"),
        ("none", "--sampler euler", "argument --sampler: invalid choice: 'euler'"),
        ("none", "--device tpu9", "--device tpu9"),
        ("none", "--out picture.jpg", "--out must end in .png, got picture.jpg"),
        ("classifier", "--class null", "--class must name a class for classifier guidance, got ∅"),
        ("classifier", "--scale nan", "scale must be a finite number"),
        ("classifier", "--scale x", "argument --scale: must be numbers with commas between"),
        ("classifier", "--mean-shift", "--mean-shift needs --sampler ancestral"),
        ("classifier-free", "--w inf", "w must be a finite number"),
        ("classifier-free", "--w 1,,2", "argument --w: must be numbers with commas between"),
        ("negative", "", "the following arguments are required: --negative"),
        ("negative", "--negative 9", "--negative must be among"),
        ("negative", "--negative 1 --start-step 7", "--start-step must lie in 0..6"),
        ("negative", "--negative 1 --start-step x", "argument --start-step: must be integers"),
        ("negative", "--negative 1 --stop-step 7", "--stop-step must lie in 0..6"),
        (
            "negative",
            "--negative 1 --start-step 4 --stop-step 3",
            "--start-step must not come after --stop-step",
        ),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(weights, tmp_path, capsys, kind, flags, message):
    out = tmp_path / "picture.png"
    try:
        code = guide(kind, weights, out, *flags.split())
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
    assert guide("none", tmp_path / "nowhere", out) == 2
    assert "no unet.safetensors in --weights" in capsys.readouterr().err
    (tmp_path / "unet.safetensors").write_bytes((weights / "unet.safetensors").read_bytes())
    assert guide("none", tmp_path, out) == 0
    assert guide("classifier", tmp_path, out) == 2
    error = capsys.readouterr().err
    assert "no classifier.safetensors" in error and "python -m train --preset digits" in error
    (tmp_path / "unet.safetensors").write_bytes((weights / "classifier.safetensors").read_bytes())
    assert guide("none", tmp_path, out) == 2
    assert "holds a NoisyClassifier, not a UNet" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "preset"), [("mnist", "mnist"), (None, "digits")])
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
    assert guide("classifier", broken(weights, tmp_path, **changes), tmp_path / "p.png") == 2
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
    assert guide("none", tmp_path, tmp_path / "p.png") == 2
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
    sampler, request = Sampler("ancestral", 6, variance="beta"), Request("none", 0)
    models = load_models(weights)
    drawn = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        drawn += [models.noise(4, generator).flatten() for _ in range(6)]
    for k, one in enumerate(drawn):
        for other in drawn[k + 1 :]:
            assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 5 / len(one) ** 0.5
    assert not torch.equal(*(final(weights, request, sampler, seed) for seed in (0, 1)))


def test_a_long_process_makes_a_short_gif(weights, tmp_path):
    out = tmp_path / "p.png"
    assert guide("none", weights, out, "--steps", "100", "--class", "0", "--gif") == 0
    models = load_models(weights)
    steps = list(sample(models, Request("none", 0), Sampler(steps=99), *start(models, 2, 0)))
    save_gif(tmp_path / "odd.gif", [*steps, *steps, *steps], 1)
    for name, frames in (("p.gif", 100), ("odd.gif", 99)):
        with Image.open(tmp_path / name) as gif:
            assert gif.n_frames == frames


def test_too_little_memory_is_one_line(capsys):
    def command():
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    assert run("python -m x", command) == 2
    error = capsys.readouterr().err
    assert error == "python -m x: error: out of memory; fewer images at once may do\n"
    with pytest.raises(RuntimeError, match="mat1 and mat2"):  # ours, and to be seen
        run("python -m x", lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))
