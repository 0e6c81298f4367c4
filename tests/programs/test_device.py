"""torch.compile: the same numbers as without it, and a word where it is not to be had."""

import copy
import dataclasses
import functools
import os
from pathlib import Path

import pytest
import torch

from guidance.app.models import load_models
from train import outcome
from train.benchmark import ours, works
from train.config import PRESETS
from train.data import load_data
from train.evaluate import lab
from train.training import Training
from unet import UNet, device
from unet.device import autocast_dtype, choose_device, compile_network, memory_format

WEIGHTS = Path(__file__).parents[2] / "weights/digits"
CPU = torch.device("cpu")
TINY = {"size": 8, "width": 8, "multipliers": (1,), "blocks": 1, "attention": (8,), "classes": 3}


def no_compiler(*_, **__):
    raise RuntimeError("no C++ compiler found\nand much more of it")


def test_precision_of_each_device():
    assert autocast_dtype("float32", CPU) is None
    assert autocast_dtype("bfloat16", CPU) is torch.bfloat16
    assert autocast_dtype("auto", torch.device("mps")) is None
    assert autocast_dtype("auto", CPU) in (None, torch.bfloat16)


@pytest.mark.parametrize("where", [CPU, torch.device("cuda"), torch.device("mps")])
def test_a_precision_by_name_is_that_type_on_every_device(where):
    types = [autocast_dtype(name, where) for name in ("float32", "bfloat16", "float16")]
    assert types == [None, torch.bfloat16, torch.float16]


def test_the_device_of_a_name(monkeypatch):
    """What is asked for, and no other: a tensor is made there, and not on the device of now."""
    assert choose_device("cpu") == CPU
    with pytest.raises(ValueError, match="device cuda:99 can't be used here: "):
        choose_device("cuda:99")
    for cuda, mps, best in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        monkeypatch.setattr(device.torch, "zeros", lambda n, device: torch.ones(n))
        assert choose_device("auto") == torch.device(best)


def test_channels_last_is_for_cuda_and_for_float32_predictions():
    for kind, training, predicting in (("cuda", True, True), ("cpu", False, True),
                                       ("mps", False, False)):  # fmt: skip
        device = torch.device(kind)
        assert (memory_format(device) == torch.channels_last) == training
        found = memory_format(device, predicts_float32=True)
        assert (found == torch.channels_last) == predicting
        assert memory_format(device, predicts_float32=False) == memory_format(device)


def test_networks_are_loaded_in_the_layout_of_their_type():
    """And predict the same in either. Looked at are the convolutions that have two layouts.

    Float32, other orders of sums: 1e-5 is a hundred roundings."""
    wide = load_models(WEIGHTS).unet
    for dtype in (torch.bfloat16, torch.float16):
        narrow = load_models(WEIGHTS, dtype=dtype).unet
        convolutions = [(a, b) for a, b in zip(wide.parameters(), narrow.parameters(), strict=True)
                        if a.ndim == 4 and min(a.shape[1:]) > 1]  # fmt: skip
        assert len(convolutions) > 5
        for a, b in convolutions:
            assert a.is_contiguous(memory_format=torch.channels_last) and b.is_contiguous()
            assert torch.equal(a, b)
        x, c = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(3)
        t = torch.tensor([1, 500, 1000])
        with torch.no_grad():
            torch.testing.assert_close(wide(x, t, c), narrow(x, t, c), rtol=0, atol=1e-5)
    trained = Training(wide, PRESETS["digits"], CPU, 1).model
    assert all(p.is_contiguous() for p in trained.parameters())


@pytest.mark.parametrize("program", ["evaluate", "train", "benchmark", "benchmark guidance"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_who_draws_lays_its_network_out_for_its_precision(precision, program, monkeypatch):
    dtype = None if precision == "float32" else torch.bfloat16
    config = dataclasses.replace(PRESETS["digits"], precision=precision)
    drawn = []

    def draw(models, *_, dtype, **__):
        drawn.append((models.unet, dtype))
        raise KeyboardInterrupt

    for module in (lab, outcome, ours, works):
        monkeypatch.setattr(module, "draw", draw)
    monkeypatch.setattr(works, "autocast_dtype", lambda *_: dtype)
    with pytest.raises(KeyboardInterrupt):
        if program == "evaluate":
            flags = lab.LabFlags(weights=str(WEIGHTS), precision=precision)
            lab.Lab(flags, CPU, batch_size=10).draw(None, torch.arange(10), 0)
        elif program == "train":
            outcome.show(WEIGHTS, config, load_data("digits", ""))
        elif program == "benchmark":
            ours.ours(load_data("digits", ""), config).sample(1)
        else:
            next(iter(works.guidance(str(WEIGHTS), 1, CPU).values())).call()
    ((unet, used),) = drawn
    weight = max(unet.parameters(), key=lambda p: p.numel() if p.ndim == 4 else 0)
    assert used == dtype and weight.is_contiguous() == (precision == "bfloat16")


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_and_eager_agree(monkeypatch):
    """Traced and differentiated as a whole; COMPILE=1 has C++ made of it, too, for a minute.

    Prediction and gradient in float32, where only the order of sums differs: 1e-5 of the
    largest entry is a hundred roundings. Parameters keep their names, and stay the eager one's."""
    if "COMPILE" not in os.environ:
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch.manual_seed(0)
    network = UNet(**TINY)
    for p in network.parameters():
        p.data.normal_(std=0.3)
    compiled = copy.deepcopy(network)
    try:
        compile_network(compiled, "on", CPU)
    except ValueError as error:
        pytest.skip(str(error))
    x = torch.randn(4, 1, 8, 8)
    t, c = torch.tensor([1, 50, 300, 1000]), torch.tensor([0, 1, 2, 3])
    results = []
    for model in (network, compiled):
        out = model(x, t, c)
        out.square().mean().backward()
        results.append([out.detach(), *(p.grad for p in model.parameters())])
    for eager, fast in zip(*results, strict=True):
        assert (eager - fast).abs().max() <= 1e-5 * eager.abs().max()
    assert list(compiled.state_dict()) == list(network.state_dict())
    with pytest.raises(ValueError, match="x_t must be a float batch"):
        compiled(x[:, :, :4], t, c)


def test_auto_compiles_nothing_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch, "compile", no_compiler)
    for wanted in ("auto", "off"):
        network = UNet(**TINY)
        compile_network(network, wanted, CPU)
        assert network._compiled_call_impl is None


def test_without_a_compiler_auto_goes_on_and_on_does_not(monkeypatch, capsys):
    """ "auto" would compile on CUDA; a CPU tensor stands in for one there."""
    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(device.torch, "zeros", lambda n, device: torch.empty(n))
    network = UNet(**TINY)
    compile_network(network, "auto", torch.device("cuda"))
    assert network._compiled_call_impl is None
    error = capsys.readouterr().err
    assert error == "not compiled, which costs only time: no C++ compiler found\n"
    with pytest.raises(ValueError, match="--compile on is not possible on cpu: no C.. compiler"):
        compile_network(network, "on", CPU)


def test_only_the_trained_network_is_compiled(monkeypatch):
    """The average draws pictures in batches of many sizes, and is a plain network in every file."""
    asked = []
    monkeypatch.setattr("train.training.compile_network", lambda *a: asked.append(a))
    config = dataclasses.replace(PRESETS["digits"], compile="on")
    network = UNet(**TINY)
    training = Training(network, config, CPU, 10)
    assert asked == [(network, "on", CPU)] and training.averaged is not network
