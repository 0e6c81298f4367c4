"""An independent library. diffusers counts t from 0, so its t is ours minus one."""

import warnings

import pytest
import torch
from oracles import normal
from torch.testing import assert_close

from ddpm import (
    ancestral,
    cosine_schedule,
    ddim,
    dpm_solver,
    linear_schedule,
    q_sample,
    timesteps,
)

# Its tables are float32: 1 − ᾱ_1 = 1e-4 keeps 3 to 4 digits there.
CLOSE = {"rtol": 1e-3, "atol": 2e-4}
LINEAR = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}


@pytest.fixture(scope="module")
def diffusers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn about packages that it can do without
        library = pytest.importorskip("diffusers")
        assert library.DDPMScheduler and library.DDIMScheduler  # imported when first asked for
    return library


def eps(x_t, t):
    """Any smooth function will do."""
    return torch.tanh(x_t) * (0.5 + t.view(-1, 1) / 2000)


def schedules(name):
    return (linear_schedule(), LINEAR) if name == "linear" else (cosine_schedule(), COSINE)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_tables(diffusers, name):
    """β_t of both schedules."""
    ours, config = schedules(name)
    theirs = diffusers.DDPMScheduler(num_train_timesteps=1000, **config)
    assert_close(ours.beta[1:].float(), theirs.betas, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("steps", [1000, 50, [1000, 900, 400, 20, 1]])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("beta", "fixed_large"), ("posterior", "fixed_small")]
)
@pytest.mark.parametrize("clip", [None, (-1, 1)])
def test_ancestral_step_by_step(diffusers, steps, ours, theirs, clip):
    """DDPM Alg. 2 beside DDPMScheduler: all steps, even strides, uneven ones."""
    schedule, config = schedules("linear")
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=1000, variance_type=theirs, clip_sample=clip is not None, **config
    )
    visited = timesteps(1000, steps) if isinstance(steps, int) else steps
    scheduler.set_timesteps(timesteps=[t - 1 for t in visited])
    x = normal((5, 3))
    process = ancestral(
        schedule,
        eps,
        x,
        steps,
        clip=clip,
        variance=ours,
        generator=torch.Generator().manual_seed(0),
    )
    generator = torch.Generator().manual_seed(0)
    for step in process:
        answer = eps(x, torch.full((5,), step.t))
        theirs_step = scheduler.step(answer, step.t - 1, x, generator=generator)
        # It adds noise at the last update too, unless that leaves t = 1; Alg. 2 ends in the mean.
        last = theirs_step.pred_original_sample if step.t == visited[-1] else None
        assert_close(step.x, theirs_step.prev_sample if last is None else last, **CLOSE)
        if clip is not None or step.t < 900:  # 1/√ᾱ_T = 157 blows float32's error up
            assert_close(step.x_0, theirs_step.pred_original_sample, **CLOSE)
        x = step.x


@pytest.mark.parametrize("steps", [50, 8, 1000])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [None, (-1, 1)])
def test_ddim_step_by_step(diffusers, steps, eta, clip):
    """DDIM Eq. 12, 16 beside DDIMScheduler."""
    schedule, config = schedules("linear")
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=1000,
        clip_sample=clip is not None,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        **config,
    )
    scheduler.set_timesteps(steps)
    visited = timesteps(1000, steps)
    assert [t - 1 for t in visited] == scheduler.timesteps.tolist()
    x = normal((5, 3))
    process = ddim(
        schedule, eps, x, steps, clip=clip, eta=eta, generator=torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(0)
    for step in process:
        answer = eps(x, torch.full((5,), step.t))
        last = step.t == visited[-1]
        noise = None if last else torch.randn(x.shape, generator=generator, dtype=x.dtype)
        theirs = scheduler.step(
            answer,
            step.t - 1,
            x,
            eta=0.0 if last else eta,
            use_clipped_model_output=clip is not None,
            variance_noise=noise if eta > 0 else None,
        )
        assert_close(step.x, theirs.prev_sample, **CLOSE)
        x = step.x


def test_forward_noising(diffusers):
    """DDPM Eq. 4 beside add_noise."""
    schedule, config = schedules("linear")
    theirs = diffusers.DDPMScheduler(num_train_timesteps=1000, **config)
    x_0, noise, t = normal((6, 3)), normal((6, 3), 1), torch.tensor([1, 2, 10, 100, 500, 1000])
    expected = theirs.add_noise(x_0, noise, t - 1)
    assert_close(q_sample(schedule, x_0, t, noise), expected, **CLOSE)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own
@pytest.mark.parametrize("steps", [50, 8, 20, [1000, 900, 400, 390, 20]])
@pytest.mark.parametrize("clip", [None, (-1, 1)])
def test_dpm_solver_step_by_step(diffusers, steps, clip):
    """DPM-Solver++ Alg. 2 beside DPMSolverMultistepScheduler, which ends with a first-order update
    too. It has no fixed clip: x̂_0 is handed to it as its data prediction."""
    schedule, config = schedules("linear")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        prediction_type="sample",
        final_sigmas_type="zero",
        lower_order_final=True,
        timestep_spacing="trailing",
        **config,
    )
    visited = timesteps(1000, steps) if isinstance(steps, int) else steps
    scheduler.set_timesteps(len(visited))
    if isinstance(steps, int):
        assert [t - 1 for t in visited] == scheduler.timesteps.tolist()
    alpha_bar = schedule.alpha_bar[visited]
    scheduler.timesteps = torch.tensor([t - 1 for t in visited])
    sigmas = torch.cat([((1 - alpha_bar) / alpha_bar).sqrt(), torch.zeros(1)])
    scheduler.sigmas = sigmas  # what it makes of its float32 tables
    x = normal((5, 3))
    for step in dpm_solver(schedule, eps, x, steps, clip=clip):
        theirs = scheduler.step(step.x_0, step.t - 1, x).prev_sample
        assert_close(step.x, theirs, **CLOSE)
        x = step.x
