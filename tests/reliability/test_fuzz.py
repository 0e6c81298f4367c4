"""Every public function and every flag, given what it should not get.

Each call either works, and gives finite numbers of the shape that is documented, or it is refused:
never a silent wrong answer, never a hang. What torch would let pass in silence (shapes that
broadcast, an integer image, a label or t out of range, a mask where labels belong, NaN in a number,
a start below the stop) is refused by a ValueError or TypeError that names an argument. What torch
refuses by itself (meta tensors, complex numbers, float8, texts, 10**400) it may refuse in its own
words. On the command line everything is one line that names the flag, and exit code 2.

What is put in by kind of argument: numbers that are out of range, NaN, ±inf, huge, tensors, texts,
None; integers that are negative, fractional, 10⁹ or 10³⁰; tensors of other shapes, types, devices
(meta stands for an accelerator), empty, or no tensors at all. Taken on trust, and not fuzzed: that
a schedule, a model or a generator is one and a predictor can be called, and that images are of a
magnitude (≤ 10³) that float32 can square.

FUZZ=n multiplies the number of cases.
"""

import contextlib
import functools
import io
import math
import os
import re
import tempfile
from typing import NamedTuple

import pytest
import torch
from commands import PARSERS
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tally import COUNT

import ddpm
import guidance
import unet
from ddpm import cosine_schedule
from guidance.__main__ import main as guidance_main
from guidance.app import guides
from guidance.app.draw import draw, window
from guidance.app.flags import read
from guidance.app.models import Models, load_models
from train.__main__ import main as train_main
from train.benchmark import __main__ as benchmark
from train.config import Config
from train.data import load_data
from train.evaluate import metrics
from train.evaluate.__main__ import main as evaluate_main
from train.experiments import __main__ as experiments

