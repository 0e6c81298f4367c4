"""Several processes, as torchrun starts them: two of them on the CPU, talking by gloo."""

import contextlib
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
import torch
from helpers import files, losses
from torch.distributed import TCPStore
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from ddpm import ddim, linear_schedule, q_sample
from guidance.app import guides
from guidance.app.draw import draw
from guidance.app.models import load_models
from train import __main__ as command
from train import outcome, ranks, torchrun
from train.config import PRESETS, Config, parser
from train.data import Dataset
from train.evaluate import __main__ as evaluate
from train.evaluate.results import read_rows
from train.loop import Diverged, Interrupted, fit
from train.objectives import unet_loss
from train.state import load_state
from train.training import Training
from unet import UNet

ROOT = Path(__file__).parents[2]
TINY = """
    --width 8 --blocks 1 --batch-size 8 --warmup 2 --T 60 --judge-width 4 --sampling-steps 2
    --log-every 3 --sample-every 5 --device cpu
""".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def one_thread():
    """As the ranks: sums over other numbers of threads differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def in_ranks(work, *args, world=2):
    """work(*args) in each of several processes, in torchrun's environment.

    Returns their exit codes, and what they have said to stdout and stderr, all together.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun's
    where = Path(args[-1])
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "x"}
    env |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    env |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    processes = []
    for k in range(world):
        own = env | {"RANK": str(k), "LOCAL_RANK": str(k)}
        processes.append(forked.start(work, *args, said=where.parent / str(k), env=own))
    for process in processes:
        process.join(300)
        process.kill()
    said = [
        "".join((where.parent / f"{k}.{kind}").read_text() for k in range(world))
        for kind in ("out", "err")
    ]
    return [process.exitcode for process in processes], *said


def joined(work, run):
    """work(run) inside of a group; what it gives is kept in run/rank-R.pt."""

    def inside(flags):
        ranks.join("cpu")
        run.mkdir(exist_ok=True)
        torch.save(work(run), run / f"rank-{ranks.rank()}.pt")
        return 0

    return torchrun.command(parser(), [], inside)


def left(run, rank):
    return torch.load(run / f"rank-{rank}.pt", weights_only=True)


def images(n=40):
    x = torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(5))
    x, c = x.to(torch.uint8), torch.arange(n) % 10
    return Dataset("x", x, c, x, c, [str(k) for k in range(10)])


def network(**changes):
    torch.manual_seed(3)
    return UNet(
        **{
            **{"size": 8, "channels": 1, "classes": 10, "width": 8, "blocks": 1},
            "attention": (4,),
            **changes,
        }
    )


# -- gradients -------------------------------------------------------------------------------------


def one_step(run):
    """The gradients after a step of training in float64, and all that was drawn for it."""
    found = {}
    for clip in (1e9, 0.01):
        drawn = []

        def loss(model, x_0, c, generator, drawn=drawn):
            t = torch.randint(1, 1001, c.shape, generator=generator)
            eps = torch.randn(x_0.shape, generator=generator)
            drawn += [x_0, c, t, eps]
            return error(model, x_0, c, t, eps)

        config = Config(batch_size=8, grad_clip=clip)
        training = Training(network(dropout=0.0).double(), config, torch.device("cpu"), 10)
        training.update(loss, images())
        found[clip] = drawn, [p.grad for p in training.model.parameters()]
    return found


def error(model, x_0, c, t, eps):
    x_t = q_sample(linear_schedule(), x_0.double(), t, eps)
    return (model(x_t, t, c) - eps).square().mean()


def test_the_gradient_of_the_split_batch_is_that_of_the_whole(tmp_path):
    """One process on what the ranks have drawn, all of it in one batch, clipped as one."""
    codes, _, err = in_ranks(joined, one_step, tmp_path / "r")
    assert codes == [0, 0], err
    found = [left(tmp_path / "r", rank) for rank in (0, 1)]
    for clip, shrunk in ((1e9, False), (0.01, True)):
        drawn = [torch.cat(parts) for parts in zip(*(f[clip][0] for f in found), strict=True)]
        assert len(drawn[0]) == 8
        for one, two in zip(*(f[clip][0] for f in found), strict=True):  # each from its own stream
            assert not torch.equal(one, two)
        model = network(dropout=0.0).double()
        error(model, *drawn).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        assert (norm > clip) == shrunk
        for p, *grads in zip(model.parameters(), *(f[clip][1] for f in found), strict=True):
            # sums of some 10⁴ terms in another order, and clipping's 1e-6 beside the norm
            expected = p.grad * (clip / (norm + 1e-6)) if shrunk else p.grad
            assert torch.equal(*grads)
            assert_close(grads[0], expected, rtol=0, atol=1e-12 * float(norm))


