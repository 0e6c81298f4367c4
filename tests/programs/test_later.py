"""What a run is worth that was stopped, and what a finished one can get later."""

import re
import shlex
import shutil

import pytest
import torch
from helpers import at_call, ctrl_c, log, rate, train
from safetensors.torch import load_file

from guidance.__main__ import main as guidance
from train.__main__ import main
from train.evaluate.__main__ import main as evaluate
from train.init import start_from
from train.objectives import unet_loss
from unet import UNet, load, save


def resume(run, *flags):
    return main(["--out", str(run), "--resume", *map(str, flags)])


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("train.objectives.unet_loss", lambda *a: at_call(7, ctrl_c, unet_loss(*a)))
        assert train("--out", tmp_path / "stopped") == 130
    return tmp_path / "stopped"


@pytest.fixture
def whole(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "whole")
    return tmp_path / "whole"


def test_a_stopped_run_is_sampled_from(stopped, tmp_path, capsys):
    """From the weights of the state, averaged and raw, and it is said which step's they are."""
    state = torch.load(stopped / "unet.state", weights_only=True)
    for name, part in (("unet", "averaged"), ("unet-raw", "model")):
        model, info = load(stopped / f"{name}.safetensors")
        assert (info["step"], info["steps"]) == (7, 12)
        assert all(torch.equal(v, state[part][k]) for k, v in model.state_dict().items())
    flags = ["--weights", str(stopped), "--steps", "2", "--n", "1", "--out", f"{tmp_path}/x.png"]
    assert guidance(["none", *flags]) == 0
    assert "an unfinished run: the weights are those of step 7 of 12\n" in capsys.readouterr().out
    assert resume(stopped) == 0
    capsys.readouterr()
    assert guidance(["none", *flags]) == 0 and "unfinished" not in capsys.readouterr().out


def test_a_judge_and_a_classifier_that_come_later_are_the_same(finished, tmp_path):
    """Bit for bit those of the run that had them from the beginning."""
    run = tmp_path / "r"
    assert train("--out", run, "--classifier-steps", 0, "--judge-steps", 0, "--judge-width", 8) == 0
    assert not (run / "judge.safetensors").exists()
    assert resume(run, "--classifier-steps", 4, "--judge-steps", 5, "--judge-width", 4) == 0
    for name in ("unet", "unet-raw", "classifier", "judge"):
        one, two = (r / f"{name}.safetensors" for r in (run, finished))
        assert one.read_bytes() == two.read_bytes(), name


def test_more_steps_follow_the_cosine_of_the_new_total(whole, capsys):
    assert resume(whole, "--steps", 21, "--log-every", 1) == 0
    assert "12 steps become 21; the learning rate follows the cosine of 21" in (
        capsys.readouterr().out
    )
    later = [e for e in log(whole) if e["phase"] == "unet" and e["step"] > 12]
    assert [e["step"] for e in later] == list(range(13, 22))
    for entry in later:  # from the first on, though the optimiser's state has stopped at 0
        assert entry["lr"] == pytest.approx(rate(entry["step"], 21, 2e-3), rel=1e-12)
    assert load(whole / "unet.safetensors")[1]["step"] == 21
    assert resume(whole) == 0 and resume(whole, "--steps", 20) == 2
    assert "--steps can't become less on --resume: the run has 21, got 20" in (
        capsys.readouterr().err
    )


def test_the_states_of_a_finished_run_may_go(whole, tmp_path, capsys):
    for path in whole.glob("*.state*"):
        path.unlink()
    before = (whole / "unet.safetensors").read_bytes()
    (whole / "judge.safetensors").unlink()
    assert resume(whole) == 0  # the judge is trained anew
    assert (whole / "unet.safetensors").read_bytes() == before
    assert resume(whole, "--steps", 20) == 2
    error = capsys.readouterr().err
    assert "unet.safetensors is at step 12 of 20, and without unet.state can't go on" in error
    advice = re.search(r"--init (\S+)", error)
    assert train("--init", advice[1], "--out", tmp_path / "new", "--steps", 2) == 0


# -- --init ----------------------------------------------------------------------------------------


def small(classes, **changes):
    torch.manual_seed(len(classes))
    shape = {"size": 8, "channels": 1, "classes": len(classes), "width": 8, "blocks": 1}
    unet = UNet(**{**shape, "multipliers": (1, 2), "attention": (4,), **changes})
    for p in unet.parameters():
        p.data.normal_()
    return unet


def written(directory, classes):
    unet = small(classes)
    info = {"classes": classes, "schedule": {"name": "linear", "T": 1000}}
    save(directory / "unet.safetensors", unet, info)
    return unet