settings.register_profile(
    "fuzz",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")


def cases(n):
    return settings(max_examples=n * int(os.environ.get("FUZZ", "1")))


# -- kinds of argument: a few good values, many bad ones -------------------------------------------

INF = math.inf
ODD = [None, "abc", "", [], {}, (1,), object(), b"x", 1j, torch, "ε" * 50]
REALS = [0, 1, -1, 0.5, 2.0, -3.5, 1e-9, 1e-300, 1e300, 10**400, math.nan, INF, -INF, True, "1"]
WHOLE = [0, 1, 2, 3, -1, 7, 2.0, 0.5, 10**6, 10**9, 10**12, 10**30, math.nan, INF, True, "3"]
SOME = [
    torch.tensor(1.5),
    torch.tensor([1.0, 2.0, 0.5]),
    torch.tensor([1.0, math.nan, 0.5]),
    torch.tensor([1.0, 2.0]),
    torch.tensor([]),
    torch.zeros(3, 1),
    torch.tensor([1, 0, 2]),
    torch.tensor([3, 99, -1]),
    torch.tensor([True, False, True]),
    torch.tensor([1j, 2, 3]),
    torch.zeros(3, device="meta"),
]


def grid(*shape, dtype=torch.float32, seed=0):
    """Images on the grid of 256 levels in [-1, 1]."""
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return (values.double() / 127.5 - 1).to(dtype)


IMAGES = [
    grid(3, 1, 8, 8, seed=1),
    grid(3, 1, 8, 8, dtype=torch.float64),
    grid(3, 1, 8, 8, dtype=torch.bfloat16),
    1e3 * grid(3, 1, 8, 8),
    grid(3, 1, 8, 8) * math.nan,
    grid(3, 1, 8, 8) * INF,
    grid(0, 1, 8, 8),
    grid(2, 1, 8, 8),
    grid(3, 2, 8, 8),
    grid(3, 1, 8, 4),
    grid(3, 64),
    grid(3),
    torch.tensor(1.0),
    torch.zeros(3, 1, 8, 8, dtype=torch.int64),
    torch.zeros(3, 1, 8, 8, dtype=torch.bool),
    torch.zeros(3, 1, 8, 8, dtype=torch.complex64),
    torch.zeros(3, 1, 8, 8).to(torch.float8_e4m3fn),
    torch.zeros(3, 1, 8, 8, device="meta"),
    grid(3, 1, 8, 8).numpy(),
    grid(3, 1, 8, 8).tolist(),
]
TIMES = [
    torch.tensor([1, 10, 20]),
    torch.tensor([1, 10, 20], dtype=torch.int32),
    torch.tensor([0, 10, 20]),
    torch.tensor([-1, 10, 20]),
    torch.tensor([1, 10, 21]),
    torch.tensor([1, 10, 2**62]),
    torch.tensor([1.0, 2.0, math.nan]),
    torch.tensor([1, 2]),
    torch.tensor([[1], [2], [3]]),
    torch.tensor(3),
    torch.tensor([], dtype=torch.int64),
    torch.tensor([True, True, True]),
    torch.tensor([1, 2, 3], dtype=torch.uint8),
    torch.ones(3, dtype=torch.int64, device="meta"),
    5,
    [1, 2, 3],
]
KIND = {
    "real": st.sampled_from([*REALS, *ODD, *SOME])
    | st.floats(-1e6, 1e6)
    | st.integers(-(10**20), 10**20),
    "count": st.sampled_from([*WHOLE, *ODD, *SOME]) | st.integers(-5, 30),
    "label": st.sampled_from([*WHOLE, *ODD, *SOME]) | st.integers(-5, 12),
    "images": st.sampled_from([*IMAGES, *ODD]),
    "times": st.sampled_from([*TIMES, *ODD]),
    "labels": st.sampled_from([*SOME, *TIMES, *ODD]),
    "name": st.sampled_from(["beta", "posterior", "linear", "cosine", "none", 7, *ODD]),
    "clip": st.sampled_from(
        [
            None,
            (-1, 1),
            (1, -1),
            (0, 0),
            (-INF, INF),
            (math.nan, 1),
            ("a", "b"),
            (1,),
            3,
            "ab",
            (None, 1),
            [-1, 1],
            (-1, 0, 1),
            (torch.zeros(2), torch.ones(2)),
        ]
    ),
    "steps": st.sampled_from(
        [
            None,
            1,
            5,
            20,
            21,
            0,
            -1,
            10**9,
            2.5,
            math.nan,
            "abc",
            [],
            [20, 10, 1],
            [1, 2],
            [21],
            [0],
            [20, 20],
            [2.5],
            ["a"],
            [None],
            torch.tensor(5),
            torch.tensor([9, 3]),
            {},
            iter([3, 2]),
            range(20, 0, -5),
            range(10**9, 0, -1),
        ]
    ),
    "generator": st.sampled_from(
        [torch.Generator(), *([torch.Generator()] * n for n in range(5)), *ODD]
    ),
    "places": st.sampled_from(
        [
            slice(None),
            slice(1, None, 2),
            slice(9, 2),
            slice(0, 3, -1),
            slice("a"),
            range(2),
            *SOME,
            *ODD,
        ]
    )
    | st.lists(st.integers(-2, 4), max_size=4),
    "numbers": st.sampled_from([*IMAGES, *SOME, *ODD, [0.1, 0.2], [0.0], [1.0], [math.nan], 0.5])
    | st.lists(st.floats(), max_size=4),
    "list": st.sampled_from([*ODD, (1, 2), (0,), (1.5,), ("a",), (10**30,), (4,), (8, 4), (True,)])
    | st.lists(st.integers(-2, 99), max_size=10).map(tuple),
    "features": st.sampled_from([*IMAGES, *SOME, *ODD, grid(9, 4), grid(1, 4), grid(9, 5)]),
    "plain": st.sampled_from([*ODD, *REALS, {"name": "x"}, {"a": torch.ones(2)}, {1: 2}])
    | st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3),
}

# -- what is called --------------------------------------------------------------------------------

SCHEDULE = cosine_schedule(20)
X, T = grid(3, 1, 8, 8), torch.tensor([1, 10, 20])
TINY = {"size": 8, "width": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "classes": 4}
torch.manual_seed(0)
UNET, P_PHI = unet.UNet(**TINY).eval(), unet.NoisyClassifier(**TINY).eval()
JUDGE = unet.Judge(8, 1, 4, 4).eval()
MODELS = Models(UNET, P_PHI, SCHEDULE, list("abcd"), {})
TWO_STEPS = functools.partial(ddpm.ddim, steps=2)
MIXTURE = ddpm.GaussianMixture(grid(4, 1, 8, 8), torch.ones(4))


def eps(x_t, t, c=None):
    return 0.1 * x_t


def last(process):
    *_, step = process
    return step.x, step.x_0


def built(kind, **arguments):
    with torch.device("meta"):  # a large network is as good as a small one
        kind(**arguments)


