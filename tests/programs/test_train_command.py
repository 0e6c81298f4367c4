"""`python -m train` as a user types it: what it writes and says, resumed and refused."""

import dataclasses
import json
import re
import shutil
import signal
from statistics import mean
from unittest.mock import MagicMock

import pytest
import torch
from helpers import FLAGS, at_call, ctrl_c, files, log, losses, main, rate, train
from safetensors.torch import load_file

from ddpm import Schedule, cosine_schedule, ddim
from guidance import classifier_free_guidance
from train.config import PRESETS, Config, from_flags, parser, preset
from train.data import load_data
from train.objectives import new_networks, phases, unet_loss
from train.outcome import show
from train.training import Training
from unet import load
from unet.device import choose_device


def test_a_run_leaves_everything_behind(finished):
    names = files(finished)
    assert names == {
        ".lock",
        "config.json",
        "log.jsonl",
        "unet.state",
        "unet.state.previous",
        "classifier.state",
        "judge.state",
        "unet.safetensors",
        "unet-raw.safetensors",
        "classifier.safetensors",
        "judge.safetensors",
        "loss.png",
        "samples.png",
        "accuracy.png",
        "guidance.png",
        "reverse.gif",
        "samples/step-000005.png",
        "samples/step-000010.png",
    }
    for name in names:
        content = (finished / name).read_bytes()
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG") and len(content) > 1000
    _, info = load(finished / "unet.safetensors")
    assert info["data"] == "digits" and info["levels"] == 17
    assert info["classes"] == [str(k) for k in range(10)]
    assert info["schedule"] == {"name": "cosine", "T": 60, "s": 0.008}
    assert info["config"]["steps"] == 12
    lines = log(finished)
    assert [e["step"] for e in lines if e["phase"] == "unet"] == [3, 6, 9, 12]
    assert [e["step"] for e in lines if e["phase"] == "classifier" and "loss" in e] == [3, 4]
    assert [e["step"] for e in lines if e["phase"] == "judge" and "loss" in e] == [3, 5]
    (accuracy,) = (e["accuracy over t"] for e in lines if "accuracy over t" in e)
    assert next(iter(accuracy)) == "0" and list(accuracy)[-1] == "60"


def test_a_run_is_its_steps_and_nothing_else(finished):
    """Taken again one by one, from the seed: files and states bit for bit, and the log."""
    config = Config(**json.loads((finished / "config.json").read_text()))
    for name, value in zip(FLAGS[::2], FLAGS[1::2], strict=True):
        assert str(getattr(config, name[2:].replace("-", "_"))) == value
    data, schedule = load_data("digits", ""), cosine_schedule(60)
    networks = new_networks(config, data)
    for name, network, loss, steps in phases(*networks, config, data, schedule):
        training = Training(network, config, torch.device("cpu"), steps)
        values = [float(training.update(loss, data)) for _ in range(steps)]

        averaged, raw = training.averaged.state_dict(), training.model.state_dict()
        assert not same(averaged, raw)
        state = torch.load(finished / f"{name}.state", weights_only=True)
        assert same(state["averaged"], averaged) and same(state["model"], raw)
        assert same(load_file(finished / f"{name}.safetensors"), averaged)
        if name == "unet":
            assert same(load_file(finished / "unet-raw.safetensors"), raw)

        before = 0
        for entry in [e for e in log(finished) if e["phase"] == name and "loss" in e]:
            step = entry["step"]
            assert entry["loss"] == pytest.approx(mean(values[before:step]), rel=1e-6)
            assert entry["lr"] == pytest.approx(rate(step, steps, 2e-3), rel=1e-12)
            before = step
        assert before == steps


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in two)


def test_the_number_is_printed_as_promised(finished):
    out = (finished.parent / "said").read_text()
    pattern = (
        r"^class accuracy at w = 1: ([01]\.\d{3}) "
        r"\(500 samples; the judge on real test images: ([01]\.\d{3})\)$"
    )
    shares = re.search(pattern, out, re.MULTILINE)
    assert shares, out
    *_, entry = log(finished)
    assert (float(shares[1]), entry["w"]) == (round(entry["class accuracy"], 3), 1)
    judge, _ = load(finished / "judge.safetensors")
    data = load_data("digits", "")
    said = judge(data.scale(data.test_images)).argmax(1)
    assert float(shares[2]) == round(float((said == data.test_labels).float().mean()), 3)
    for name in ("unet.safetensors", "samples.png", "reverse.gif", "loss.png", "guidance.png"):
        assert str(finished / name) in out


