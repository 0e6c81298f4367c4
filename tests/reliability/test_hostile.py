"""Files from strangers: every lie is one line that names the file, and none costs memory."""

import json
import pickle
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bomb import Bomb
from safetensors.torch import load_file, save_file

from ddpm import cosine_schedule
from guidance.__main__ import main
from guidance.app.models import load_models
from unet import Judge, UNet, load, save

ROOT = Path(__file__).parents[2]

TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "classes": 2}
INFO = {"schedule": cosine_schedule(50).info, "data": "digits", "classes": ["a", "b"]}
F32 = {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "unet.safetensors", UNet(**TINY), INFO)
    return tmp_path / "unet.safetensors"


def refused(path, capsys, *words):
    """By `load_models` and by the command: one line with the file's name and these words."""
    with pytest.raises((ValueError, OSError)) as caught:
        load_models(path.parent)
    assert main(["none", "--weights", str(path.parent), "--out", str(path.parent / "x.png")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m guidance: error: ") and error.count("\n") == 1, error
    for text in (str(caught.value), error):
        assert path.name in text and len(text) < 1000, text
        assert all(word in text for word in words), text


def header(tensors, info=None, data=b"\0" * 8):
    """A file with this header, in bytes or as what JSON makes of it."""
    metadata = {} if info is None else {"__metadata__": {"info": info}}
    text = tensors if isinstance(tensors, bytes) else json.dumps({**tensors, **metadata}).encode()
    return struct.pack("<Q", len(text)) + text + data


EIGHT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LIES = {
    "10 GB in 8 bytes": header({"a": F32}),
    "10 GB, and offsets that say 8 bytes": header({"a": {**F32, "data_offsets": [0, 8]}}),
    "a shape that overflows": header({"a": {**EIGHT, "shape": [2**62, 2**62]}}),
    "a negative size": header({"a": {**EIGHT, "shape": [-2]}}),
    "offsets backwards": header({"a": {**EIGHT, "data_offsets": [8, 0]}}),
    "two tensors in one place": header({"a": EIGHT, "b": EIGHT}),
    "a type that does not exist": header({"a": {**EIGHT, "dtype": "F99"}}),
    "a header longer than the file": struct.pack("<Q", 10**6) + b"{}",
    "a header of 8 EiB": struct.pack("<Q", 2**63) + b"{}",
    "no JSON": header(b"\xff\xfe{"),
    "a list": header(b"[]"),
    "deep brackets in the header": header(b"[" * 100_000),
    "deep brackets in info": header({"a": EIGHT}, "[" * 100_000),
    "a number of 100,000 digits in info": header({"a": EIGHT}, "1" * 100_000),
    "no info": header({"a": EIGHT}),
    "nothing": b"",
    "a pickle": pickle.dumps({"out.weight": [1.0]}),
    "zeros": bytes(10_000),
}


@pytest.mark.parametrize("name", LIES)
def test_headers_that_lie(path, capsys, name):
    path.write_bytes(LIES[name])
    refused(path, capsys)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 5000, -1])
def test_a_truncated_file(path, capsys, size):
    path.write_bytes(path.read_bytes()[:size])
    refused(path, capsys, "not a whole safetensors file")


def test_a_checkpoint_of_pickles_is_not_opened(path, tmp_path, capsys):
    torch.save({"a": Bomb(tmp_path / "marker")}, path)
    refused(path, capsys, "not a whole safetensors file")
    assert not (tmp_path / "marker").exists()


def test_paths_that_are_no_file(path, capsys):
    path.unlink()
    path.symlink_to(path.name)  # to itself
    refused(path, capsys)
    path.unlink()
    path.mkdir()
    refused(path, capsys)


def test_files_that_must_not_be_read(unprivileged, capsys):
    path = unprivileged / "unet.safetensors"
    save(path, UNet(**TINY), INFO)
    path.chmod(0)
    refused(path, capsys, "ermission denied")
    path.chmod(0o600)
    unprivileged.chmod(0)
    with pytest.raises(OSError, match=r"ermission denied.*unet\.safetensors"):
        load_models(unprivileged)
    unprivileged.chmod(0o700)


def rewritten(path, info):
    save_file(load_file(path), path, {"info": json.dumps(info)})


WRONG = [None, True, "7", "", 1.5, -1, 0, 10**9, 10**400, float("nan"), [], [[7]], {"a": 1}]