def guided(make, **arguments):
    """A guidance, and what it answers: two images' worth of work."""
    return make(**arguments)(X, T)


def saved(model, info):
    with tempfile.TemporaryDirectory() as directory:
        unet.save(f"{directory}/x.safetensors", model, info)
        unet.load(f"{directory}/x.safetensors")


class Target(NamedTuple):
    """call(**arguments), what each of them is good for, and of what kind it is."""

    call: object
    good: dict
    kinds: dict
    finite: bool = True  # whether good-natured input gives finite numbers


def schedule_of(**info):
    return ddpm.Schedule.from_info(info).posterior_variance


NETWORK = {
    "size": ("count", 8),
    "channels": ("count", 1),
    "classes": ("count", 4),
    "width": ("count", 8),
    "multipliers": ("list", (1, 2)),
    "blocks": ("count", 1),
    "attention": ("list", (4,)),
    "dropout": ("real", 0.0),
}


def target(call, **arguments):
    """Arguments as name=(kind, good value)."""
    return Target(
        call, {k: v for k, (_, v) in arguments.items()}, {k: v for k, (v, _) in arguments.items()}
    )


IMAGE, TIME, NOISE = ("images", X), ("times", T), ("images", 0.5 * X)
TARGETS = {
    "Schedule": target(lambda beta: ddpm.Schedule(beta).alpha_bar, beta=("numbers", [0.1, 0.2])),
    "Schedule.from_alpha_bar": target(
        lambda alpha_bar: ddpm.Schedule.from_alpha_bar(alpha_bar).posterior_variance,
        alpha_bar=("numbers", [0.9, 0.5]),
    ),
    "Schedule.from_info": target(
        schedule_of, name=("name", "cosine"), T=("count", 10), s=("real", 0.008)
    ),
    "Schedule.from_info of no dict": target(
        lambda info: ddpm.Schedule.from_info(info), info=("plain", {"name": "cosine", "T": 5})
    ),
    "linear_schedule": target(
        lambda **a: ddpm.linear_schedule(**a).posterior_variance,
        T=("count", 10), beta_1=("real", 0.1), beta_T=("real", 0.2),
    ),
    "cosine_schedule": target(
        lambda **a: ddpm.cosine_schedule(**a).posterior_variance,
        T=("count", 10), s=("real", 0.008),
    ),
    "timesteps": target(ddpm.timesteps, T=("count", 20), S=("count", 5)),
    "q_sample": target(
        lambda **a: ddpm.q_sample(SCHEDULE, **a), x_0=IMAGE, t=TIME, eps=NOISE
    ),
    "q_posterior": target(
        lambda **a: ddpm.q_posterior(SCHEDULE, **a), x_0=IMAGE, x_t=NOISE, t=TIME
    ),
    "predict_x_0": target(
        lambda **a: ddpm.predict_x_0(SCHEDULE, **a), x_t=IMAGE, t=TIME, eps=NOISE
    ),
    "reverse_mean": target(
        lambda **a: ddpm.reverse_mean(SCHEDULE, **a), x_t=IMAGE, t=TIME, eps=NOISE
    ),
    "simple_loss": target(lambda x_0: ddpm.simple_loss(SCHEDULE, eps, x_0), x_0=IMAGE),
    "variational_bound": target(
        lambda **a: ddpm.variational_bound(SCHEDULE, eps, **a).total,
        x_0=IMAGE, variance=("name", "beta"), levels=("count", 256),
    ),
    "ancestral": target(
        lambda **a: last(ddpm.ancestral(SCHEDULE, eps, **a)),
        x_T=IMAGE, steps=("steps", 5), clip=("clip", (-1, 1)), variance=("name", "beta"),
        generator=("generator", None),
    ),
    "ddim": target(
        lambda **a: last(ddpm.ddim(SCHEDULE, eps, **a)),
        x_T=IMAGE, steps=("steps", 5), clip=("clip", (-1, 1)), eta=("real", 0.0),
        generator=("generator", None),
    ),
    "dpm_solver": target(
        lambda **a: last(ddpm.dpm_solver(SCHEDULE, eps, **a)),
        x_T=IMAGE, steps=("steps", 5), clip=("clip", (-1, 1)), generator=("generator", None),
    ),
    "GaussianMixture": target(
        lambda **a: ddpm.GaussianMixture(**a).sample(3),
        mean=("images", grid(4, 2)), covariance=("numbers", torch.ones(4)),
        weight=("numbers", torch.ones(4)),
    ),
    "GaussianMixture.sample": target(MIXTURE.sample, n=("count", 3)),
    "GaussianMixture.log_prob": target(
        lambda **a: MIXTURE.log_prob(SCHEDULE, **a), x_t=IMAGE, t=TIME, c=("labels", None)
    ),
    "GaussianMixture.log_posterior": target(
        lambda **a: MIXTURE.log_posterior(SCHEDULE, **a), x_t=IMAGE, t=TIME
    ),
    "GaussianMixture.eps": target(
        MIXTURE.eps(SCHEDULE), x_t=IMAGE, t=TIME, c=("labels", None)
    ),
    "UNet": target(lambda **a: built(unet.UNet, **a), **NETWORK),
    "NoisyClassifier": target(lambda **a: built(unet.NoisyClassifier, **a), **NETWORK),
    "Judge": target(
        lambda **a: built(unet.Judge, **a), **{k: NETWORK[k] for k in [*NETWORK][:4]}
    ),
    "UNet.forward": target(UNET, x_t=IMAGE, t=TIME, c=("labels", None)),
    "NoisyClassifier.forward": target(P_PHI, x_t=IMAGE, t=TIME),
    "Judge.forward": target(lambda x_t: JUDGE(x_t), x_t=IMAGE),
    "save": target(saved, model=("plain", UNET), info=("plain", {"data": "x"})),
    "load": target(lambda path: unet.load(path), path=("name", "nothing.safetensors")),
    "load_models": target(
        lambda directory: load_models(directory), directory=("name", "nothing")
    ),
    "classifier_free_guidance": target(
        lambda **a: guided(guidance.classifier_free_guidance, eps=eps, **a),
        c=("label", 1), w=("real", 2.0), null=("count", 4), start=("real", None), stop=("real", 0),
    ),
    "negative_guidance": target(
        lambda **a: guided(guidance.negative_guidance, eps=eps, **a),
        positive=("label", 1), negative=("label", 2), w=("real", 2.0), null=("count", 4),
        start=("real", None), stop=("real", 0),
    ),
    "classifier_guidance": target(
        lambda scale, y: guided(
            guidance.classifier_guidance, eps=eps, schedule=SCHEDULE, scale=scale,
            log_prob=guidance.class_log_prob(P_PHI, y),
        ),
        scale=("real", 1.0), y=("label", 1),
    ),
    "classifier_mean_shift": target(
        lambda scale: guided(
            guidance.classifier_mean_shift, scale=scale, log_prob=guidance.class_log_prob(P_PHI, 1)
        ),
        scale=("real", 1.0),
    ),
    "posterior_negative_guidance": target(
        lambda **a: guided(
            guidance.posterior_negative_guidance, eps=eps,
            log_prob=guidance.class_log_prob(P_PHI, 2), **a,
        ),
        negative=("label", 2), positive=("label", 1), null=("count", 4), scale=("real", 1.0),
        p_max=("real", 0.9),
    ),
    "drop_labels": target(
        guidance.drop_labels, c=("labels", torch.tensor([0, 1, 2])), p_uncond=("real", 0.5),
        null=("count", 4),
    ),
    "window": target(
        window, T=("count", 20), S=("count", 5), start_step=("count", 1), stop_step=("count", 3)
    ),
    "guides.negative": target(
        lambda c, **a: draw(MODELS, guides.negative(**a), c, 0, sampler=TWO_STEPS),
        c=("labels", torch.tensor([0, 1, 2])), negative=("label", 2), w=("real", 1.0),
        start=("real", None), stop=("real", 0),
    ),
    "guides.classifier": target(
        lambda c, **a: draw(MODELS, guides.classifier(**a), c, 0, sampler=TWO_STEPS),
        c=("labels", torch.tensor([0, 1, 2])), scale=("real", 1.0),
    ),
    "guides.posterior_negative": target(
        lambda c, **a: draw(MODELS, guides.posterior_negative(**a), c, 0, sampler=TWO_STEPS),
        c=("labels", torch.tensor([0, 1, 2])), negative=("label", 2), scale=("real", 1.0),
    ),
    "draw": target(
        lambda **a: draw(MODELS, guides.classifier_free(1.0), sampler=TWO_STEPS, **a),
        c=("labels", torch.tensor([0, 1, 2])), seed=("count", 0), batch_size=("count", 2),
        only=("places", slice(None)),
    ),
    "frechet_distance": target(
        metrics.frechet_distance, real=("features", grid(8, 4)), features=("features", grid(9, 4))
    ),
    "inception_score": target(metrics.inception_score, logits=("features", grid(8, 4))),
    "precision_recall": target(
        metrics.precision_recall, real=("features", grid(8, 4)), features=("features", grid(9, 4)),
        k=("count", 3),
    ),
    "diversity": target(
        metrics.diversity, features=("features", grid(3, 4)), c=("labels", torch.tensor([1, 1, 0]))
    )._replace(finite=False),  # NaN where no class has two images
    "kl_to_uniform": target(
        metrics.kl_to_uniform, classes=("labels", torch.tensor([1, 1, 0])), removed=("count", 1),
        K=("count", 4),
    ),
    "flags": target(
        lambda **a: read(Config, a) and None,
        **{k: ("plain" if isinstance(v, str) else "real", v) for k, v in vars(Config()).items()},
    ),
}  # fmt: skip


