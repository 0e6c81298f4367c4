"""docs/playground: its mathematics, networks and noise beside Python's."""

import json
import struct
from functools import partial

import pytest
import torch
from node import ROOT, ask
from tiny import perturbed
from torch.testing import assert_close

from ddpm import (
    GaussianMixture,
    Schedule,
    ancestral,
    cosine_schedule,
    ddim,
    linear_schedule,
    timesteps,
)
from guidance import classifier_free_guidance, negative_guidance, posterior_negative_guidance
from guidance.app import guides
from guidance.app.draw import processes, stream_seed, window
from guidance.app.models import load_models
from unet import Judge, UNet, load, save

SHIPPED = ("digits", "mnist", "scenes")
INFO = {"schedule": {**linear_schedule(100).info, "beta_T": 0.2}, "classes": ["a", "b", "c"]}
ODD = {  # what no preset has: other levels, widths, sides, heads, channels and numbers of blocks
    "one level": {"size": 5, "channels": 3, "width": 24, "multipliers": (1,), "attention": (5,)},
    "two heads": {"size": 8, "width": 72, "multipliers": (1, 1), "attention": (8, 4)},
    "four levels": {"size": 8, "width": 8, "multipliers": (1, 3, 2, 9), "attention": (1, 2)},
    "many groups": {"size": 2, "width": 8, "multipliers": (1, 34), "attention": (1,)},
    "no attention": {"size": 12, "channels": 2, "blocks": 3, "attention": ()},
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd")
    for name, arguments in ODD.items():
        save(path / f"{name}.safetensors", perturbed(UNet, **arguments), INFO)
    return path


# -- noise and schedules ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1, 2**32 + 7, 2**63 - 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seeds_noise_is_torchs(seed, dtype):
    """Every path that torch fills by: below 16, of 16s, with a rest; one after the other."""
    sizes = [1, 3, 15, 16, 17, 64, 100, 784, 2, 3072]
    generator = torch.Generator().manual_seed(seed)
    found = ask("noise", seed=str(seed), sizes=sizes, double=dtype == torch.float64)
    for n, values in zip(sizes, found, strict=True):
        wanted = torch.randn(n, generator=generator, dtype=dtype)
        assert_close(torch.tensor(values, dtype=dtype), wanted, rtol=0, atol=3e-6)


def test_a_pictures_own_stream():
    for seed in (0, 7, 2**62):
        found = ask("streams", seed=str(seed), streams=[0, 1, 2, 18])
        assert found == [str(stream_seed(seed, i)) for i in (0, 1, 2, 18)]


@pytest.mark.parametrize(
    "schedule",
    [
        linear_schedule(),
        linear_schedule(7, 0.1, 0.3),
        cosine_schedule(),
        cosine_schedule(50, s=0.1),
        Schedule([0.1, 0.5, 0.3]),
        Schedule.from_alpha_bar([0.9, 0.4, 0.2, 0.01]),
    ],
)
def test_schedules(schedule):
    steps = sorted({1, 2, schedule.T // 2, schedule.T} - {0})
    found = ask("schedule", info=schedule.info, steps=steps, subsequence=steps[1])
    for name, key in {"posterior_variance": "posteriorVariance", "alpha_bar": "alphaBar"}.items():
        found[name] = found.pop(key)
    for name in ("beta", "alpha", "alpha_bar", "posterior_variance"):
        wanted = getattr(schedule, name)
        assert_close(torch.tensor(found[name]).double(), wanted, rtol=1e-5, atol=1e-7)
    sub = schedule.subsequence(timesteps(schedule.T, steps[1]))
    assert_close(torch.tensor(found["sub"]).double(), sub.beta, rtol=1e-5, atol=1e-7)
    assert found["visited"] == [timesteps(schedule.T, S) for S in steps]


# -- networks --------------------------------------------------------------------------------------


def test_the_kernel_is_its_twin():
    """Bit for bit, for shapes that fill tiles of 4×8 and for such as do not."""
    shape = {"width": 7, "height": 5, "side": 3, "cIn": 8, "blocks": 2, "stride": 1, "spread": 1}
    changes = [{}, {"width": 1}, {"width": 3}, {"width": 4}, {"width": 28, "height": 28}]
    changes += [{"stride": 2}, {"side": 1, "cIn": 2}, {"blocks": 5, "cIn": 66}, {"height": 1}]
    changes += [{"spread": 60}]  # beyond what e^z holds
    found = ask("kernel", shapes=[{**shape, **change} for change in changes], seed=3)
    assert found == [0] * len(changes)
    assert ask("bytes") < 1500  # a kernel that a reader can read


def test_the_kernels_silu():
    x = torch.cat([torch.linspace(-100, 100, 500), torch.linspace(-2, 2, 400)])
    found = torch.tensor(ask("silu", x=x.tolist()))
    assert_close(found, torch.nn.functional.silu(x.double()).float(), rtol=4e-7, atol=1e-30)


def predictions(path, x, cases):
    unet, _ = load(path)
    t, c = (torch.tensor(v) for v in zip(*cases, strict=True))
    with torch.no_grad():
        return unet(x.expand(len(cases), *x.shape), t, c).flatten(1)


@pytest.mark.parametrize("name", SHIPPED)
def test_eps_of_the_shipped_networks(name):
    path = ROOT / f"weights/{name}/unet.safetensors"
    a = load(path)[0].architecture
    x = torch.randn(a["channels"], a["size"], a["size"])
    cases = [(1000, 4), (500, 9), (20, a["classes"]), (1, 0)]
    found = ask("eps", file=str(path), x=x.flatten().tolist(), cases=cases)
    assert_close(torch.tensor(found), predictions(path, x, cases), rtol=0, atol=2e-5)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_eps_of_odd_architectures(odd, name, plain):
    path = odd / f"{name}.safetensors"
    a = load(path)[0].architecture
    x = torch.randn(a["channels"], a["size"], a["size"])
    cases = [(100, 0), (37, 2), (1, 3)]
    found = torch.tensor(
        ask("eps", file=str(path), x=x.flatten().tolist(), cases=cases, plain=plain)
    )
    wanted = predictions(path, x, cases)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-2  # t and c matter
    assert_close(found, wanted, rtol=0, atol=1e-4 * max(1.0, wanted.abs().max().item()))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision(tmp_path, kind):
    path = tmp_path / "unet.safetensors"
    model = perturbed()
    least = torch.tensor([0.0, -0.0, -1e-6, 6e-5, 65504, -1.0])  # zeros, subnormal, the largest
    model.label.weight.data[3, :6] = least
    save(path, model.to(kind), INFO)
    found = torch.tensor(ask("values", file=str(path), name="label.weight"))
    assert torch.equal(found, load(path)[0].label.weight.detach().flatten())
    x = torch.randn(1, 8, 8)
    found = ask("eps", file=str(path), x=x.flatten().tolist(), cases=[(50, 0), (50, 1)])
    wanted = predictions(path, x, [(50, 0), (50, 1)])
    assert_close(torch.tensor(found), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [*SHIPPED, "odd width"])
def test_the_judge(name, tmp_path):
    path = ROOT / f"weights/{name}/judge.safetensors"
    if name == "odd width":
        path = tmp_path / "judge.safetensors"
        torch.manual_seed(0)
        odd = Judge(7, 3, 4, width=5)
        for norm in odd.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
        save(path, odd, INFO)
    judge, _ = load(path)
    a = judge.architecture
    images = torch.rand(3, a["channels"], a["size"], a["size"]) * 2 - 1
    found = ask("judge", file=str(path), images=images.flatten(1).tolist())
    with torch.no_grad():
        assert_close(torch.tensor(found), judge(images), rtol=1e-4, atol=1e-4)


# -- whole runs: options in, every state out -------------------------------------------------------

OPTIONS = {
    "late start": {"positive": 4, "negative": 9, "w": 2.0, "start": 2, "stop": 6},
    "from ∅": {"positive": "∅", "negative": 3, "w": 1.0, "start": 0, "stop": 6},
    "window, noise": {"positive": 7, "negative": 1, "w": 3.5, "start": 1, "stop": 4, "eta": 0.8},
    "never": {"positive": 8, "negative": 2, "w": 0.5, "start": 6, "stop": 6, "eta": 1.0},
}


def python_run(models, options):
    """As `python -m guidance negative --n 1` draws it."""
    start, stop = window(models.schedule.T, options["steps"], options["start"], options["stop"])
    guide = guides.negative(options["negative"], options["w"], start=start, stop=stop)
    sampler = partial(ddim, steps=options["steps"], eta=options["eta"])
    c = torch.tensor([options["positive"]])
    (run,) = processes(models, guide, c, options["seed"], sampler, 1)
    return list(run)


def check_run(path, options, seed=5, **change):
    models = load_models(path)
    options = {"eta": 0.0, "steps": 6, "seed": seed, **options, **change}
    for key in ("positive", "negative"):
        options[key] = models.K if options[key] == "∅" else options[key] % models.K
    found = ask("run", file=str(path), options=options)
    wanted = python_run(models, options)
    assert len(found) == len(wanted) == options["steps"]
    alpha_bar, allowed = models.schedule.alpha_bar.float(), torch.tensor(1e-3)
    for ours, theirs, s in zip(found, wanted, [*(step.t for step in wanted[1:]), 0], strict=True):
        x_0, a = theirs.x_0.flatten(), alpha_bar[theirs.t]
        # ε's rounding comes into x̂_0 times 1/√ᾱ_t, at first 157 or 20,291, where no clip hides it
        rounding = 3e-6 * (1 + 2 * options["w"]) / a.sqrt()
        kept = torch.where(x_0.abs() < 1, rounding * alpha_bar[s].sqrt(), 0)
        allowed = torch.maximum(allowed, kept)  # (C·H·W,)
        assert ((torch.tensor(ours["x"]) - theirs.x.flatten()).abs() <= allowed).all()
        assert ((torch.tensor(ours["x_0"]) - x_0).abs() <= 1e-3 + rounding).all()
    assert (allowed == 1e-3).double().mean() > 0.95  # or little would be tested
    return wanted


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("case", OPTIONS)
def test_a_run_from_its_seed(name, case):
    """The page's seed is Python's: nothing but options goes in."""
    check_run(ROOT / f"weights/{name}/unet.safetensors", OPTIONS[case])


@pytest.mark.parametrize("name", ODD)
def test_a_run_of_an_odd_architecture(odd, name):
    path = odd / f"{name}.safetensors"
    check_run(path, OPTIONS["window, noise"])
    run = check_run(path, OPTIONS["late start"])
    other = check_run(path, OPTIONS["late start"], w=3.0)
    assert (run[-1].x - other[-1].x).abs().max() > 0.01  # or w would be untested


# -- the exact world -------------------------------------------------------------------------------

WORLD = {
    "mean": [[0.5, -1.0], [-1.5, 0.2], [1.0, 1.5], [-0.3, 0.9]],
    "variance": [0.05, 0.3, 0.1, 0.02],
    "weight": [0.5, 0.2, 0.2, 0.1],
    "concepts": [[True, False, True, False], [False, True, True, False], [False] * 3 + [True]],
}


def mixture():
    parts = (torch.tensor(WORLD[key], dtype=torch.float64) for key in list(WORLD)[:3])
    return GaussianMixture(*parts, torch.tensor(WORLD["concepts"]))


@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_mixture(t):
    exact, schedule = mixture(), cosine_schedule()
    x = 2 * torch.randn(20, 2, dtype=torch.float64)
    found = ask("mixture", **WORLD, schedule=schedule.info, x=x.tolist(), t=t)
    times = torch.full((20,), t)
    posterior = exact.log_posterior(schedule, x, times)
    for c, ours in enumerate(found):
        labels = torch.full_like(times, c)
        wanted = exact.eps(schedule)(x, times, labels).flatten()
        assert_close(torch.tensor(ours["eps"]).double(), wanted, rtol=1e-5, atol=1e-5)
        wanted = exact.log_prob(schedule, x, times, labels)
        assert_close(torch.tensor(ours["logProb"]).double(), wanted, rtol=1e-5, atol=1e-5)
        if c < exact.null_token:
            wanted = posterior[:, c]
            ours = torch.tensor(ours["logPosterior"]).double()
            assert_close(ours.exp(), wanted.exp(), rtol=0, atol=1e-5)


SAMPLERS = {
    "ddim": {"name": "ddim", "eta": 0.0, "clip": None},
    "ddim, clipped": {"name": "ddim", "eta": 0.0, "clip": [-1, 1]},
    "ddim, noise": {"name": "ddim", "eta": 0.7, "clip": None},
    "ancestral": {"name": "ancestral", "variance": "beta", "clip": None},
    "ancestral, posterior": {"name": "ancestral", "variance": "posterior", "clip": [-2, 2]},
}


@pytest.mark.parametrize("kind", ["free", "negative", "posterior"])
@pytest.mark.parametrize("case", SAMPLERS)
def test_guidances_and_samplers_in_the_exact_world(case, kind):
    exact, schedule, S = mixture(), cosine_schedule(), 12
    eps, null = exact.eps(schedule), exact.null_token
    x_T = torch.randn(9, 2, dtype=torch.float64)
    start, stop = (0, S) if kind == "posterior" else (3, 8)
    first, last = window(schedule.T, S, start, stop)
    guide = {"kind": kind, "positive": 0, "negative": 1, "w": 1.5, "start": first, "stop": last}
    made = {
        "free": lambda: classifier_free_guidance(eps, 0, 1.5, null=null, start=first, stop=last),
        "negative": lambda: negative_guidance(eps, 0, 1, 1.5, null=null, start=first, stop=last),
        "posterior": lambda: posterior_negative_guidance(
            eps,
            lambda x, t: exact.log_posterior(schedule, x, t)[:, 1],
            1,
            null=null,
            positive=0,
            scale=1.5,
        ),
    }[kind]()
    how = SAMPLERS[case]
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(9, 2, generator=generator, dtype=torch.float64) for _ in range(S)]
    generator.manual_seed(1)
    kwargs = {k: v for k, v in how.items() if k in ("eta", "variance")}
    kwargs["clip"] = how["clip"] and tuple(how["clip"])
    sampler = ddim if how["name"] == "ddim" else ancestral
    wanted = list(sampler(schedule, made, x_T, S, generator=generator, **kwargs))
    how = {**how, "steps": S, "noise": [z.tolist() for z in noise]}
    info = schedule.info
    found = ask("world", **WORLD, schedule=info, x_T=x_T.tolist(), guide=guide, sampler=how)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["t"] == theirs.t
        limits = {"rtol": 1e-5, "atol": 1e-5}
        assert_close(torch.tensor(ours["x"]).double(), theirs.x.flatten(), **limits)
        if theirs.t < schedule.T:  # there float64's rounding comes in times 20,291
            assert_close(torch.tensor(ours["x_0"]).double(), theirs.x_0.flatten(), **limits)


# -- bad files -------------------------------------------------------------------------------------


def changed(path, tmp_path, change):
    """The file with its header changed: change(header) -> header."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.dumps(change(json.loads(data[8 : 8 + n]))).encode()
    bad = tmp_path / "unet.safetensors"
    bad.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + n :])
    return bad


def described(**architecture):
    def change(header):
        info = json.loads(header["__metadata__"]["info"])
        info["architecture"] |= architecture
        return {**header, "__metadata__": {"info": json.dumps(info)}}

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (described(name="Judge"), "must hold a UNet of this project, got a Judge"),
        (described(width=16), "is of another architecture than its header says: "),
        (described(size=10**9), "size must be an integer in 1..4096, got 1000000000"),
        (described(size=True), "size must be an integer in 1..4096, got true"),
        (described(size=9), "size must be divisible by 2"),
        (described(multipliers=[]), "width must be a multiple of 8, with multipliers"),
        (described(attention=[5]), "attention must be sides among 8, 4, got [5]"),
        (lambda header: {}, "must hold a UNet of this project, got no architecture"),
        (lambda header: {**header, "__metadata__": {"info": "{"}}, "holds no JSON"),
        (lambda header: {**header, "more": header["norm.bias"]}, "more is 8 instead of absent"),
        (
            lambda header: {**header, "norm.bias": {**header["norm.bias"], "dtype": "F64"}},
            "holds norm.bias as F64, which must be F32, F16 or BF16",
        ),
        (
            lambda header: {**header, "norm.bias": {**header["norm.bias"], "data_offsets": [0, 8]}},
            "is not a whole safetensors file: norm.bias lies outside of it",
        ),
    ],
)
def test_a_file_with_a_wrong_header(tmp_path, change, said):
    save(tmp_path / "right.safetensors", perturbed(), INFO)
    bad = changed(tmp_path / "right.safetensors", tmp_path, change)
    with pytest.raises(RuntimeError) as error:
        ask("read", file=str(bad), kind="UNet")
    message = str(error.value)
    assert message.startswith("unet.safetensors") and said in message and "\n" not in message


def test_a_file_that_is_none(tmp_path):
    bad = tmp_path / "picture.png"
    for content in (b"", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(8), b"\x02" + bytes(7) + b"[]"):
        bad.write_bytes(content)
        with pytest.raises(RuntimeError, match=r"^picture\.png is not a whole safetensors file"):
            ask("read", file=str(bad), kind="UNet")
    whole = (ROOT / "weights/scenes/unet.safetensors").read_bytes()
    bad.write_bytes(whole[:-1])
    with pytest.raises(
        RuntimeError, match="is not a whole safetensors file: .* lies outside of it"
    ):
        ask("read", file=str(bad), kind="UNet")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite(tmp_path, value, kind):
    model = perturbed().to(kind)
    model.out.bias.data[0] = value
    save(tmp_path / "unet.safetensors", model, INFO)
    with pytest.raises(RuntimeError, match="holds values that are not finite, in out.bias"):
        ask("read", file=str(tmp_path / "unet.safetensors"), kind="UNet")