def test_the_class_accuracy_is_that_of_guided_samples(tmp_path, monkeypatch, capsys):
    """With the shipped digits: 50 of each class from the noise of seed 1, w = 1, by the library."""
    for name in ("unet", "judge"):
        shutil.copy(f"weights/digits/{name}.safetensors", tmp_path)
    monkeypatch.setattr("train.outcome.report", MagicMock())  # the pictures are not the question
    changes = {"sampling_steps": 2, "classifier_steps": 0, "precision": "float32"}
    config = dataclasses.replace(preset("digits"), **changes)
    show(tmp_path, config, load_data("digits", ""))
    shown = re.search(r"^class accuracy at w = 1: (\S+) ", capsys.readouterr().out, re.MULTILINE)
    (entry,) = log(tmp_path)
    unet, info = load(tmp_path / "unet.safetensors")
    judge, _ = load(tmp_path / "judge.safetensors")
    c = torch.tensor([k for k in range(10) for _ in range(50)])
    x_T = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    schedule, right = Schedule.from_info(info["schedule"]), {}
    for w in (0, 1):
        *_, last = ddim(schedule, classifier_free_guidance(unet, c, w, null=10), x_T, 2)
        with torch.no_grad():
            right[w] = int((judge(last.x).argmax(1) == c).sum())
    assert right[0] + 5 < right[1]
    assert abs(round(500 * entry["class accuracy"]) - right[1]) <= 1  # a rounding may turn one
    assert shown[1] == f"{entry['class accuracy']:.3f}"
    data, real = load_data("digits", ""), {}
    for part, images, labels in (("test", data.test_images, data.test_labels),
                                 ("training", data.images, data.labels)):  # fmt: skip
        said = judge(data.scale(images)).argmax(1)
        real[part] = float((said == labels).double().mean())
    assert entry["on real images"] == pytest.approx(real["test"], abs=1e-6)
    assert abs(real["test"] - real["training"]) > 1e-3  # so they could be told apart


def test_another_seed_is_another_run(finished, tmp_path):
    flags = ("--seed", 1, "--classifier-steps", 0, "--judge-steps", 0)
    assert train("--out", tmp_path / "r", *flags) == 0
    one, two = (load_file(p / "unet.safetensors") for p in (finished, tmp_path / "r"))
    assert not torch.equal(one["out.weight"], two["out.weight"])
    for name in ("classifier", "judge"):
        assert not (tmp_path / "r" / f"{name}.safetensors").exists()


def test_a_run_is_not_overwritten_by_accident(finished, capsys):
    before = (finished / "unet.safetensors").read_bytes()
    assert train("--out", finished) == 2
    error = capsys.readouterr().err
    assert "holds another run; --resume goes on, --overwrite replaces" in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert (finished / "unet.safetensors").read_bytes() == before


@pytest.mark.parametrize("stop", [1, 7, 10, 12])
def test_an_interrupted_run_ends_where_the_whole_one_does(
    finished, tmp_path, capsys, monkeypatch, stop
):
    """Bit for bit: weights, averages, optimiser, schedule, generators and the running loss.

    Whether pictures are drawn or not; and those of one are compared as well.
    """
    handler = signal.getsignal(signal.SIGINT)
    out = tmp_path / "r"
    with monkeypatch.context() as patch:
        patch.setattr("train.objectives.unet_loss", lambda *a: at_call(stop, ctrl_c, unet_loss(*a)))
        assert train("--out", out) == 130
    error = capsys.readouterr().err
    assert f"python -m train --preset digits --out {out} --resume" in error
    assert main(["--out", str(out), "--resume"], shown=stop == 7) == 0
    names = ["unet.safetensors", "unet-raw.safetensors", "classifier.safetensors"]
    for name in names + ["samples.png", "guidance.png", "reverse.gif"] * (stop == 7):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name

    assert losses(out) == losses(finished)
    assert signal.getsignal(signal.SIGINT) is handler  # put back