@pytest.mark.parametrize("field", ["name", *TINY, "channels", "dropout"])
def test_every_field_of_the_architecture_is_checked(path, capsys, field):
    info = load(path)[1]
    for value in [*WRONG, [1.0, 2.0], [10**9], [1] * 10**5, ["a"]]:
        if value in (0, []) and field in ("dropout", "attention"):
            value = -2
        rewritten(path, {**info, "architecture": {**info["architecture"], field: value}})
        with pytest.raises(ValueError, match=r"unet\.safetensors .*(can't be built|architecture)"):
            load(path)
    refused(path, capsys)


HUGE = [{"width": 4096}, {"width": 1024, "blocks": 32}, {"width": 512, "classes": 10**6}]


def test_a_claim_of_10_gb_costs_nothing(path):
    """By the header, or by an architecture within its bounds whose weights are 10 GB or more.

    In a process that may take 512 MB more than it has.
    """
    info = load(path)[1]
    paths = [path.with_name(f"{k}.safetensors") for k in range(len(HUGE) + 1)]
    for copy, huge in zip(paths, HUGE, strict=False):
        copy.write_bytes(path.read_bytes())
        rewritten(copy, {**info, "architecture": {**info["architecture"], **huge}})
    paths[-1].write_bytes(LIES["10 GB in 8 bytes"])
    script = """if True:
        import resource, sys
        from unet import load
        pages = int(open("/proc/self/statm").read().split()[0])
        most = pages * resource.getpagesize() + 2**29
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for path in sys.argv[1:]:
            try: load(path)
            except ValueError as error: print(error)
    """
    command = [sys.executable, "-c", script, *paths]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    *architectures, lie = out.splitlines()
    assert len(architectures) == len(HUGE) and "not a whole safetensors file" in lie
    assert all("is of another architecture than its header says" in x for x in architectures)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite(path, capsys, bad, dtype):
    tensors, info = load_file(path), load(path)[1]
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    tensors["label.weight"][1, 3] = bad
    save_file(tensors, path, {"info": json.dumps(info)})
    refused(path, capsys, "holds values that are not finite, in label.weight")


@pytest.mark.parametrize("dtype", [torch.int32, torch.float64, torch.bool, torch.float8_e4m3fn])
def test_tensors_of_another_type(path, capsys, dtype):
    tensors, info = load_file(path), load(path)[1]
    tensors["label.weight"] = tensors["label.weight"].to(dtype)
    save_file(tensors, path, {"info": json.dumps(info)})
    refused(path, capsys, "label.weight", "must be one of")


def test_a_counter_must_be_an_integer(tmp_path):
    path = tmp_path / "judge.safetensors"
    save(path, Judge(size=8, width=4), {})
    tensors, info = load_file(path), load(path)[1]
    tensors["norms.0.num_batches_tracked"] = torch.tensor(0.5)
    save_file(tensors, path, {"info": json.dumps(info)})
    with pytest.raises(ValueError, match="num_batches_tracked as F32"):
        load(path)


SCHEDULES = [
    None,
    [],
    {},
    {"name": []},
    {"name": "sine"},
    *({"name": "linear", "T": T} for T in WRONG),
    *({"name": "cosine", "T": 10, "s": s} for s in (None, "7", -1, 0, 10**400, 1e300, [])),
    *({"name": "linear", "T": 10, "beta_1": beta} for beta in WRONG),
    *({"name": "table", "beta": beta} for beta in WRONG),
    {"name": "table", "beta": [0.1, float("nan")]},
    {"name": "table", "beta": [1e-17] * 3},  # ᾱ would be 1
    {"name": "table", "beta": [0.9999] * 1000},  # ᾱ would be 0
    *({"name": "alpha_bar", "alpha_bar": alpha_bar} for alpha_bar in WRONG),
    {"name": "alpha_bar", "alpha_bar": [0.9, -0.5, 0.1]},
    {"name": "cosine", "T": 10, "q": 1},
]


def test_schedules_that_can_not_be_made(path, capsys):
    info = load(path)[1]
    for schedule in SCHEDULES:
        rewritten(path, {**info, "schedule": schedule})
        with pytest.raises(ValueError, match=r"unet\.safetensors .*schedule"):
            load_models(path.parent)
    refused(path, capsys, "schedule")


@pytest.mark.parametrize("names", [None, "ab", ["a"], ["a", 7], ["a", None], {"a": 1, "b": 2}])
def test_names_of_classes(path, capsys, names):
    rewritten(path, {**load(path)[1], "classes": names})
    refused(path, capsys, "classes")


def test_a_full_disk_leaves_the_weights_that_were_there(path):
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"unet\.safetensors can't be written"):
            save(path, UNet(**{**TINY, "width": 16}), INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