def test_other_classes_take_over_what_they_share(tmp_path):
    old, new = written(tmp_path, ["a", "b", "c"]), small(["d", "c", "a", "e"])
    fresh = new.label.weight.clone()
    said = start_from(tmp_path, new, ["d", "c", "a", "e"])
    assert said.endswith("as do the labels c, a, ∅; fresh are d, e") and str(tmp_path) in said
    expected = torch.stack([fresh[0], *old.label.weight[[2, 0]], fresh[3], old.label.weight[3]])
    assert torch.equal(new.label.weight, expected)
    rest = {k: v for k, v in new.state_dict().items() if k != "label.weight"}
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in rest.items())


def test_the_same_classes_take_over_everything(tmp_path):
    old, new = written(tmp_path, ["a", "b"]), small(["a", "b"])
    assert "fresh" not in start_from(tmp_path, new, ["a", "b"])
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in new.state_dict().items())


def test_another_network_is_refused(tmp_path):
    written(tmp_path, ["a", "b"])
    with pytest.raises(ValueError, match="of another shape: width 8 instead of 16, channels|width"):
        start_from(tmp_path, small(["a", "b"], width=16), ["a", "b"])


def test_a_run_starts_from_another(finished, tmp_path, capsys):
    """Without a step of warm-up's it is that network; the place is no part of the weights."""
    run = tmp_path / "r"
    flags = ("--init", finished, "--lr", 1e-12, "--weight-decay", 0, "--steps", 2, "--out", run)
    assert train(*flags, "--classifier-steps", 0, "--judge-steps", 0) == 0
    one, two = (load_file(r / "unet.safetensors") for r in (run, finished))
    assert all(torch.allclose(one[k], two[k], rtol=0, atol=1e-9) for k in one)
    assert f"ε_θ starts from {finished}, as do the labels 0, 1," in capsys.readouterr().out
    assert str(finished).encode() not in (run / "unet.safetensors").read_bytes()
    assert train("--init", run, "--out", run, "--overwrite") == 2
    assert "must be another directory than --out" in capsys.readouterr().err
    assert (run / "unet.safetensors").exists()
    assert train("--init", tmp_path, "--out", tmp_path / "x") == 2
    assert not (tmp_path / "x").exists() and "no unet.safetensors" in capsys.readouterr().err


# -- an advice is a command that works -------------------------------------------------------------


def advised(error):
    (command,) = re.findall(r"`python -m train ([^`]+)`", error)
    return shlex.split(command)


def test_what_is_missing_is_had_by_the_advice(tmp_path, monkeypatch, capsys):
    """No network, no classifier, no judge: in a run, each advice makes what was asked for."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "a run"
    flags = ["--weights", str(run), "--steps", "2", "--out", f"{tmp_path}/x.png"]
    assert train("--out", run, "--classifier-steps", 0, "--judge-steps", 0, "--steps", 6) == 0
    capsys.readouterr()
    assert guidance(["classifier", "--n", "1", *flags]) == 2
    assert main(advised(capsys.readouterr().err)) == 0
    assert guidance(["classifier", "--n", "1", *flags]) == 0
    question = ["--n", "20", *flags[:4], "--out", f"{tmp_path}/x.csv", "--batch-size", "20"]
    assert evaluate(question) == 2
    assert main(advised(capsys.readouterr().err)) == 0
    for path in [*run.glob("unet*.safetensors"), *run.glob("unet.state*")]:
        path.unlink()
    assert guidance(["none", "--n", "1", *flags]) == 2
    assert main(advised(capsys.readouterr().err)) == 0
    assert guidance(["none", "--n", "1", *flags]) == 0


def test_where_there_is_no_run_the_advice_is_a_new_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert guidance(["none", "--weights", "nowhere"]) == 2
    advice = advised(capsys.readouterr().err)
    assert advice == ["--preset", "digits"]
    assert train(*advice, "--steps", 2, "--classifier-steps", 0, "--judge-steps", 0) == 0
    assert (tmp_path / "runs/digits/unet.safetensors").exists()


def test_the_advice_about_the_schedule(tmp_path, capsys):
    flags = ["--T", "400", "--schedule", "linear", "--steps", "1", "--out", tmp_path / "r"]
    assert train(*flags) == 2
    assert "use --schedule cosine or a larger --T" in capsys.readouterr().err
    flags += ["--classifier-steps", "0", "--judge-steps", "0"]
    assert train(*flags, "--schedule", "cosine") == 0
    assert train(*flags, "--T", "1000", "--overwrite") == 0
