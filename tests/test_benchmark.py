"""The benchmark: contenders do the same work, and rates and ratios are those of the clock."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from train import benchmark, peers
from train.config import PRESETS
from train.data import load_data
from train.experiments.results import Results

DIGITS = dataclasses.replace(
    PRESETS["digits"], width=32, blocks=1, attention=(4,), batch_size=4, precision="float32"
)


def test_flops_of_a_convolution_by_hand():
    """2·9·C_in·C_out for each of 8×8 pixels; torch counts a multiplication and an addition."""
    data = load_data("digits", "")
    network = torch.nn.Conv2d(1, 5, 3, padding=1)
    assert peers.forward_flops(data, lambda x, t, c: network(x)) == 2 * 9 * 5 * 64


@pytest.mark.filterwarnings("ignore")  # the peer's own
@pytest.mark.parametrize("name", ["ours", "diffusers", "lucidrains"])
def test_a_sample_is_100_passes_and_a_step_three(name):
    """Counted while they run. Backward costs twice the forward pass, but for the first layer,
    which needs no gradient of the image, and attention, which computes its scores again."""
    pytest.importorskip({"lucidrains": "denoising_diffusion_pytorch"}.get(name, "diffusers"))
    data = load_data("digits", "")
    contender = peers.ours(data, DIGITS)
    if name != "ours":
        contender = getattr(peers, name)(data, DIGITS, "float32", contender.flops)
    with FlopCounterMode(display=False) as sampling:
        x = contender.sample(2)
    assert x.shape == (2, 1, 8, 8) and bool(torch.isfinite(x).all())
    assert sampling.get_total_flops() == pytest.approx(2 * 100 * contender.flops, rel=0.02)
    with FlopCounterMode(display=False) as training:
        contender.step()
    passes = training.get_total_flops() / (DIGITS.batch_size * contender.flops)
    assert passes == pytest.approx(3, rel=0.05)


def test_no_peer_within_reach():
    data, config = load_data("digits", ""), DIGITS
    with pytest.raises(ValueError, match="no peer's network costs 1 FLOPs; the nearest has"):
        peers.diffusers(data, config, "float32", 1)


def test_rates_are_medians_over_interleaved_rounds(monkeypatch):
    """A clock that the calls move: a takes 2 s, b 4, 8, 6 s by turns; the first round warms up."""
    now, log = [0.0], []
    durations = {"a": iter([9, 2, 2, 2]), "b": iter([9, 4, 8, 6])}

    def call(name):
        log.append(name)
        now[0] += next(durations[name])

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    found = benchmark._interleaved(
        {name: (lambda name=name: call(name)) for name in "ab"}, 24, 3, torch.device("cpu"), ""
    )
    assert "".join(log) == "abababab"
    assert found["a"] == {"images_per_s": 12, "lowest": 12, "highest": 12, "ratio": 1}
    assert found["b"] == {"images_per_s": 4, "lowest": 3, "highest": 6, "ratio": 3}


def test_from_end_to_end(tmp_path, capsys, monkeypatch):
    data = load_data("digits", "")
    monkeypatch.setattr(benchmark, "load_data", lambda name, where: data)
    monkeypatch.setitem(benchmark.PRESETS, "mnist", DIGITS)
    monkeypatch.setattr(benchmark, "_contenders", lambda d, c: [peers.ours(d, c)])
    monkeypatch.setattr(benchmark, "_peak", lambda device: 1e12)
    flags = ["--rounds", "1", "--steps", "1", "--n", "2", "--device", "cpu"]
    weights = str(peers.__file__).replace("train/peers.py", "weights/digits")
    assert benchmark.main([*flags, "--weights", weights, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| training | this project | " in out and "× none |" in out
    rows = Results(tmp_path / "benchmark-cpu.csv").rows
    assert [row["work"] for row in rows] == ["training", "sampling"] + ["guidance"] * 4
    first = rows[0]
    assert first["GFLOPs_per_s"] == pytest.approx(
        3 * first["forward_MFLOPs"] * first["images_per_s"] / 1e3, rel=1e-3
    )
    assert first["share_of_peak"] == pytest.approx(first["GFLOPs_per_s"] / 1e3, rel=1e-3)


def test_bad_flags(capsys):
    assert benchmark.main(["--rounds", "0"]) == 2
    assert "--rounds must be at least 1, got 0" in capsys.readouterr().err
    assert benchmark.main(["--threads", "-1"]) == 2
    assert "--threads must be at least 0, got -1" in capsys.readouterr().err