# -- the loop --------------------------------------------------------------------------------------


def trained(run, at=None, event=lambda: 1.0, batch_size=8):
    """A run of ten steps, with an event at one of the last rank's: the factor of its loss."""
    run.mkdir(exist_ok=True)
    plain = unet_loss(linear_schedule(), Config())
    calls, last = 0, [torch.zeros(())]

    def loss(*args):
        nonlocal calls
        calls += 1
        value = plain(*args)
        last[0] = value.detach()
        return value * (event() if calls == at and ranks.rank() == ranks.world() - 1 else 1)

    config = Config(batch_size=batch_size, warmup=2, log_every=3, sample_every=4)
    training = fit("unet", network(dropout=0.1), loss, images(), config, 10, run=run)
    models = training.averaged, training.model
    return [*(list(model.state_dict().values()) for model in models), last]


def ctrl_c():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)  # torchrun's own, on top of the terminal's
    return 1.0


def three_runs(run):
    """One undisturbed, one interrupted and taken up again, one in which rank 1 diverges."""
    found = {"whole": trained(run / "whole"), "streams": torch.get_rng_state()}
    with contextlib.suppress(Interrupted):
        trained(run / "halved", 5, ctrl_c)
    torch.manual_seed(99)  # what would be lost if dropout's stream were not in the state
    ranks.barrier()
    if ranks.rank() == 0:
        shutil.copytree(run / "halved", run / "half")
    ranks.barrier()
    found["halved"] = trained(run / "halved")
    with contextlib.suppress(Diverged):
        trained(run / "diverged", 6, lambda: float("nan"))
        found["diverged"] = "no"
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    run = tmp_path_factory.mktemp("ranks") / "r"
    codes, _, err = in_ranks(joined, three_runs, run)
    assert codes == [0, 0], err
    return run


def equal(one, two):
    return all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y))  # noqa: B905


def test_ranks_end_with_the_same_weights_and_streams_of_their_own(runs):
    one, two = left(runs, 0), left(runs, 1)
    assert equal(one["whole"][:2], two["whole"][:2])
    assert not equal(one["whole"][:1], one["whole"][1:2])  # averaged, raw
    assert not torch.equal(one["streams"], two["streams"])
    state = torch.load(runs / "whole" / "unet.state", weights_only=True)
    assert state["model"].keys() == network().state_dict().keys()  # no "module."
    assert len(state["others"]) == 1
    assert not torch.equal(state["generator"], state["others"][0]["generator"])


def test_the_loss_in_the_log_is_the_mean_over_the_ranks(runs):
    last = [float(left(runs, rank)["whole"][2][0]) for rank in (0, 1)]
    assert last[0] != last[1] and losses(runs / "whole")[-1][2] == sum(last) / 2


def test_an_interrupted_run_of_two_ranks_ends_where_the_whole_one_does(runs):
    """Only rank 1 hears the signals; both stop at that step, and end bit for bit."""
    assert torch.load(runs / "half" / "unet.state", weights_only=True)["step"] == 5
    for rank in (0, 1):
        assert equal(left(runs, rank)["whole"], left(runs, rank)["halved"])
    assert losses(runs / "halved") == losses(runs / "whole")
    assert [step for _, step, _ in losses(runs / "whole")] == [3, 6, 9, 10]


def test_ranks_diverge_together(runs):
    assert "diverged" not in left(runs, 0) and "diverged" not in left(runs, 1)
    assert torch.load(runs / "diverged" / "unet.state", weights_only=True)["step"] == 4


def lost(run):
    return trained(run, 6, lambda: os.kill(os.getpid(), signal.SIGKILL), batch_size=9)