def test_resume_keeps_the_configuration(finished, tmp_path, capsys):
    assert main(["--out", str(finished), "--resume", "--width", "16"]) == 2
    assert "--width can't change on --resume: the run has 8, got 16" in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "none"), "--resume"]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert main(["--out", str(finished), "--resume", "--overwrite"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    for broken in ("{", "[1]", "7", '{"T": 0}', '{"preset": "digits", "x": 1}', '{"preset": "x"}'):
        (tmp_path / "config.json").write_text(broken)
        assert main(["--out", str(tmp_path), "--resume"]) == 2
        assert "can't be read" in capsys.readouterr().err


def test_a_broken_state_is_named(finished, tmp_path, capsys):
    (tmp_path / "config.json").write_text((finished / "config.json").read_text())
    state = (finished / "unet.state").read_bytes()
    for broken in (b"", state[:1000], b"not a state"):
        (tmp_path / "unet.state").write_bytes(broken)
        assert main(["--out", str(tmp_path), "--resume"]) == 2
        error = capsys.readouterr().err
        assert "unet.state can't be taken up" in error and "Traceback" not in error


def test_what_may_change_is_checked_against_the_run(finished, capsys):
    assert main(["--out", str(finished), "--resume", "--sampling-steps", "500"]) == 2
    assert "--sampling-steps must be at most T = 60, got 500" in capsys.readouterr().err


def test_overwriting_leaves_nothing_of_the_old_run(finished, tmp_path):
    out = tmp_path / "r"
    shutil.copytree(finished, out)
    (out / "notes.txt").write_text("mine")
    for name in ("pictures.json", "unet.state.previous", "a.partial-x", "samples/step-9.png"):
        (out / name).write_text("of a run on a folder, that had drawn samples and was killed")
    flags = ("--classifier-steps", 0, "--judge-steps", 0, "--steps", 4)
    assert train("--out", out, "--overwrite", *flags, shown=True) == 0
    assert files(out) == {
        ".lock",
        "config.json",
        "log.jsonl",
        "unet.state",
        "unet.safetensors",
        "unet-raw.safetensors",
        "loss.png",
        "samples.png",
        "reverse.gif",
        "notes.txt",
    }


def test_a_state_from_another_device_goes_on_with_new_random_numbers(finished, tmp_path, capsys):
    out = tmp_path / "r"
    shutil.copytree(finished, out)
    state = torch.load(out / "unet.state", weights_only=True)
    state |= {"device": "cuda", "step": 9, "generator": torch.zeros(16, dtype=torch.uint8)}
    torch.save(state, out / "unet.state")
    assert main(["--out", str(out), "--resume"]) == 0
    assert "was saved on cuda: on cpu the run goes on with new random numbers" in (
        capsys.readouterr().err
    )


# -- flags -----------------------------------------------------------------------------------------


def test_every_field_is_a_flag_with_a_help_text(capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')} " in text
        assert field.metadata["text"].split()[0] in text
    assert "--resume" in text and "--overwrite" in text
    text = " ".join(text.split())
    # of each preset
    assert "training steps of ε_θ (default: 1200 | 12000 | 100000 | 10000)" in text
    assert "number of noise levels (default: 1000)" in text
    assert "the settings that fit it (default: digits)" in text


def test_flags_change_a_preset():
    given = parser().parse_args(["--preset", "mnist", "--multipliers", "1,2", "--lr", "1e-3"])
    config = from_flags(vars(given))
    assert config == dataclasses.replace(PRESETS["mnist"], multipliers=(1, 2), lr=1e-3)
    assert config.run == "runs/mnist"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--preset imagenet", "invalid choice: 'imagenet'"),
        ("--nonsense 3", "unrecognized arguments: --nonsense"),
        ("--step 3", "unrecognized arguments: --step"),
        ("--steps many", "argument --steps: invalid int value"),
        ("--multipliers 1,x", "argument --multipliers: must be integers"),
        ("--steps 0", "--steps must be in 1..1000000000, got 0"),
        ("--T 0", "--T must be in 1..1000000000, got 0"),
        ("--T 400 --schedule linear", "--T 400 with --schedule linear leaves √ᾱ_T = 0.13"),
        ("--batch-size -1", "--batch-size must be in 1..65536, got -1"),
        ("--classifier-steps -1", "--classifier-steps must be in 0..1000000000, got -1"),
        ("--judge-steps -1", "--judge-steps must be in 0..1000000000, got -1"),
        ("--judge-width 0", "--judge-width must be in 1..4096, got 0"),
        ("--seed -1", "--seed must be in 0..9223372036854775807, got -1"),
        (
            "--seed 9223372036854775808",
            "--seed must be in 0..9223372036854775807, got 9223372036854775808",
        ),
        ("--sampling-steps 1001", "--sampling-steps must be at most T = 1000"),
        ("--schedule sine", "argument --schedule: invalid choice: 'sine'"),
        ("--precision int8", "argument --precision: invalid choice: 'int8'"),
        ("--compile maybe", "argument --compile: invalid choice: 'maybe'"),
        ("--p-uncond 1.5", "--p-uncond must be in [0, 1], got 1.5"),
        ("--p-uncond nan", "--p-uncond must be in [0, 1], got nan"),
        ("--dropout 1", "--dropout must be in [0, 1)"),
        ("--ema 1", "--ema must be in [0, 1)"),
        ("--lr 0", "--lr must be above 0, got 0.0"),
        ("--lr inf", "--lr must be a finite number, got inf"),
        ("--grad-clip nan", "--grad-clip must be a finite number, got nan"),
        ("--weight-decay -1", "--weight-decay must be at least 0, got -1.0"),
        ("--device tpu9", "device tpu9 can't be used here"),
        ("--width 12", "width a multiple of 8"),
        ("--multipliers 1,1,1,1,1", "size must be divisible by 16"),
        ("--attention 5", "attention must name sides among"),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(flags, message, tmp_path, capsys):
    try:
        code = main([*flags.split(), "--out", str(tmp_path / "r")])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error, error
    assert error.strip().count("\n") == 0 and error.startswith("python -m train: error: ")
    assert not (tmp_path / "r").exists()


def test_the_device_of_auto():
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
