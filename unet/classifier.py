"""The noisy classifier p_φ(y|x_t, t) that classifier guidance needs. ADM Sec. 4.3."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet.blocks import DownPath, Level, TimeEmbedding, group_norm
from unet.checks import architecture, check_images, check_integers


class NoisyClassifier(nn.Module):
    """log-odds of p_φ(y|x_t, t): the U-Net's downsampling half, pooled, with a linear head.

    It sees images at every noise level t. Arguments as for `UNet`; it starts undecided, with all
    logits 0.
    """

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        classes: int = 10,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 1,
        attention: Sequence[int] = (7,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = architecture("NoisyClassifier", locals())
        if classes < 2:
            raise ValueError(f"classes must be ≥ 2, got {classes}")
        self.down = DownPath(size, channels, width, multipliers, blocks, attention, dropout)
        self.time = TimeEmbedding(width)
        c = self.down.widths[-1]
        self.last = Level(c, c, 4 * width, dropout, self.down.sides[-1] in attention)
        self.norm = group_norm(c)
        self.head = nn.Linear(c, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Logits (B, K), float32 at least. x_t: (B, channels, size, size); t: (B,) in 0..T."""
        check_images(x_t, self.architecture)
        check_integers("t", t, x_t)
        emb = self.time(t)
        h, _ = self.down(x_t, emb)
        h = F.silu(self.norm(self.last(h, emb)))
        logits: Tensor = self.head(h.mean(dim=(2, 3)))  # (B, K)
        return logits.to(torch.promote_types(x_t.dtype, torch.float32))
