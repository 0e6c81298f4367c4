"""Stable Diffusion: a start step for a diffusers pipeline, and its network under our samplers.

On tiny random pipelines, offline. What should be equal is so bit for bit.
"""

import math
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from oracles import normal, seeded
from torch import Tensor
from torch.testing import assert_close

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # these imports warn about packages that they can do without
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("transformers")

import tiny_sd

from ddpm import ddim, linear_schedule
from guidance import negative_from, negative_guidance
from guidance.stable_diffusion import log_snr, stable_diffusion, step_at

# What diffusers' own lines warn of depends on its version, and torch's and numpy's.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "FutureWarning")
]

ROOT = Path(__file__).parents[2]
S = 3
UPDATES = dict.fromkeys(tiny_sd.SCHEDULERS, S) | {"PNDM": S + 1, "Heun": 2 * S - 1}
KINDS = {
    "SD": tiny_sd.sd,
    "SDXL, zeros": lambda: tiny_sd.sdxl(zeros=True),
    "SDXL, empty": lambda: tiny_sd.sdxl(zeros=False),
}


@pytest.fixture(scope="module")
def pipes():
    return {kind: make() for kind, make in KINDS.items()}


@pytest.fixture(params=KINDS)
def pipe(request, pipes):
    """Each kind of pipeline, with DDIM."""
    return tiny_sd.scheduled(pipes[request.param], "DDIM")


class Run(NamedTuple):
    """A pipeline's run: the state after each update, and what the network was given for it."""

    states: list[Tensor]  # (B, 4, 8, 8) each
    halves: list[tuple[Tensor, ...]]  # the negative half: prompt_embeds, on SDXL the pooled too


def run(pipe, prompt="a street", negative_prompt=None, **kwargs):
    """The run, from the same noise each time."""
    states, halves = [], []
    switch = kwargs.pop("callback_on_step_end", lambda pipe, i, t, tensors: tensors)

    def after(pipe, i, t, tensors):
        states.append(tensors["latents"].clone())
        return switch(pipe, i, t, tensors)

    def before(unet, args, given):
        half = (given["encoder_hidden_states"], *(given["added_cond_kwargs"] or {}).values())
        halves.append(tuple(rows.chunk(2)[0].clone() for rows in half[:2]))

    options = {"num_inference_steps": S, "guidance_scale": 7.5, "output_type": "latent"}
    if negative_prompt is not None:
        options["negative_prompt"] = negative_prompt
    hook = pipe.unet.register_forward_pre_hook(before, with_kwargs=True)
    try:
        pipe(prompt, callback_on_step_end=after, generator=seeded(), **(options | kwargs))
    finally:
        hook.remove()
    return Run(states, halves)


def same(a, b):
    """Which are equal bit for bit, in order."""
    if isinstance(a[0], Tensor):
        return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]
    return [all(same(x, y)) for x, y in zip(a, b, strict=True)]


def start_step_laws(pipe, N):
    """NegPrompt Eq. 4, 5: the laws of every start step k = 0 … N, N updates being made."""
    never, always = run(pipe), run(pipe, negative_prompt="cars")
    assert len(never.states) == N and not any(same(never.states, always.states))
    for k in range(N + 1):
        late = run(pipe, **negative_from(pipe, "cars", k))
        assert same(late.states, never.states) == [True] * k + [False] * (N - k)
        assert same(late.halves, never.halves) == [True] * k + [False] * (N - k)
        assert same(late.halves, always.halves) == [False] * k + [True] * (N - k)
        if k == 0:
            assert all(same(late.states, always.states))


@pytest.mark.parametrize("name", tiny_sd.SCHEDULERS)
def test_the_first_state_that_differs_is_the_one_after_the_start_step(pipes, name):
    """NegPrompt Eq. 4, 5. Start step 0 is `negative_prompt`, the number of updates is none, and
    after k updates as without it the next is the first that differs, bit for bit."""
    start_step_laws(tiny_sd.scheduled(pipes["SD"], name), UPDATES[name])


