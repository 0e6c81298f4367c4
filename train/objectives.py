"""What the networks learn: ε_θ by L_simple, p_φ on noised images, the judge on clean ones."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm import Schedule, q_sample, simple_loss
from ddpm.forward import noise_like
from guidance import drop_labels
from train.config import Config
from train.data import Dataset
from train.training import Loss
from unet import Judge, NoisyClassifier, UNet


def unet_loss(schedule: Schedule, config: Config) -> Loss:
    """L_simple with labels dropped to ∅ (DDPM Eq. 14, CFG Alg. 1)."""

    def loss(model: UNet, x_0: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        c = drop_labels(
            one_concept(c, generator), config.p_uncond, null=model.null_token, generator=generator
        )
        return simple_loss(schedule, lambda x_t, t: model(x_t, t, c), x_0, generator=generator)

    return loss


def classifier_loss(schedule: Schedule) -> Loss:
    """−log p_φ(y|x_t, t), t ~ U{1, …, T}: on the noised images that it will judge. ADM Sec. 4.3."""

    def loss(model: nn.Module, x_0: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        t = torch.randint(1, schedule.T + 1, y.shape[:1], generator=generator, device=x_0.device)
        noise = noise_like(x_0, generator)
        return negative_log_likelihood(model(q_sample(schedule, x_0, t, noise), t), y)

    return loss


def judge_loss(model: nn.Module, x_0: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """−log p(y|x_0) on clean images, each a little turned, scaled and shifted."""
    return negative_log_likelihood(model(jitter(x_0, generator)), y)


def negative_log_likelihood(logits: Tensor, y: Tensor) -> Tensor:
    """−log p(y), the mean over images: of classes (B,), or of concepts (B, K) bool.

    Classes exclude each other and share a softmax; of concepts each has a sigmoid, and they add up.
    """
    if y.ndim == 1:
        return F.cross_entropy(logits, y)
    return F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype)) * y.shape[1]


def one_concept(c: Tensor, generator: torch.Generator) -> Tensor:
    """One label of each image, (B,) int64: of the concepts true of it (B, K), each as likely.

    A prompt says a part of what is there. Of classes (B,) there is nothing to draw.
    """
    if c.ndim == 1:
        return c
    return torch.multinomial(c.float(), 1, generator=generator)[:, 0]


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 10°, scaled by 0.9 to 1.1, shifted by up to a 14th of its side.

    x: (B, C, H, W). The border's pixels go on where the image ends. Returns (B, C, H, W).
    """
    u = torch.rand(4, len(x), generator=generator, device=x.device, dtype=x.dtype)
    u = 2 * u - 1  # in [-1, 1)
    angle, scale = torch.pi / 18 * u[0], 1 + 0.1 * u[1]
    cos, sin, shift = scale * angle.cos(), scale * angle.sin(), u[2:] / 7
    rows = (torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1))
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def new_networks(config: Config, data: Dataset) -> tuple[UNet, NoisyClassifier | None]:
    """Untrained ε_θ and p_φ for images of this data set; of one class there is no p_φ."""
    _, channels, size, _ = data.images.shape
    shape: dict[str, Any] = {"size": size, "channels": channels, "classes": len(data.classes)}
    for name in ("width", "multipliers", "attention", "dropout"):
        shape[name] = getattr(config, name)
    torch.manual_seed(config.seed)
    unet = UNet(**shape, blocks=config.blocks)
    return unet, NoisyClassifier(**shape, blocks=1) if len(data.classes) > 1 else None


def possible(config: Config, data: Dataset) -> Config:
    """The configuration; without p_φ and the judge, and that said, if data can't teach them."""
    why = "has one class" if len(data.classes) == 1 else ""
    why = why or ("" if len(data.test_images) else "has one picture of each class, to train on")
    if not why or not (config.classifier_steps or config.judge_steps):
        return config
    print(f"{data.name} {why}: no classifier and no judge is trained")
    return replace(config, classifier_steps=0, judge_steps=0)


def new_judge(data: Dataset, config: Config) -> Judge:
    """An untrained judge for images of this data set."""
    _, channels, size, _ = data.images.shape
    torch.manual_seed(config.seed)
    return Judge(size, channels, len(data.classes), config.judge_width)


def phases(
    unet: UNet,
    classifier: NoisyClassifier | None,
    config: Config,
    data: Dataset,
    schedule: Schedule,
) -> Iterator[tuple[str, UNet | NoisyClassifier | Judge, Loss, int]]:
    """(name, network, loss, steps) of what is trained. The judge and its seed come in its turn."""
    yield "unet", unet, unet_loss(schedule, config), config.steps
    if config.classifier_steps and classifier is not None:
        yield "classifier", classifier, classifier_loss(schedule), config.classifier_steps
    if config.judge_steps:
        yield "judge", new_judge(data, config), judge_loss, config.judge_steps
