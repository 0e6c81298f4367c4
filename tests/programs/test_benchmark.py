"""The benchmark: contenders do the same work, and rates and ratios are those of the clock."""

import dataclasses
import functools
import io
import itertools
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ddpm import Schedule, ddim
from train.benchmark import __main__ as benchmark
from train.benchmark import clock, cost, growth, operators, peers, quality, works
from train.benchmark.ours import Contender, our_unet, ours
from train.config import PRESETS
from train.data import load_data
from train.evaluate.results import read_rows
from unet import UNet, load

ROOT = Path(__file__).parents[2]

DIGITS = dataclasses.replace(
    PRESETS["digits"], width=32, blocks=1, attention=(4,), batch_size=4, precision="float32"
)


def test_flops_of_a_convolution_by_hand():
    """2·9·C_in·C_out for each of 8×8 pixels; torch counts a multiplication and an addition."""
    data = load_data("digits", "")
    network = torch.nn.Conv2d(1, 5, 3, padding=1)
    assert cost.forward_flops(data, lambda x, t, c: network(x)) == 2 * 9 * 5 * 64


@pytest.mark.filterwarnings("ignore")  # the peer's own
@pytest.mark.parametrize("name", ["ours", "diffusers", "lucidrains"])
def test_a_sample_is_100_passes_and_a_step_three(name):
    """Counted while they run. Backward costs twice the forward pass, but for the first layer,
    which needs no gradient of the image, and attention, which computes its scores again."""
    pytest.importorskip({"lucidrains": "denoising_diffusion_pytorch"}.get(name, "diffusers"))
    data = load_data("digits", "")
    contender = ours(data, DIGITS)
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


@pytest.mark.parametrize("target", [26_000, 61_000, 75_000, 150_000, 222_222, 340_000])
def test_the_nearest_peer_is_that_of_all(target):
    """A convolution of Σ multipliers·width channels, 18·64 FLOPs each: all of them by hand."""
    config, data = dataclasses.replace(PRESETS["mnist"], width=16), load_data("digits", "")
    every = itertools.product(range(8, 40, 8), (1, 2, 3, 4), (1, 2, 3, 4))
    flops = {1152 * width * (1 + a + b) for width, a, b in every if a <= b}
    network, cost_of_it = cost.nearest(
        lambda width, m: torch.nn.Conv2d(1, width * sum(m), 3, padding=1),
        lambda model, x, t, c: model(x), data, config, target,
    )  # fmt: skip
    assert cost_of_it == min(flops, key=lambda f: abs(f - target))
    assert cost.forward_flops(data, lambda x, t, c: network(x)) == cost_of_it


def test_no_peer_within_reach():
    data, config = load_data("digits", ""), DIGITS
    with pytest.raises(ValueError, match="no peer's network costs 1 FLOPs; the nearest has"):
        peers.diffusers(data, config, "float32", 1)


def test_rates_are_medians_over_interleaved_rounds(monkeypatch):
    """A clock that the calls move: a takes 2 s, b 4, 8, 6 s by turns; the first round warms up, and
    each call is made once more there for its memory. b's images cost half as many FLOPs."""
    now, log = [0.0], []
    durations = {"a": iter([9, 9, 2, 2, 2]), "b": iter([9, 9, 4, 8, 6])}

    def call(name):
        log.append(name)
        now[0] += next(durations[name])

    bars = []

    def bar(**options):
        bars.append(tqdm(**{**options, "disable": False}, file=io.StringIO()))
        return bars[0]

    monkeypatch.setattr(clock, "tqdm", bar)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    works = {
        name: clock.Work(functools.partial(call, name), 24, flops, 5)
        for name, flops in (("a", 2e9), ("b", 1e9))
    }
    a, b = clock.measure(works, 3, torch.device("cpu"), "x")
    assert "".join(log) == "aabbababab"
    assert bars[0].n == bars[0].total == 8  # the warm-up among them
    assert (a["images_per_s"], a["lowest"], a["highest"], a["ratio"]) == (12, 12, 12, 1)
    assert (b["images_per_s"], b["lowest"], b["highest"]) == (4, 3, 6)
    assert b["ratio"] == pytest.approx(6)
    assert (a["GFLOPs_per_s"], b["GFLOPs_per_s"], a["MFLOPs"]) == (24, 4, 2000)
    assert (a["work"], a["name"], a["parameters"]) == ("x", "a", 5)