@pytest.mark.parametrize(("kind", "name"), [("SDXL, zeros", "PNDM"), ("SDXL, empty", "Euler")])
def test_start_steps_on_sdxl(pipes, kind, name):
    """Both parts of what it sees of a prompt, in both of its conventions for no negative."""
    pipe = tiny_sd.scheduled(pipes[kind], name)
    start_step_laws(pipe, UPDATES[name])
    zeros = [not half.any() for half in run(pipe).halves[0]]
    assert zeros == [kind == "SDXL, zeros"] * 2


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 2), (1, 3), (2, 2), (0, 0)])
def test_the_stop_step_is_the_first_update_without_it(pipe, start, stop):
    """By what the network is given; and the states part from the run without a stop step there."""
    never, always = run(pipe), run(pipe, negative_prompt="cars")
    both = run(pipe, **negative_from(pipe, "cars", start, stop))
    acts = [start <= k < stop for k in range(S)]
    assert same(both.halves, always.halves) == acts
    assert same(both.halves, never.halves) == [not a for a in acts]
    open_end = run(pipe, **negative_from(pipe, "cars", start))
    assert same(both.states, open_end.states) == [k < stop for k in range(S)]
    if start == stop:
        assert all(same(both.states, never.states))


def test_batches_and_several_images_of_each_prompt(pipe):
    """Each negative prompt beside its own prompt, in the pipeline's order."""
    prompts, negatives, images = ["a street", "a house"], ["cars", "people"], 3
    never = run(pipe, prompts, num_images_per_prompt=images)
    always = run(pipe, prompts, negatives, num_images_per_prompt=images)
    switch = negative_from(pipe, negatives, 1, 2)
    window = run(pipe, prompts, num_images_per_prompt=images, **switch)
    assert window.states[0].shape == (6, 4, 8, 8)
    assert same(window.states, never.states) == [True, False, False]
    assert same(window.halves, always.halves) == [False, True, False]
    assert same(window.halves, never.halves) == [True, False, True]


