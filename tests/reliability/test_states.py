"""A state or a configuration that a stranger wrote: nothing runs, and one line says what is wrong.

That the state is put back whole, optimiser and place in the data order included, is what the
interrupted runs of programs/test_train_command.py show: they end bit for bit where the whole does.
"""

import json
import pickle
import shutil

import pytest
import torch
from bomb import Bomb

from train.__main__ import main


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run, of which only the configuration and the state are left."""
    (tmp_path / "r").mkdir()
    for name in ("config.json", "unet.state"):
        shutil.copy(finished / name, tmp_path / "r" / name)
    return tmp_path / "r"


def refused(run, capsys, *words):
    """One line, with one of these words, and no weights."""
    capsys.readouterr()
    assert main(["--out", str(run), "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m train: error: ") and error.count("\n") == 1, error
    assert len(error) < 1000 and any(word in error for word in words), error
    assert not (run / "unet.safetensors").exists()


@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_malicious_pickle_executes_nothing(run, tmp_path, capsys, protocol):
    marker = tmp_path / "marker"
    state = torch.load(run / "unet.state", weights_only=True)
    torch.save({**state, "step": Bomb(marker)}, run / "unet.state", pickle_protocol=protocol)
    refused(run, capsys, "unet.state can't be taken up: it is broken, or holds more than ten")
    (run / "unet.state").write_bytes(pickle.dumps(Bomb(marker), protocol))
    (run / "unet.state.previous").write_bytes(pickle.dumps(Bomb(marker), protocol))
    refused(run, capsys, "unet.state.previous can't be taken up")
    assert not marker.exists()
    pickle.loads((run / "unet.state").read_bytes())
    assert marker.exists()  # it would have


WRONG = [None, "a", -1, 2.5, float("nan"), float("inf"), True, [1], torch.tensor([1.0, 2.0])]


@pytest.mark.parametrize(
    "key", ["step", "count", "total", "generator", "dropout", "device", "others"]
)
def test_entries_that_no_run_has_written(run, capsys, key):
    state = torch.load(run / "unet.state", weights_only=True)
    for wrong in WRONG:
        if (key, wrong) == ("device", "a"):
            continue  # a device of another name is not an error
        torch.save({**state, key: wrong}, run / "unet.state")
        refused(run, capsys, "unet.state can't be taken up")
    for broken in ({k: v for k, v in state.items() if k != key}, [state], state["model"]):
        torch.save(broken, run / "unet.state")
        refused(run, capsys, "unet.state can't be taken up")


@pytest.mark.parametrize("part", ["model", "averaged", "optimizer", "scheduler"])
def test_parts_that_no_run_has_written(run, capsys, part):
    state = torch.load(run / "unet.state", weights_only=True)
    for wrong in (None, {}, [], "a", 7, {"a": 1}, {**state[part], "param_groups": []}):
        torch.save({**state, part: wrong}, run / "unet.state")
        if part == "scheduler" and wrong not in (None, [], "a", 7):
            continue  # a dictionary is all that it asks for
        refused(run, capsys, "unet.state can't be taken up")


def tensors_of(state, part):
    """Dictionaries with tensors, and the key of one."""
    if part == "optimizer":
        return [(state[part]["state"][0], "exp_avg"), (state[part]["state"][3], "exp_avg_sq")]
    name = next(k for k in state[part] if k.endswith("out.weight"))
    return [(state[part], name)]


@pytest.mark.parametrize("part", ["model", "averaged", "optimizer"])
@pytest.mark.parametrize("change", ["shape", "nan", "inf", "text"])
def test_tensors_that_no_run_has_written(run, capsys, part, change):
    whole = (run / "unet.state").read_bytes()
    for place in range(2 if part == "optimizer" else 1):
        (run / "unet.state").write_bytes(whole)
        state = torch.load(run / "unet.state", weights_only=True)
        tensors, name = tensors_of(state, part)[place]
        if change == "shape":
            tensors[name] = torch.zeros(3)
        elif change == "text":
            tensors[name] = "a"
        else:
            tensors[name].view(-1)[0] = float(change)
        torch.save(state, run / "unet.state")
        refused(run, capsys, "unet.state can't be taken up")


def test_the_state_of_another_architecture(run, capsys):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "width": 16}))
    refused(run, capsys, "unet.state can't be taken up: Error(s) in loading state_dict for UNet: s")


def test_no_file_in_the_states_place(run, capsys):
    (run / "unet.state").unlink()
    (run / "unet.state").symlink_to("unet.state")
    refused(run, capsys, "unet.state can't be taken up")
    (run / "unet.state").unlink()
    (run / "unet.state").mkdir()
    refused(run, capsys, "unet.state can't be taken up")


GARBAGE = [None, "a", -1, 2.5, 10**400, float("nan"), True, [], [1.5], ["a"], [[1]], {"a": 1}]


def test_a_configuration_of_garbage(run, capsys):
    path = run / "config.json"
    config = json.loads(path.read_text())
    for text in (
        "",
        "{",
        "[]",
        "null",
        "[" * 10**5,
        "1" * 5000,
        '{"preset": []}',
        "\0",
        "[[1, 2]]",
    ):
        path.write_text(text)
        refused(run, capsys, "config.json can't be read")
    for name, good in config.items():
        for bad in GARBAGE:
            right = isinstance(good, bool) and isinstance(bad, bool)  # either is a setting
            if not right and (
                type(bad) is not type(good) or bad == -1 or bad not in ("a", 2.5, [])
            ):
                path.write_text(json.dumps({**config, name: bad}))
                refused(run, capsys, "config.json can't be read", f"{name} must be")
    path.write_bytes(b"\xff\xfe")
    refused(run, capsys, "config.json can't be read")
    path.unlink()
    path.symlink_to("config.json")
    refused(run, capsys, "no config.json")