def test_the_peak_is_that_of_the_fastest_product(monkeypatch):
    """2,048³ products and as many sums; nothing is multiplied by this clock."""
    seconds = iter([0.5, 0.25, *[1.0] * 8])
    monkeypatch.setattr(clock, "duration", lambda *_: next(seconds))
    assert clock.matrix_peak(torch.device("cpu"), torch.float32) == 2 * 2.0**33 / 0.25


def test_memory_is_the_most_that_is_held_at_once():
    """3 MB and 2 MB together, then 4 MB alone: 5 MB, and nothing that was there before."""
    before = torch.zeros(1_000_000)

    def call():
        both = torch.ones(750_000), torch.ones(500_000)
        del both
        return torch.ones(1_000_000) + 0 * before[0]

    found = clock.peak_memory(call, torch.device("cpu"))
    # In the last line 0·before[0] is a scalar, and the sum is a second 4 MB.
    assert found == pytest.approx(8_000_000, abs=1000)


@pytest.fixture
def on_digits(monkeypatch):
    data = load_data("digits", "")
    monkeypatch.setattr(benchmark, "load_data", lambda name, where: data)
    monkeypatch.setitem(benchmark.PRESETS, "mnist", DIGITS)
    monkeypatch.setattr(benchmark, "matrix_peak", lambda device, dtype: 1e12)
    return ["--weights", str(ROOT / "weights/digits"), "--device", "cpu"]