def test_a_rank_that_is_killed_ends_the_others_with_one_message(tmp_path):
    begin = time.monotonic()
    codes, _, err = in_ranks(joined, lost, tmp_path / "r", world=3)
    assert time.monotonic() - begin < 30
    assert codes[2] == -signal.SIGKILL and sorted(codes[:2]) == [1, 2]
    message = "error: another of the 3 processes is gone or does not answer; what has been saved"
    assert err.count(message) == err.count("error:") == 1 and "Traceback" not in err, err
    assert torch.load(tmp_path / "r" / "unet.state", weights_only=True)["step"] == 4


def test_another_number_of_ranks_goes_on_with_new_random_numbers(runs, capsys):
    state = torch.load(runs / "half" / "unet.state", weights_only=True)
    totals = [float(stream["total"]) for stream in (state, *state["others"])]
    training = Training(network(dropout=0.1), Config(), torch.device("cpu"), 10)
    load_state(runs / "half" / "unet.state", training, 0)
    assert (training.step, training.count) == (5, 2) and totals[0] != totals[1]
    assert_close(float(training.total), sum(totals) / 2)
    assert training.generator.initial_seed() == 5  # step 5 of seed 0
    error = capsys.readouterr().err
    assert "saved by 2 processes: by 1 the run goes on with new random numbers" in error


# -- sampling --------------------------------------------------------------------------------------

GUIDE, SAMPLER = guides.classifier_free(1.0), functools.partial(ddim, steps=3)
LABELS = torch.arange(11) % 10


def in_parts(batch_size, only):
    models = load_models(ROOT / "weights/digits")
    return draw(models, GUIDE, LABELS, 7, sampler=SAMPLER, batch_size=batch_size, only=only)


def drawn_by_ranks(run):
    return ranks.in_order(in_parts(1, slice(ranks.rank(), None, ranks.world())))


def test_split_sampling_draws_the_same(tmp_path):
    """Bit for bit, each image in a batch of its own: in other batches a network rounds otherwise,
    and 1/√ᾱ_T magnifies that a thousand times in the first of three steps."""
    codes, _, err = in_ranks(joined, drawn_by_ranks, tmp_path / "r")
    assert codes == [0, 0], err
    x = left(tmp_path / "r", 0)
    assert torch.equal(x, in_parts(1, slice(None)))
    assert torch.equal(x, ranks.in_order(x))  # of one rank
    assert len(left(tmp_path / "r", 1)) == 5


def test_samplers_that_draw_noise_draw_other_noise_on_each_rank(monkeypatch):
    models = load_models(ROOT / "weights/digits")
    monkeypatch.setattr(type(models), "noise", lambda self, n, g: torch.zeros(n, 1, 8, 8))
    c, sampler = torch.tensor([3, 3]), functools.partial(ddim, steps=3, eta=1.0)
    one, two = (
        draw(models, GUIDE, c, 7, sampler=sampler, batch_size=1, only=slice(k, None, 2))
        for k in (0, 1)
    )
    assert len(one) == len(two) == 1 and not torch.equal(one, two)


# -- the command -----------------------------------------------------------------------------------


def train(*flags):
    if os.environ.get("RANK", "0") != "0":  # only the first may write
        command.save = command.report = outcome.report = os.fsync = None
    return command.main([*TINY, "--out", str(flags[-1]), *flags[:-1]])


def test_two_ranks_write_what_one_does_and_say_it_once(tmp_path, monkeypatch):
    flags = ("--steps", "6", "--classifier-steps", "4", "--judge-steps", "3")
    codes, out, err = in_ranks(train, *flags, tmp_path / "two")
    assert codes == [0, 0], err
    assert out.count("class accuracy at w = 1: ") == out.count("images on cpu") == 1
    assert "Warning" not in err
    expected = [("unet", 3), ("unet", 6), ("classifier", 3), ("classifier", 4), ("judge", 3)]
    assert [(phase, step) for phase, step, _ in losses(tmp_path / "two")] == expected
    assert train(*flags, tmp_path / "one") == 0
    assert files(tmp_path / "two") == files(tmp_path / "one")
    # one process under torchrun is the plain run
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert train(*flags, tmp_path / "alone") == 0
    for name in files(tmp_path / "one") - {"log.jsonl", "config.json"}:
        if not name.endswith((".state", ".previous")):  # zip files with the time in them
            a, b = (tmp_path / run / name for run in ("one", "alone"))
            assert a.read_bytes() == b.read_bytes(), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--batch-size 7", "--batch-size must be divisible by the 2 processes, got 7"),
        ("--nonsense 3", "unrecognized arguments: --nonsense 3 (--help shows every flag)"),
        ("--width 12", "width a multiple of 8"),
        ("--device mps", "--device must be auto, cuda or cpu under torchrun, got mps"),
        (f"--out {ROOT}", "holds another run; --resume goes on"),  # which rank 0 alone looks at
    ],
)
def test_what_is_wrong_is_said_once(flags, message, tmp_path):
    codes, _, err = in_ranks(train, *flags.split(), tmp_path / "r")
    assert codes[0] == 2 and codes[1] in (1, 2), err
    assert err.count("\n") == 1 and message in err and err.startswith("python -m train: error: ")
    assert not (tmp_path / "r").exists()


