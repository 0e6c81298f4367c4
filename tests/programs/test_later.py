"""What a run is worth that was stopped, and what a finished one can get later."""

import ast
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from commands import PARSERS
from helpers import at_call, ctrl_c, log, main, rate, train
from PIL import Image
from safetensors.torch import load_file
from torch.distributed.run import get_args_parser as torchrun

from guidance.__main__ import main as guidance
from train.config import Config, from_flags, parser
from train.directory import go_on
from train.evaluate.__main__ import main as evaluate
from train.folder import load_folder
from train.init import start_from
from train.objectives import unet_loss
from unet import UNet, load, save

ROOT = Path(__file__).parents[2]


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


def test_the_advice_of_a_run_that_has_diverged(tmp_path, capsys):
    flags = ("--out", tmp_path / "r", "--steps", 3, "--classifier-steps", 0, "--judge-steps", 0)
    assert train(*flags, "--lr", 1e30) == 1
    said = capsys.readouterr().err
    assert said.strip().endswith("A new run with a smaller --lr or --precision float32 may help")
    assert train(*flags, "--lr", 1e-3, "--precision", "float32", "--overwrite") == 0


def test_a_folder_for_one_of_the_parts_is_a_data_set(tmp_path, capsys):
    """What "name one, such as" names can be read."""
    for name in ("train/a/0.png", "train/b/0.png", "val/a/0.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / name)
    flags = ["--out", str(tmp_path / "r"), "--size", "8"]
    assert main(["--data", str(tmp_path / "pets"), *flags]) == 2
    (named,) = re.findall(r"such as (\S+),", capsys.readouterr().err)
    given = parser().parse_args(["--data", named, *flags])
    assert load_folder(from_flags(vars(given))).classes == ["a"]


def test_going_on_with_a_run_of_several_machines(monkeypatch):
    """torchrun takes the line: as many machines, which meet at the first one's address."""
    monkeypatch.setattr("train.ranks.world", lambda: 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setenv("MASTER_ADDR", "node-0")
    command = shlex.split(go_on(Config(out="a run")))
    given = torchrun().parse_args(command[1:])
    assert command[0] == "torchrun" and given.training_script == "train" and given.module
    assert (given.nnodes, given.nproc_per_node) == ("2", "8")
    assert (given.rdzv_backend, given.rdzv_endpoint) == ("c10d", "node-0:29500")
    again = from_flags(vars(parser().parse_args(given.training_script_args)))
    assert again == Config(out="a run")


SPOKEN_OF = {  # the commands whose flags may be named in a package's messages, the nearest first
    "ddpm": (),
    "unet": ("train",),  # --compile on
    "guidance": ("guidance", "train"),  # which trains what is missing
    "train": ("train",),
    "train/evaluate": ("train.evaluate", "train.experiments", "train"),
    "train/experiments": ("train.experiments",),
    "train/benchmark": ("train.benchmark", "train"),
}


def flags_of(parser):
    """All flags of a command, and of each of its kinds."""
    found = {name for action in parser._actions for name in action.option_strings}
    for action in parser._subparsers._group_actions if parser._subparsers else []:
        found |= set().union(*map(flags_of, action.choices.values()))
    return found


@pytest.mark.parametrize("package", SPOKEN_OF)
def test_every_flag_that_is_named_exists(package):
    """In a message or a help text; and so does every extra that `pip install` is to bring."""
    known = flags_of(torchrun()).union(*(flags_of(PARSERS[name]()) for name in SPOKEN_OF[package]))
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    below = "*.py" if package == "train" else "**/*.py"  # which has rooms of their own
    for path in sorted((ROOT / package).glob(below)):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in {node for node in nodes if isinstance(node, ast.Constant)} - docstrings:
            flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*\w", str(node.value)))
            assert flags <= known, f"{path}:{node.lineno}"
            assert {*re.findall(r"guidance\[(\w+)\]", str(node.value))} <= {*extras}, path