def test_one_negative_prompt_for_several_on_sdxl(pipes):
    """As SDXL itself takes one text for a list of prompts. (Encoded once, so to its last bits.)"""
    pipe, prompts = tiny_sd.scheduled(pipes["SDXL, zeros"], "DDIM"), ["a street", "a house"]
    always = run(pipe, prompts, "cars").halves[0]
    late = run(pipe, prompts, **negative_from(pipe, "cars", 2)).halves
    for ours, theirs in zip(late[2], always, strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert not any(rows.any() for rows in late[1])


@pytest.mark.parametrize("k", [0, 2])
def test_a_wrong_number_of_negative_prompts_is_refused(pipe, k):
    """Whatever the start step: two negatives for one prompt aren't two negatives at once."""
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        run(pipe, num_images_per_prompt=4, **negative_from(pipe, ["cars", "people"], k))
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        run(pipe, ["a street"] * 4, **negative_from(pipe, ["cars", "people"], k))


def test_it_is_not_what_the_pipeline_calls_negative_prompt_embeds(pipes):
    """The callback of Stable Diffusion 1 offers them and takes them back, and nobody reads them."""
    pipe = tiny_sd.scheduled(pipes["SD"], "DDIM")

    def huge(pipe, i, t, tensors):
        return {"negative_prompt_embeds": 1e6 * tensors["negative_prompt_embeds"]}

    names = ["latents", "negative_prompt_embeds"]
    dead = run(pipe, callback_on_step_end=huge, callback_on_step_end_tensor_inputs=names)
    assert all(same(dead.states, run(pipe).states))


def test_image_to_image_counts_its_own_updates(pipes):
    """The same callback elsewhere: at strength 0.5 half of the updates are made."""
    pipe = diffusers.StableDiffusionImg2ImgPipeline(
        **pipes["SD"].components, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    given = {"image": torch.zeros(1, 3, 16, 16), "strength": 0.5, "num_inference_steps": 2 * S}
    never, always = run(pipe, **given), run(pipe, negative_prompt="cars", **given)
    late = run(pipe, **given, **negative_from(pipe, "cars", 1))
    assert len(late.states) == S
    assert same(late.states, never.states) == [True] + [False] * (S - 1)
    assert same(late.halves, always.halves) == [False] + [True] * (S - 1)


# -- the pipeline's network under this project's guidance and sampler ------------------------------

W, STEPS, START, STOP = 6.5, 6, 2, 4
PROMPTS = ["a street", "cars"]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
X_T = normal((1, 4, 8, 8))


def double(pipe, **changes):
    """All in float64, the scheduler's table of ᾱ too."""
    pipe.to(torch.float64)
    pipe.encode_prompt = in_double(pipe.encode_prompt)
    scheduler = pipe.scheduler = tiny_sd.ddim(**changes)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return pipe


def in_double(encode):
    """Text encoders of transformers 4 make a mask of the default type, and fill it with their own
    type's least number."""

    def encode_prompt(*args, **kwargs):
        torch.set_default_dtype(torch.float64)
        try:
            return encode(*args, **kwargs)
        finally:
            torch.set_default_dtype(torch.float32)

    return encode_prompt


def theirs(pipe, x_T=X_T):
    """Where the pipeline ends, (1, 4, 8, 8)."""
    switch = negative_from(pipe, "cars", START, STOP)
    scale = {"guidance_scale": 1 + W, "num_inference_steps": STEPS}
    height, width = (pipe.vae_scale_factor * side for side in x_T.shape[-2:])
    return run(pipe, latents=x_T, height=height, width=width, **scale, **switch).states[-1]


def ours(pipe, x_T=X_T, *, t=0, w=W, end=1, schedule=None):
    """The same by negative_guidance and ddim. The pipeline ends at x_1, one t before x_0: so t = 1
    is visited as well, and the state before it taken. The keywords are for making mistakes."""
    eps, own = stable_diffusion(pipe, PROMPTS)
    pipe.scheduler.set_timesteps(STEPS)
    visited = [int(s) + 1 for s in pipe.scheduler.timesteps]
    window = {"start": visited[START], "stop": visited[STOP]}
    shifted = lambda x_t, s, c: eps(x_t, s + t, c)  # noqa: E731
    predictor = negative_guidance(shifted, 0, 1, w, null=2, **window)
    process = ddim(schedule or own, predictor, x_T, [*visited, 1], clip=None)
    return [step.x for step in process][-1 - end]


@pytest.mark.parametrize(
    ("kind", "prediction"),
    [*(("SD", prediction) for prediction in PREDICTIONS), ("SDXL, zeros", "epsilon"),
     ("SDXL, empty", "v_prediction")],
)  # fmt: skip
def test_our_ddim_under_negative_guidance_is_the_pipeline(kind, prediction):
    """NegPrompt Eq. 4, 5 with DDIM Eq. 12, in float64: w = guidance_scale − 1, a window of steps,
    and v- and x_0-prediction, which the pipeline guides before it makes ε of them, and we after.
    SDXL's network is told the picture's height and width: here they differ."""
    pipe = double(KINDS[kind](), prediction_type=prediction)
    x_T = X_T if kind == "SD" else X_T[..., :4]
    assert_close(ours(pipe, x_T), theirs(pipe, x_T), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_in_float32_it_is_the_pipeline_to_its_rounding(prediction):
    """Both are as far from the run in float64 as roundings take them; they don't round alike."""
    exact = theirs(double(tiny_sd.sd(), prediction_type=prediction))
    pipe = tiny_sd.sd()
    pipe.scheduler = tiny_sd.ddim(prediction_type=prediction)
    rounding = 2**-24 * STEPS * (1 + 2 * W) * exact.abs().max()  # guidance magnifies the network's
    for x in (ours(pipe, X_T.float()), theirs(pipe, X_T.float())):
        assert 0 < (x - exact).abs().max() < 2 * rounding


@pytest.fixture(scope="module")
def exact():
    """A pipeline in float64, and where it ends."""
    pipe = double(tiny_sd.sd())
    return pipe, theirs(pipe)


@pytest.mark.parametrize(
    "mistake",
    [
        {"t": 1},  # ours is taken for the network's t
        {"t": -1},
        {"w": W + 1},  # guidance_scale for w
        {"end": 0},  # x_0 for x_1
        {"schedule": linear_schedule(beta_1=0.00085, beta_T=0.012)},  # for scaled_linear
    ],
    ids=["t too late", "t too early", "w", "x_0", "schedule"],
)
def test_what_a_mistake_costs(exact, mistake):
    """Ten times the tolerance of float32 at the least, and far more than that of float64."""
    pipe, right = exact
    assert (ours(pipe, **mistake) - right).abs().max() > 1e-4 * right.abs().max()


def test_no_prompt_is_null_and_the_default(pipes):
    """∅ is what the pipeline has for no negative prompt: zeros on SDXL, if it is built so."""
    for kind, pipe in pipes.items():
        eps, _ = stable_diffusion(pipe, ["a street", ""])
        x_t, t = normal((2, 4, 8, 8)).float(), torch.tensor([500, 20])
        null, empty = (eps(x_t, t, torch.full_like(t, c)) for c in (2, 1))
        assert torch.equal(null, eps(x_t, t))
        assert torch.equal(null, empty) == (kind != "SDXL, zeros")


def test_the_schedule_is_the_pipelines_own_table(pipes):
    """DDPM Eq. 4: ᾱ_t of ours is the entry t − 1 of alphas_cumprod."""
    _, schedule = stable_diffusion(pipes["SD"], ["a street"])
    table = tiny_sd.ddim().alphas_cumprod.double()
    assert schedule.T == 1000
    assert_close(schedule.alpha_bar[1:], table, rtol=1e-12, atol=0)


def test_a_network_in_half_precision_answers_in_the_states_type():
    """A bfloat16 network under a sampler in float32: ε̂ is float32, to bfloat16's rounding."""
    pipe = tiny_sd.sd()
    x_t, t = normal((1, 4, 8, 8)).float(), torch.tensor([500])
    exact = stable_diffusion(pipe, ["cars"])[0](x_t, t).detach()
    pipe.to(torch.bfloat16)
    rounded = stable_diffusion(pipe, ["cars"])[0](x_t, t).detach()
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    assert_close(rounded, exact, rtol=0, atol=0.1 * float(exact.abs().max()))


# -- a critical step on another schedule -----------------------------------------------------------


@pytest.mark.parametrize("name", tiny_sd.SCHEDULERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_step_at_a_log_snr(name, spacing):
    """log(ᾱ/(1−ᾱ)) by plain numbers, from β alone; the step is the first that has reached it."""
    options = {**tiny_sd.SCHEDULE, "timestep_spacing": spacing}
    scheduler = tiny_sd.SCHEDULERS[name].from_config(options)
    found = log_snr(scheduler, 30).tolist()
    assert len(found) == {"PNDM": 31, "Heun": 59}.get(name, 30)
    assert found == sorted(found)
    for k, t in enumerate(scheduler.timesteps.tolist()):  # Euler's and Heun's may be fractions
        low, high = (_log_snr(n) for n in (math.ceil(t), math.floor(t)))
        assert low - 1e-4 <= found[k] <= high + 1e-4  # 2^-24 / (1 − ᾱ_1) = 7e-5 of its table
        assert step_at(scheduler, 30, found[k]) == found.index(found[k])
        assert step_at(scheduler, 30, found[k] + 1e-9) > k
    assert (step_at(scheduler, 30, -50), step_at(scheduler, 30, 50)) == (0, len(found))


def _log_snr(t):
    """Of Stable Diffusion's β_1 … β_{t+1}, whose roots are evenly spaced; t counts from 0."""
    first, last = math.sqrt(0.00085), math.sqrt(0.012)
    log_alpha_bar = sum(
        math.log1p(-((first + (last - first) * k / 999) ** 2)) for k in range(t + 1)
    )
    return log_alpha_bar - math.log(-math.expm1(log_alpha_bar))


def test_the_critical_steps_of_two_schedules_nearly_coincide():
    """Step 5 of 30 of Stable Diffusion, and step 20 of 50 of MNIST's linear schedule."""
    schedule = linear_schedule()
    ours = math.log(schedule.alpha_bar[600] / (1 - schedule.alpha_bar[600]))
    assert f"{ours:.2f}" == "-3.63"
    leading, trailing = (
        log_snr(tiny_sd.ddim(timestep_spacing=spacing), 30)[5]
        for spacing in ("leading", "trailing")
    )
    assert (f"{leading:.1f}", f"{trailing:.1f}") == ("-3.2", "-3.6")


# -- what is refused -------------------------------------------------------------------------------


def other(**parts):
    """Something like a pipeline, by its parts."""
    inputs = {"_callback_tensor_inputs": ["latents", "prompt_embeds"], "encode_prompt": print}
    return SimpleNamespace(
        **({"unet": tiny_sd.unet(), "scheduler": tiny_sd.ddim()} | inputs | parts)
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pipe": None}, TypeError, "pipe must be a pipeline of Stable Diffusion"),
        ({"pipe": SimpleNamespace(encode_prompt=print)}, TypeError, "got SimpleNamespace"),
        (
            {"pipe": other(_callback_tensor_inputs=["latents"])},
            TypeError,
            "pipe must be a pipeline",
        ),
        ({"negative_prompt": None}, TypeError, "negative_prompt must be a list of texts"),
        ({"negative_prompt": []}, TypeError, "negative_prompt must be a list of texts"),
        ({"negative_prompt": ("cars",)}, TypeError, "negative_prompt must be a list of texts"),
        ({"negative_prompt": ["cars", 3]}, TypeError, "negative_prompt must be a list of texts"),
        ({"start_step": -1}, ValueError, "start_step must be an integer in 0"),
        ({"start_step": 0.2}, ValueError, "start_step must be an integer in 0"),
        ({"start_step": True}, ValueError, "start_step must be an integer in 0"),
        ({"start_step": 2, "stop_step": 1}, ValueError, "stop_step must be None or a step"),
        ({"stop_step": -1}, ValueError, "stop_step must be None or a step"),
        ({"stop_step": 1.5}, ValueError, "stop_step must be None or a step"),
        ({"start_step": "1", "stop_step": 2}, ValueError, "start_step must be an integer"),
    ],
)
def test_negative_from_refuses_by_name(pipes, change, error, message):
    """In one line, before anything is run."""
    good = {"pipe": pipes["SD"], "negative_prompt": "cars", "start_step": 1}
    with pytest.raises(error, match=f"^{message}|{message}$") as caught:
        negative_from(**(good | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("start", "stop", "name"), [(S + 1, None, "start"), (1, S + 1, "stop")])
def test_a_step_after_the_last_update_is_refused(pipe, start, stop, name):
    """The number of updates is never, one more a mistake."""
    with pytest.raises(ValueError, match=rf"^{name}_step must lie in 0\.\.{S}, .* got {S + 1}$"):
        run(pipe, **negative_from(pipe, "cars", start, stop))


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_where_nothing_is_guided_it_is_refused(pipe, k, scale):
    """The pipeline itself would ignore its negative prompt without a word."""
    with pytest.raises(ValueError, match="^guidance_scale must be above 1, got"):
        run(pipe, guidance_scale=scale, **negative_from(pipe, "cars", k))


def test_other_rows_than_two_halves_are_refused(pipes):
    """Perturbed attention guidance has three parts, video a row for each frame."""
    switch = negative_from(pipes["SD"], "cars", 1)["callback_on_step_end"]
    rows = {"latents": torch.zeros(2, 4, 8, 8), "prompt_embeds": torch.zeros(6, 12, 16)}
    with pytest.raises(ValueError, match="^pipe must guide by two halves, .* 6 rows .* 2 images$"):
        switch(SimpleNamespace(num_timesteps=S, guidance_scale=7.5), 0, 999, rows)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prompts": "a street"}, TypeError, "prompts must be a list of texts"),
        ({"prompts": []}, TypeError, "prompts must be a list of texts"),
        ({"prompts": [None]}, TypeError, "prompts must be a list of texts"),
        ({"pipe": object()}, TypeError, "pipe must be a pipeline of Stable Diffusion"),
        ({"pipe": other(scheduler=object())}, TypeError, "pipe.scheduler must be a scheduler with"),
        ({"pipe": other(scheduler=tiny_sd.ddim(rescale_betas_zero_snr=True))}, ValueError,
         "pipe.scheduler has ᾱ_T = 0"),
        ({"pipe": other(scheduler=SimpleNamespace(
            alphas_cumprod=torch.tensor([0.5]), set_timesteps=print,
            config=SimpleNamespace(prediction_type="flow")))}, ValueError,
         "pipe.scheduler must predict epsilon, v_prediction or sample, got 'flow'"),
        ({"pipe": other(unet=tiny_sd.unet(in_channels=9))}, TypeError, "pipe.unet must be .* 9 ch"),
        ({"pipe": other(unet=tiny_sd.unet(num_class_embeds=5))}, TypeError,
         "pipe.unet must be .* num_class_embeds"),
        ({"pipe": other(unet=tiny_sd.unet(time_cond_proj_dim=8))}, TypeError,
         "pipe.unet must be .* time_cond_proj_dim"),
        ({"pipe": other(unet=tiny_sd.unet(addition_embed_type="text",
                                          addition_embed_type_num_heads=4))}, TypeError,
         "pipe.unet must be .* addition_embed_type"),
    ],
)  # fmt: skip
def test_stable_diffusion_refuses_by_name(pipes, change, error, message):
    """In one line, before anything is encoded."""
    with pytest.raises(error, match=f"^{message}") as caught:
        stable_diffusion(**({"pipe": pipes["SD"], "prompts": ["a street"]} | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((object(), 30, 0.0), "scheduler must be a scheduler with a table of ᾱ"),
        ((tiny_sd.ddim(), 0, 0.0), "S must be an integer in 1"),
        ((tiny_sd.ddim(), 30, math.nan), "value must lie in"),
    ],
)
def test_step_at_refuses_by_name(arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        step_at(*arguments)


def test_the_package_itself_imports_neither_library():
    """They are given to it as objects. (The benchmark's peers are another matter.)"""
    for path in (*(ROOT / "ddpm").rglob("*.py"), *(ROOT / "guidance").rglob("*.py")):
        assert not re.search(r"^\s*(from|import) (diffusers|transformers)", path.read_text(), re.M)
