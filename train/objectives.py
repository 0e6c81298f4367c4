"""What the two networks learn: ε_θ by L_simple, p_φ by cross-entropy on noised images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm import Schedule, q_sample, simple_loss
from guidance import drop_labels
from train.config import Config
from train.loop import Loss
from unet import UNet


def unet_loss(schedule: Schedule, config: Config) -> Loss:
    """L_simple with labels dropped to ∅ (DDPM Eq. 14, CFG Alg. 1)."""

    def loss(model: UNet, x_0: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
        c = drop_labels(c, config.p_uncond, null=model.null_token, generator=generator)
        return simple_loss(schedule, lambda x_t, t: model(x_t, t, c), x_0, generator=generator)

    return loss


def classifier_loss(schedule: Schedule) -> Loss:
    """−log p_φ(y|x_t, t), t ~ U{1, …, T}: on the noised images that it will judge. ADM Sec. 4.3."""

    def loss(model: nn.Module, x_0: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        device = x_0.device
        t = torch.randint(1, schedule.T + 1, y.shape, generator=generator, device=device)
        noise = torch.randn(x_0.shape, generator=generator, device=device)
        return F.cross_entropy(model(q_sample(schedule, x_0, t, noise), t).float(), y)

    return loss