def numbers(out):
    """The floats in what a call gave."""
    if isinstance(out, torch.Tensor):
        return [out.double()] if out.is_floating_point() and not out.is_meta else []
    if isinstance(out, float):
        return [torch.tensor(out)]
    return [n for part in out for n in numbers(part)] if isinstance(out, (tuple, list)) else []


def is_finite(value):
    if isinstance(value, torch.Tensor) and not value.is_meta:
        return bool(value.to(torch.complex128).isfinite().all())
    return True


# torch's own words, and a file that is not there
REFUSALS = (ValueError, TypeError, RuntimeError, IndexError, OverflowError, FileNotFoundError)


def ordinary(value):
    """A number, or a tensor of them with values: what torch would compute with."""
    if isinstance(value, torch.Tensor):
        strange = value.is_meta or value.is_complex() or value.dtype == torch.float8_e4m3fn
        return not strange
    return (isinstance(value, (int, float)) and abs(value) < 10**18) or value is None


@pytest.mark.parametrize("name", TARGETS)
@cases(7)
@given(data=st.data())
def test_functions(name, data):
    call, good, kinds, finite = TARGETS[name]
    changed = data.draw(st.lists(st.sampled_from(list(good)), min_size=1, max_size=2, unique=True))
    arguments = {**good, **{key: data.draw(KIND[kinds[key]], label=key) for key in changed}}
    COUNT["functions: tried"] += 1
    try:
        with torch.no_grad():
            out = call(**arguments)
    except REFUSALS as error:
        COUNT["functions: refused"] += 1
        if all(ordinary(arguments[key]) for key in changed):
            assert isinstance(error, (ValueError, TypeError, RuntimeError, OSError)), repr(error)
            if isinstance(error, (RuntimeError, OSError)):
                return  # a type that torch does not multiply with another; a file that is not there
            # A flag stands for its argument, and x_t for the x_T that it began as.
            said = str(error).replace("-", "_").replace("x_t", "x_T x_t").replace("y must", "c y")
            assert any(key in said for key in [*good, "PathLike"]), (
                f"{error!r} names none of {[*good]}"
            )
        return
    COUNT["functions: worked"] += 1
    assume(
        all(is_finite(v) if not getattr(v, "is_meta", False) else True for v in arguments.values())
    )
    for values in numbers(out) if finite else []:
        assert bool(values.isfinite().all()), f"{name} gives {values} for {arguments}"