# -- the estimate of docs/training.md --------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset", "width", "operators"), [
    ("mnist", "mnist", 32, 380),
    ("cifar10", "cifar10", 64, 800),
    ("cifar10, width 136", "cifar10", 136, 800),
])  # fmt: skip
def test_the_estimate_follows_from_its_formula_and_the_networks(name, preset, width, operators):
    config, size = PRESETS[preset], {"mnist": 28, "cifar10": 32}[preset]
    names = ("multipliers", "blocks", "attention")
    shape = {"size": size, "channels": 1 if preset == "mnist" else 3, "classes": 10, "width": width}
    with torch.device("meta"):
        model = UNet(**shape, **{n: getattr(config, n) for n in names})
        x, t = torch.zeros(1, shape["channels"], size, size), torch.ones(1, dtype=torch.long)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x, t, t)
    flops, gradient = counter.get_total_flops(), 4 * sum(p.numel() for p in model.parameters())
    buckets = 1 + math.ceil((gradient - 2**20) / (25 * 2**20))

    def step(images):
        return max(3 * flops * images / 40e12, operators * 10e-6)

    B = config.batch_size
    cells = [name, f"{flops / 1e6:,.0f}", f"{gradient / 1e6:.1f}", f"{B}", f"{step(B) * 1e3:.1f}"]
    for N, W, latency, digits in ((8, 300e9, 30e-6, 1), (64, 40e9, 150e-6, 0)):
        reduce = 2 * (N - 1) / N * gradient / W + buckets * latency
        cells.append(f"{reduce * 1e3:.2f}")
        cells.append(f"{N * step(B) / (step(B) + reduce):.{digits}f}")
        cells.append(f"{step(B) / (step(B / N) + reduce):.1f}")
    assert f"| {' | '.join(cells)} |" in (ROOT / "docs/training.md").read_text()


# -- torchrun itself -------------------------------------------------------------------------------


def test_ctrl_c_to_torchrun_saves_the_state(tmp_path):
    run = tmp_path / "r"
    flags = [*TINY, "--steps", "100000", "--log-every", "5", "--sample-every", "100000"]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.Popen(
        [*start, "-m", "train", *flags, "--out", run], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    end = time.monotonic() + 60
    while not (run / "log.jsonl").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode != 0
    go_on = f"torchrun --nproc-per-node=2 -m train --preset digits --out {run} --resume"
    assert error.count("interrupted; the state is in") == error.count(go_on) == 1, error
    assert torch.load(run / "unet.state", weights_only=True)["step"] >= 5


def evaluated(flags, where):
    return evaluate.main([*flags, "--out", str(where)])


def test_evaluation_by_two_ranks_is_one_line_and_the_same_numbers(tmp_path, monkeypatch, capsys):
    """To six digits, as they are written: each number of the one row, not its text."""
    flags = "--weights weights/digits --n 20 --steps 2 --batch-size 5 --device cpu".split()  # noqa: SIM905
    monkeypatch.chdir(ROOT)
    codes, out, err = in_ranks(evaluated, flags, tmp_path / "two.csv")
    assert codes == [0, 0], err
    assert evaluated(flags, tmp_path / "one.csv") == 0
    assert out.replace("two.csv", "one.csv") == capsys.readouterr().out
    one, two = (read_rows(tmp_path / f"{name}.csv").iloc[0].to_dict() for name in ("one", "two"))
    assert one.keys() == two.keys() and len(one) > 20
    for key, value in one.items():
        same = value if isinstance(value, str) else pytest.approx(value, rel=1e-5, nan_ok=True)
        assert two[key] == same, key
