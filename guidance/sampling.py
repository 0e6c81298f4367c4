"""From a guidance's name and its numbers to samples: what the commands share."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ddpm import Step, ancestral, ddim, timesteps
from ddpm.forward import check_batches
from ddpm.schedule import integer
from guidance.arguments import check_labels, per_image
from guidance.classifier import class_log_prob, classifier_guidance, classifier_mean_shift
from guidance.classifier_free import classifier_free_guidance
from guidance.dynamic import posterior_negative_guidance
from guidance.models import Models
from guidance.negative import negative_guidance

KINDS = ("none", "classifier", "classifier-free", "negative", "posterior-negative")
SAMPLERS = ("ddim", "ancestral")


class Request(NamedTuple):
    """One row of samples. Class numbers are 0..K with K = ∅; steps count from the noisy end."""

    kind: str  # none, classifier, classifier-free, negative, posterior-negative
    positive: int | Tensor  # one class, or one for each image (n,)
    negative: int | Tensor = 0
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


def sample(
    models: Models,
    request: Request,
    sampler: Sampler,
    x_T: Tensor,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """From x_T (n, C, H, W) to n images by one guidance; generator: for samplers that draw noise.

    ValueError, naming the flag, where the request and the sampler don't fit.
    """
    unet, schedule, K = models.unet, models.schedule, models.unet.null_token
    if request.kind not in KINDS or sampler.name not in SAMPLERS:
        raise ValueError(
            f"kind must be one of {KINDS} and the sampler's name one of {SAMPLERS}, "
            f"got {request.kind!r} and {sampler.name!r}"
        )
    if models.classifier is None and request.kind in ("classifier", "posterior-negative"):
        raise ValueError(f"kind {request.kind} needs a classifier, and models has none")
    check_batches(x_T=x_T)
    c = per_image("positive", check_labels("positive", request.positive, K), x_T)
    shift = None
    predictor = lambda x_t, t: unet(x_t, t, c)  # noqa: E731
    if request.kind == "classifier-free":
        predictor = classifier_free_guidance(unet, c, request.w, null=K)
    elif request.kind == "negative":
        start, stop = window(schedule.T, sampler.steps, request.start_step, request.stop_step)
        predictor = negative_guidance(
            unet, c, request.negative, request.w, null=K, start=start, stop=stop
        )
    elif request.kind == "posterior-negative":
        assert models.classifier is not None
        log_prob = class_log_prob(models.classifier, request.negative)
        predictor = posterior_negative_guidance(
            unet, log_prob, request.negative, null=K, scale=request.scale
        )
    elif request.kind == "classifier":
        if bool((c == K).any()):
            raise ValueError("--class must name a class for classifier guidance, got ∅")
        assert models.classifier is not None
        log_prob = class_log_prob(models.classifier, c)
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


def draw(
    models: Models,
    request: Request,
    sampler: Sampler,
    c: Tensor,
    seed: int,
    *,
    batch_size: int = 100,
    dtype: torch.dtype | None = None,
    text: str = "samples",
    share: tuple[int, int] = (0, 1),
) -> Tensor:
    """One sample for each label of c (n,), ∅ = K allowed: (n, C, H, W), float32 on the CPU.

    The same seed gives every request the same x_T. dtype: of autocast, None for none.
    share (k, m): only every m-th batch from the k-th on, with the x_T that it has among all.
    """
    c, whole = check_labels("c", c, models.unet.null_token), integer(seed)
    if whole is None or not 0 <= whole < 2**63:
        raise ValueError(f"seed must be an integer in 0..2^63−1, got {seed!r:.80}")
    if (integer(batch_size) or 0) < 1 or c.ndim != 1 or not len(c):
        raise ValueError(f"batch_size must be at least 1 and c (n,), got {batch_size!r:.80}")
    generator = torch.Generator().manual_seed(seed)
    x_T = models.noise(len(c), generator)
    k, m = share
    if k:  # the noise of other batches is other noise
        generator.manual_seed(stream_seed(seed, k))
    batches = list(zip(x_T.split(batch_size), c.split(batch_size), strict=True))[k::m]
    n = sum(len(labels) for _, labels in batches)
    samples = [x_T[:0].float().cpu()]
    with (
        tqdm(total=n, desc=text, unit="img", leave=False, disable=None) as bar,
        torch.autocast(x_T.device.type, dtype, enabled=dtype is not None),
    ):
        for x, labels in batches:
            row = request._replace(positive=labels.to(x_T.device))
            *_, last = sample(models, row, sampler, x, generator)
            samples.append(last.x.float().cpu())
            bar.update(len(x))
    return torch.cat(samples)


def stream_seed(seed: int, stream: int) -> int:
    """`seed` for stream 0; far apart for the others, in the 32 bits that the CPU takes as well."""
    return (seed + stream * 0x9E3779B97F4A7C15) % 2**63 if stream else seed


def window(T: int, S: int, start_step: int, stop_step: int | None = None) -> tuple[int, int]:
    """(start, stop) for `negative_guidance`: values of t from step numbers in 0..S.

    Step k is the update at timesteps(T, S)[k]; S is "after the last". start_step is the first with
    the negative class, stop_step the first without it again.
    """
    visited = [*timesteps(T, S), 0]
    stop_step = S if stop_step is None else stop_step
    for flag, k in (("--start-step", start_step), ("--stop-step", stop_step)):
        if integer(k) is None or not 0 <= k <= S:
            raise ValueError(f"{flag} must lie in 0..{S} ({S} is after the last step), got {k}")
    if start_step > stop_step:
        raise ValueError(
            f"--start-step must not come after --stop-step, got {start_step} and {stop_step}"
        )
    return visited[start_step], visited[stop_step]