def test_from_end_to_end(tmp_path, capsys, monkeypatch, on_digits):
    monkeypatch.setattr(works, "contenders", lambda d, c, compiled: [ours(d, c)])
    two_steps = functools.partial(works.draw, sampler=functools.partial(ddim, steps=2))
    monkeypatch.setattr(works, "draw", two_steps)  # of the guidances
    flags = ["--rounds", "1", "--steps", "1", "--n", "2", "--out", str(tmp_path), *on_digits]
    assert benchmark.main(["training", "sampling", "guidance", *flags]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "| training | mnist | this project | " in out and "× none |" in out
    rows = read_rows(tmp_path / "benchmark-cpu.csv").to_dict("records")
    assert [row["work"] for row in rows] == ["training", "sampling"] + ["guidance"] * 4
    for row, passes in ((rows[0], 3), (rows[1], 100)):
        assert row["MFLOPs"] == pytest.approx(passes * forward_mflops(), rel=1e-5)
        assert row["GFLOPs_per_s"] == pytest.approx(
            row["MFLOPs"] * row["images_per_s"] / 1e3, rel=1e-3
        )
    assert benchmark.main(["guidance", *flags]) == 0  # in the place of the first time's
    rows = read_rows(tmp_path / "benchmark-cpu.csv").to_dict("records")
    assert [row["work"] for row in rows] == ["training", "sampling"] + ["guidance"] * 4


def test_rows_take_the_place_of_their_like_alone(tmp_path, monkeypatch, on_digits):
    """Measured again with as many threads a row is replaced; those of other numbers stay."""
    one = {"none": clock.Work(lambda: None, 1)}
    monkeypatch.setattr(works, "guidance", lambda weights, n, device: one)
    before = torch.get_num_threads()
    try:
        for threads, rounds in ((1, 1), (2, 2), (1, 3)):
            flags = ["--threads", str(threads), "--rounds", str(rounds), "--out", str(tmp_path)]
            assert benchmark.main(["guidance", *flags, *on_digits]) == 0
    finally:
        torch.set_num_threads(before)
    rows = read_rows(tmp_path / "benchmark-cpu.csv")
    assert rows[["threads", "rounds"]].astype(int).to_numpy().tolist() == [[2, 2], [1, 3]]


def forward_mflops():
    return (
        cost.forward_flops(load_data("digits", ""), our_unet(load_data("digits", ""), DIGITS)) / 1e6
    )


def test_growth(tmp_path, capsys, monkeypatch, on_digits):
    monkeypatch.setattr(growth, "SAMPLES", 1)
    assert benchmark.main(["growth", "--rounds", "1", "--out", str(tmp_path), *on_digits]) == 0
    rows = {
        (r["work"], str(r["name"])): r
        for r in read_rows(tmp_path / "growth-cpu.csv").to_dict("records")
    }
    assert [n for w, n in rows if w == "batch"] == ["1", "2", "4", "8", "16"]
    assert [n for w, n in rows if w == "side"] == ["4", "8", "16"]
    # Convolutions cost by the pixel, up to the embedding's share and attention, by its square.
    assert 3.5 < rows["side", "16"]["MFLOPs"] / rows["side", "8"]["MFLOPs"] < 5
    assert rows["batch", "16"]["MFLOPs"] == rows["batch", "1"]["MFLOPs"]
    assert rows["batch", "16"]["memory_MB"] > 2 * rows["batch", "4"]["memory_MB"]
    assert rows["sampling steps", "100"]["MFLOPs"] == 10 * rows["sampling steps", "10"]["MFLOPs"]
    assert "| batch | 1 · 2 · 4 · 8 · 16 | " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("preset", ["mnist", "cifar10"])
def test_the_preset_that_is_asked_for_is_measured(preset):
    given = vars(benchmark.parser().parse_args(["guidance", "--preset", preset]))
    assert benchmark.read(benchmark.Flags, given).preset == preset


@pytest.mark.parametrize("preset", ["mnist", "cifar10"])
def test_growth_knows_sides_that_the_preset_can_take(preset):
    config, side = PRESETS[preset], {"mnist": 28, "cifar10": 32}[preset]
    half, one, two = growth.sides(config, side)
    assert (one, two) == (side, 2 * side) and side / 2 <= half < side
    for new in (half, two):
        attention = growth.attends(config, side, new).attention
        with torch.device("meta"):
            network = UNet(new, multipliers=config.multipliers, attention=attention)
        levels = [network.down.sides.index(a) for a in attention]
        with torch.device("meta"):
            network = UNet(side, multipliers=config.multipliers, attention=config.attention)
        assert levels == [network.down.sides.index(a) for a in config.attention]


def test_quality(tmp_path, capsys, monkeypatch, on_digits):
    monkeypatch.setattr(quality, "SAMPLES", 20)
    flags = ["--budget", "5", "--looks", "2", "--out", str(tmp_path), *on_digits]
    trained, fit = [], quality.fit

    def seen(name, network, *rest, **options):
        trained.append(network.architecture["width"])
        return fit(name, network, *rest, **options)

    monkeypatch.setattr(quality, "fit", seen)
    assert benchmark.main(["quality", *flags, "--width", "8"]) == 0
    assert benchmark.main(["quality", *flags]) == 0  # beside those of another width
    *narrow, first, last = read_rows(tmp_path / "quality-cpu.csv").to_dict("records")
    assert [row["width"] for row in (*narrow, first, last)] == [8, 8, 32, 32]
    assert trained == [8, 32]
    assert (first["step"], last["step"], last["images"]) == (3, 5, 5 * 32)
    assert 0 < first["seconds"] < last["seconds"] and last["steps"] == 5
    assert 0 <= last["class_accuracy"] <= 1 and last["n"] == 20
    minutes = f"{last['seconds'] / 60:.1f}"
    assert f"| 32 | 5 | 5 | 160 | {minutes} | " in " ".join(capsys.readouterr().out.split())


def test_the_seconds_to_quality_are_those_of_training_alone(monkeypatch, on_digits):
    """A clock that every loss moves by 1 s and every look by 100 s; the n-th loss is n, and what is
    shown beside a look is the mean since the one before it."""
    now = [0.0]

    def loss(model, x_0, c, generator):
        now[0] += 1
        return 0 * model.out.bias.sum() + now[0] % 100

    def draw(models, guide, c, **_):
        now[0] += 100
        return torch.zeros(len(c), 1, 8, 8)

    monkeypatch.setattr(quality.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(quality, "unet_loss", lambda schedule, config: loss)
    monkeypatch.setattr(quality, "draw", draw)
    judge, _ = load(ROOT / "weights/digits/judge.safetensors")
    config = dataclasses.replace(DIGITS, steps=6, sample_every=2)
    rows = quality.measure(load_data("digits", ""), config, judge)
    assert [row["seconds"] for row in rows] == [2, 4, 6]
    assert [row["loss"] for row in rows] == pytest.approx([1.5, 3.5, 5.5])


def test_quality_is_judged_by_the_averaged_network(monkeypatch, on_digits):
    """Every look draws from the same network object, whose weights are the average's by then."""
    seen = []

    def draw(models, guide, c, **_):
        seen.append([p.clone() for p in models.unet.parameters()])
        assert not models.unet.training
        return torch.zeros(len(c), 1, 8, 8)

    monkeypatch.setattr(quality, "draw", draw)
    judge, _ = load(ROOT / "weights/digits/judge.safetensors")
    config = dataclasses.replace(DIGITS, steps=4, sample_every=2)
    quality.measure(load_data("digits", ""), config, judge)
    assert len(seen) == 2
    assert any(not torch.equal(a, b) for a, b in zip(*seen, strict=True))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["training", "--rounds", "0"], "--rounds must be in 1..1000000, got 0"),
        (["training", "--threads", "-1"], "--threads must be in 0..1024, got -1"),
        (["quality", "--budget", "3"], "--looks must be at most --budget = 3, got 10"),
    ],
)
def test_bad_flags(flags, message, capsys):
    assert benchmark.main(flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_peers_noise_is_the_configurations(schedule, monkeypatch):
    """A contender that trains on another schedule does not do the same work."""
    diffusers = pytest.importorskip("diffusers")
    asked = []
    original = diffusers.DDPMScheduler.add_noise
    monkeypatch.setattr(
        diffusers.DDPMScheduler,
        "add_noise",
        lambda self, *a: asked.append(self.alphas_cumprod) or original(self, *a),
    )
    config = dataclasses.replace(DIGITS, schedule=schedule)
    data = load_data("digits", "")
    peers.diffusers(data, config, "float32", ours(data, config).flops).step()
    expected = Schedule.from_info({"name": schedule, "T": config.T}).alpha_bar[1:]
    assert torch.allclose(asked[0].double(), expected, rtol=0, atol=1e-4)


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(monkeypatch, capsys):
    def missing(*_, **__):
        raise ImportError("No module named 'diffusers'")

    missing.__name__ = "diffusers"
    monkeypatch.setattr(peers, "diffusers", missing)
    monkeypatch.setattr(peers, "lucidrains", lambda *a, target: ours(*a[:2]))
    monkeypatch.setattr(works, "autocast_dtype", lambda *_: torch.bfloat16)
    found = works.contenders(load_data("digits", ""), DIGITS, compiled=False)
    assert len(found) == 3  # ours, and the other peer in two precisions
    assert "without diffusers: No module named 'diffusers'" in capsys.readouterr().out


@pytest.mark.parametrize(("auto", "precisions"), [(None, 1), (torch.bfloat16, 2)])
def test_peers_run_compiled_too_and_in_no_precision_twice(auto, precisions, monkeypatch):
    """Who is asked for what; `compile_network` and `autocast_dtype` have tests of their own."""
    asked = []

    def peer(data, config, precision, target, *, compiled=False):
        asked.append((precision, compiled))
        return Contender("peer", target, 0, lambda: None, lambda n: None)

    monkeypatch.setattr(peers, "diffusers", peer)
    monkeypatch.setattr(peers, "lucidrains", lambda *a, **k: peer(*a, **k))
    monkeypatch.setattr(works, "autocast_dtype", lambda *_: auto)
    monkeypatch.setattr("train.benchmark.ours.compile_network", lambda *_: None)
    works.contenders(load_data("digits", ""), DIGITS, compiled=True)
    plain = [("float32", False), ("auto", False)][:precisions]
    assert asked == [*plain, ("auto", True), *plain]


@pytest.mark.filterwarnings("ignore")  # the peer's own
def test_the_compiled_peer_is_the_one_that_runs(monkeypatch):
    """What stands for the compiler counts the passes through the network that it was given."""
    pytest.importorskip("diffusers")
    calls = []

    def count(network, wanted, device):
        if wanted == "on":
            network.register_forward_hook(lambda *_: calls.append(1))

    monkeypatch.setattr(peers, "compile_network", count)
    data, flops = load_data("digits", ""), ours(load_data("digits", ""), DIGITS).flops
    contender = peers.diffusers(data, DIGITS, "float32", flops, compiled=True)
    contender.step()
    assert contender.name == "diffusers, float32, compiled" and len(calls) == 1
    contender.sample(1)
    assert len(calls) == 51


# -- where a step's time goes ----------------------------------------------------------------------


def test_what_operators_are_counted_as():
    kinds = {
        "convolution_backward.default": "convolution",
        "native_group_norm.default": "norm, activation",
        "silu_backward.default": "norm, activation",
        "_scaled_dot_product_flash_attention_for_cpu.default": "attention",
        "addmm.default": "matrix product",
        "_fused_adamw_.default": "optimiser, clipping",
        "_foreach_norm.Scalar": "optimiser, clipping",
        "_foreach_lerp_.Scalar": "average",
        "upsample_nearest2d.vec": "copy, add, resize",
        "cat.default": "copy, add, resize",
    }
    assert {name: operators.kind(name) for name in kinds} == kinds


def test_the_ledger_of_a_convolution_and_a_sum_by_hand(monkeypatch):
    """2·9·C_in·C_out FLOPs a pixel; 4 bytes for each number that goes in or out, of a view none."""
    ticks = iter([0.25, 0.5, 0.125, 0.0625])

    def clock_of(call, device):
        call()
        return next(ticks)

    monkeypatch.setattr(operators, "duration", clock_of)
    x, kernel = torch.zeros(2, 3, 8, 8), torch.zeros(5, 3, 3, 3)
    with operators.Ledger(torch.device("cpu")) as ledger:
        y = torch.conv2d(x, kernel, padding=1)
        y.view(2, -1)
        torch.add(y, y)  # one tensor that goes in, though twice
        y.mul_(2)  # what goes in comes out
    numbers = x.numel() + kernel.numel() + y.numel()
    assert ledger.spent["convolution"] == [0.25, 2 * 9 * 3 * 5 * 2 * 64, 4 * numbers]
    assert ledger.spent["copy, add, resize"] == [0.6875, 0, 4 * (2 + 1) * y.numel()]


def test_the_rest_of_a_step_lies_between_and_the_best_is_the_slower_limit(monkeypatch):
    """Three rounds of 10, 12 and 8 s, whose products take 2, 1 and 3 s: that of 10 s counts. The
    ledger takes 4 s more of each, which do not."""
    a = torch.zeros(10, 10)

    def clock_of(call, device):
        call()
        return next(inside if call.__name__ == "<lambda>" else whole)

    def step():
        a @ a

    monkeypatch.setattr(operators, "duration", clock_of)
    monkeypatch.setattr(operators, "bandwidth", lambda device: 800.0)
    book = [(0, 2), (20, 1), (40, 3)] * 2  # when each product begins, and its seconds
    clocks = itertools.chain.from_iterable((now, now + s + 4) for now, s in book)  # 4 s of its own
    monkeypatch.setattr(operators.time, "perf_counter", lambda: next(clocks))
    for peak, best in ((1000.0, 2.0), (8000.0, 1.0)):  # 2,000 FLOPs; 800 bytes, a but once
        whole, inside = iter([14.0, 16.0, 12.0]), iter([2.0, 1.0, 3.0])
        rows = {r["name"]: r for r in operators.measure({"x": step}, 3, a.device, peak)}
        product, between = rows["matrix product"], rows["between them"]
        assert (product["ms"], product["share"]) == pytest.approx((2000, 0.2))
        assert (product["MFLOPs"], product["MB"]) == (0.002, 0.0008)
        assert product["best_ms"] == pytest.approx(1000 * best)
        assert (between["ms"], between["share"]) == pytest.approx((8000, 0.8))
        assert between["best_ms"] == 0
        assert sum(r["share"] for r in rows.values()) == pytest.approx(1)


def test_the_bandwidth_counts_what_is_read_and_what_is_written(monkeypatch):
    seconds = iter([0.5, 0.25, 1.0, 1.0, 1.0])
    monkeypatch.setattr(operators, "duration", lambda *_: next(seconds))
    assert operators.bandwidth(torch.device("cpu")) == 2 * 2**28 / 0.25


def test_operators_from_end_to_end(tmp_path, capsys, on_digits):
    flags = ["--rounds", "1", "--n", "2", "--out", str(tmp_path), *on_digits]
    assert benchmark.main(["operators", *flags]) == 0
    rows = read_rows(tmp_path / "operators-cpu.csv")
    training = rows[rows["work"] == "training, batch of 4"].set_index("name")
    sampling = rows[rows["work"] == "sampling, 2 images"].set_index("name")
    assert list(training.index) == [*operators.KINDS, "between them"]
    for own in (training, sampling):
        assert (own["ms"] >= 0).all() and own["share"].sum() == pytest.approx(1, rel=1e-4)
    whole = 4 * 3 * forward_mflops()  # a batch of 4, forwards and twice that backwards
    assert training["MFLOPs"].sum() == pytest.approx(whole, rel=0.05)
    assert sampling["MFLOPs"].sum() == pytest.approx(2 * 2 * forward_mflops(), rel=0.02)
    assert all(
        training["ms"][k] > 0 == sampling["ms"][k] for k in ("average", "optimiser, clipping")
    )
    assert "| training, batch of 4 | convolution |" in " ".join(capsys.readouterr().out.split())