# -- command lines ---------------------------------------------------------------------------------

TEXTS = [
    "",
    "0",
    "-1",
    "1",
    "3",
    "2.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e30",
    "abc",
    "1,2",
    "1,,2",
]
TEXTS += [
    "9" * 30,
    "9" * 5000,
    "1000000000000",
    "1_0",
    "ε",
    "0x10",
    "--",
    "-",
    ",",
    "null",
    "None",
    "a,b",
]
TEXTS += [" ", "0,0,0,99", "cpu", "cuda:99", "meta", "ddim", "beta", ",".join(["1"] * 3000)]
TEXTS += ["5", "20", "64", "0.5", "1e-3", "auto", "float32", "ancestral", "posterior", "a", "x.png"]
WORDS = st.sampled_from(TEXTS) | st.integers(-3, 70).map(str) | st.floats().map(str)


class Reached(Exception):
    """Everything was looked at, and the work would begin."""


def reach(*_, **__):
    raise Reached


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    names = {"classes": list("abcd"), "data": "digits", "schedule": SCHEDULE.info}
    for name, model in (("unet", UNET), ("classifier", P_PHI), ("judge", JUDGE)):
        unet.save(path / f"{name}.safetensors", model, names)
    return path


GUIDES = {
    "none": [],
    "classifier": [],
    "classifier-free": [],
    "negative": ["--negative", "a"],
}
COMMANDS = {
    **{f"guidance {kind}": guidance_main for kind in GUIDES},
    "train": train_main,
    "train.evaluate": evaluate_main,
    **{f"train.experiments {name}": experiments.main for name in experiments.EXPERIMENTS},
    **{f"train.benchmark {work}": benchmark.main for work in benchmark.WORKS},
}


