"""Stable Diffusion: a start step for its negative prompt, and its network as ε_θ(x_t, t, c).

A prompt is a class, the text encoder its embedding table, no negative prompt ∅. The pipeline comes
in as an object; nothing of diffusers is imported. The facts behind it: docs/stable-diffusion.md.
"""

from typing import Annotated, Any

import torch
from torch import Tensor

from ddpm import Schedule
from ddpm.checked import checked
from ddpm.checks import Count, number
from guidance.arguments import ConditionalPredictor
from guidance.pipeline import (
    Network,
    Pipe,
    Scheduler,
    StartStep,
    StopStep,
    Text,
    Texts,
    ask,
    check_run,
    negative_rows,
    nothing,
    seen,
)


@checked
def negative_from(
    pipe: Pipe, negative_prompt: Text, start_step: StartStep, stop_step: StopStep = None
) -> dict[str, Any]:
    """`pipe("a street", **negative_from(pipe, "cars", 5), guidance_scale=7.5)`: from step 5 on.

    NegPrompt Eq. 4 up to start_step, Eq. 5 from there on, Eq. 4 again from stop_step on. Steps are
    updates: with 5, five are made without the negative prompt. 0 is the pipeline's own
    `negative_prompt`, and the number of updates (S; S + 1 of PNDM, 2S − 1 of Heun) is never.
    negative_prompt: one or a list of them, in the form in which the pipeline gets its prompt.
    ValueError, also within the run: nothing is guided, or a step comes after the last update.
    """
    texts = [negative_prompt] if isinstance(negative_prompt, str) else negative_prompt
    acts = {0: None, start_step: texts, stop_step: None}  # what is in ∅'s place from which step on
    rows = {step: negative_rows(pipe, what, len(texts)) for step, what in acts.items() if step}

    def switch(pipe: Any, i: int, t: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if i == 0:
            check_run(pipe, tensors, start_step, stop_step)
        n = len(tensors["latents"])
        for name, new in rows.get(i + 1, {}).items():  # after update i: what update i + 1 sees
            new = new.repeat_interleave(n // len(new), dim=0)  # several images for each prompt
            tensors[name] = torch.cat([new, tensors[name][n:]])  # the negative half comes first
        return tensors

    first = {"negative_prompt": negative_prompt} if acts[0] else nothing(pipe, negative_prompt)
    inputs = {"callback_on_step_end_tensor_inputs": ["latents", *seen(pipe)]}
    return first | inputs | {"callback_on_step_end": switch}


@checked
def stable_diffusion(pipe: Network, prompts: Texts) -> tuple[ConditionalPredictor, Schedule]:
    """(ε_θ, schedule) of the pipeline: class k is prompts[k], and ∅ = len(prompts) no prompt.

    For every guidance and sampler here, on latents with clip=None; t is ours, 1..T. A predicted v
    or x_0 becomes ε, with which guidance commutes, as 1 + w and −w sum to 1.
    The image is `pipe.vae.decode(x_0 / pipe.vae.config.scaling_factor).sample`.
    """
    each = [*(negative_rows(pipe, [text]) for text in prompts), negative_rows(pipe, None)]
    tables = [torch.cat([row[name] for row in each]) for name in seen(pipe)]  # (K+1, …)
    alpha_bar = torch.cat([torch.ones(1), pipe.scheduler.alphas_cumprod.cpu().double()])
    schedule = Schedule(1 - alpha_bar[1:] / alpha_bar[:-1])  # its own table: β_1 … β_T

    def eps(x_t: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        c = torch.full_like(t, len(prompts)) if c is None else c
        out = ask(pipe, x_t, t - 1, *(table[c] for table in tables))
        signal = schedule.at(schedule.alpha_bar.sqrt(), t, x_t)  # (B, 1, 1, 1)
        noise = schedule.at((1 - schedule.alpha_bar).sqrt(), t, x_t)
        if pipe.scheduler.config.prediction_type == "v_prediction":  # v = √ᾱ·ε − √(1−ᾱ)·x_0
            return signal * out + noise * x_t
        if pipe.scheduler.config.prediction_type == "sample":
            return (x_t - signal * out) / noise
        return out

    return eps, schedule


@checked
def log_snr(scheduler: Scheduler, S: Count) -> Tensor:
    """log(ᾱ/(1−ᾱ)) at each update that a pipeline's scheduler makes for S steps; it rises."""
    scheduler.set_timesteps(S)
    table: Tensor = scheduler.alphas_cumprod.cpu().double().logit()
    return table[scheduler.timesteps.round().long()]


@checked
def step_at(scheduler: Scheduler, S: Count, value: Annotated[float, number(-100, 100)]) -> int:
    """The first step of S whose log_snr is at least value: a critical step, on another schedule."""
    return int((log_snr(scheduler, S) < value).sum())
