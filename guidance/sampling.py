"""From a guidance's name and its numbers to samples: what the commands share."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ddpm import Step, ancestral, ddim, timesteps
from guidance.classifier import class_log_prob, classifier_guidance, classifier_mean_shift
from guidance.classifier_free import classifier_free_guidance
from guidance.models import Models
from guidance.negative import negative_guidance


class Request(NamedTuple):
    """One row of samples. Class numbers are 0..K with K = ∅; steps count from the noisy end."""

    kind: str  # none, classifier, classifier-free, negative
    positive: int
    negative: int = 0
    w: float = 0.0
    scale: float = 0.0
    start_step: int = 0
    stop_step: int | None = None  # None: it stays to the end
    conditional: bool = False  # guide ε(c) rather than ε(∅)
    mean_shift: bool = False  # ADM Alg. 1 rather than Eq. 14


class Sampler(NamedTuple):
    """How x_T becomes x_0."""

    name: str = "ddim"  # or ancestral
    steps: int = 50
    eta: float = 0.0
    variance: str = "posterior"


def sample(models: Models, request: Request, sampler: Sampler, n: int, seed: int) -> Iterator[Step]:
    """n images by one guidance; the same seed gives every request the same x_T and noise.

    ValueError, naming the flag, where the request and the sampler don't fit.
    """
    unet, schedule, K = models.unet, models.schedule, models.unet.null_token
    generator = torch.Generator().manual_seed(seed)
    x_T = models.noise(n, generator)  # the sampler goes on drawing from the same generator
    c = torch.full((n,), request.positive, device=x_T.device)
    shift = None
    predictor = lambda x_t, t: unet(x_t, t, c)  # noqa: E731
    if request.kind == "classifier-free":
        predictor = classifier_free_guidance(unet, c, request.w, null=K)
    elif request.kind == "negative":
        start, stop = window(schedule.T, sampler.steps, request.start_step, request.stop_step)
        predictor = negative_guidance(
            unet, c, request.negative, request.w, null=K, start=start, stop=stop
        )
    elif request.kind == "classifier":
        if request.positive == K:
            raise ValueError("--class must name a class for classifier guidance, got ∅")
        assert models.classifier is not None
        log_prob = class_log_prob(models.classifier, request.positive)
        base = predictor if request.conditional else unet
        if request.mean_shift:
            predictor, shift = base, classifier_mean_shift(log_prob, request.scale)
        else:
            predictor = classifier_guidance(base, log_prob, request.scale, schedule)
    if sampler.name == "ddim":
        if request.mean_shift:
            raise ValueError("--mean-shift needs --sampler ancestral, got ddim")
        return ddim(schedule, predictor, x_T, sampler.steps, eta=sampler.eta, generator=generator)
    if sampler.eta:
        raise ValueError(f"--eta needs --sampler ddim, got {sampler.eta} with ancestral")
    return ancestral(
        schedule,
        predictor,
        x_T,
        sampler.steps,
        variance=sampler.variance,
        shift=shift,
        generator=generator,
    )


def class_samples(
    models: Models, *, w: float, per_class: int, steps: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Classifier-free samples of every class: x (K·per_class, C, H, W) and c, sorted by class."""
    K = models.unet.null_token
    x_T = models.noise(K * per_class, torch.Generator().manual_seed(seed))
    c = torch.arange(K, device=x_T.device).repeat_interleave(per_class)  # (K·per_class,)
    predictor = classifier_free_guidance(models.unet, c, w, null=K)
    *_, last = ddim(models.schedule, predictor, x_T, steps)
    return last.x, c


def window(T: int, S: int, start_step: int, stop_step: int | None = None) -> tuple[int, int]:
    """(start, stop) for `negative_guidance`: values of t from step numbers in 0..S.

    Step k is the update at timesteps(T, S)[k]; S is "after the last". start_step is the first with
    the negative class, stop_step the first without it again.
    """
    visited = [*timesteps(T, S), 0]
    stop_step = S if stop_step is None else stop_step
    for flag, k in (("--start-step", start_step), ("--stop-step", stop_step)):
        if not 0 <= k <= S:
            raise ValueError(f"{flag} must lie in 0..{S} ({S} is after the last step), got {k}")
    if start_step > stop_step:
        raise ValueError(
            f"--start-step must not come after --stop-step, got {start_step} and {stop_step}"
        )
    return visited[start_step], visited[stop_step]