def flags_of(command):
    """Flag -> whether it takes a value; --help ends every parser and is left out."""
    module, *kind = command.split()
    parser = PARSERS[module]()
    for action in parser._subparsers._group_actions if parser._subparsers else []:
        parser = action.choices[kind[0]]
    taken = [a for a in parser._actions if a.option_strings and a.dest != "help"]
    return {a.option_strings[0]: a.nargs != 0 for a in taken}


def without_the_work(patch, out):
    """The commands up to where the long work begins; of sampling the first update is made."""
    patch.chdir(out)
    patch.setattr("train.__main__.fit", reach)
    for sampler in ("ddim", "dpm_solver", "ancestral"):
        patch.setattr(f"ddpm.{sampler}", first_update(getattr(ddpm, sampler)))
        patch.setattr(f"guidance.app.draw.{sampler}", first_update(getattr(ddpm, sampler)))
    patch.setattr("guidance.app.command.frames", lambda process, *_: process)
    patch.setattr("guidance.app.command.save_panels", reach)
    patch.setattr("train.evaluate.lab.draw", reach)
    patch.setattr("train.experiments.cases.run", reach)
    patch.setattr("train.experiments.worlds.noise", reach)
    patch.setattr("train.experiments.worlds.square", reach)
    patch.setattr("train.benchmark.__main__.load_data", lambda *a: load_data("digits", ""))
    patch.setattr("train.benchmark.__main__.matrix_peak", lambda *a: 1e12)
    for work in (
        "works.contenders",
        "__main__.measure",
        "operators.works",
        "growth.works",
        "quality.measure",
    ):
        patch.setattr(f"train.benchmark.{work}", reach)
    patch.setattr("torch.set_num_threads", lambda n: None)


def first_update(sampler):
    return lambda *a, **k: iter([next(sampler(*a, **k))])


@pytest.mark.parametrize("command", COMMANDS)
@cases(6)
@given(data=st.data())
def test_command_lines(command, data, weights, tmp_path_factory):
    flags, (module, *kind) = flags_of(command), command.split()
    given_flags = data.draw(
        st.lists(st.sampled_from(sorted(flags)), min_size=1, max_size=2, unique=True)
    )
    line = [*kind, *GUIDES.get(" ".join(kind), [])]
    if "--weights" in flags:
        line += ["--weights", str(weights)]
    if "--n" in flags:
        line += ["--n", "12", "--steps", "10"]
    for flag in given_flags:
        line += [f"{flag}={data.draw(WORDS, label=flag)}"] if flags[flag] else [flag]
    COUNT["flags: tried"] += 1
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        without_the_work(patch, tmp_path_factory.mktemp("cwd"))
        try:
            code = COMMANDS[command](line)
        except SystemExit as stop:
            code = stop.code
        except Reached:
            code = 0
    if code == 0:
        COUNT["flags: worked"] += 1
        return
    COUNT["flags: refused"] += 1
    error = err.getvalue()
    assert code == 2 and error.startswith(f"python -m {module}"), (line, error)
    assert error.count("\n") == 1 and "Traceback" not in error, error
    # Two flags may be at odds, and then it is the other one that is named; of a path, the system.
    names = [f.strip("-").replace("-", "[-_]") for f in flags if f in given_flags or len(f) > 3]
    named = re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", error)
    paths = {"--out", "--weights", "--data-dir", "--save"} & set(given_flags)
    of_path = re.search(r"\[Errno|directory|no unet\.safetensors in", error)
    assert named or (paths and of_path), (line, error)
