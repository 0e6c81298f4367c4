"""The noise predictor ε_θ(x_t, t, c). DDPM App. B; AdaGN and conditioning of ADM Sec. 3."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unet.blocks import DownPath, Level, TimeEmbedding, group_norm, zero
from unet.checks import architecture, check_images, check_integers


class UNet(nn.Module):
    """ε_θ(x_t, t, c) -> ε̂: the noise that was added to the image.

    size, channels: of the image, size×size; classes: K. The embedding table has K+1 rows: row K
    is ∅, learned like any class, because a zero vector would be a class of its own that nothing
    has trained. width: channels at the finest level; multipliers: of width, one per level, each
    level half the size of the one before; blocks: residual blocks a level; attention: the sides
    (in pixels) with self-attention. The output starts at zero.
    """

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        classes: int = 10,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (7,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = architecture("UNet", locals())
        self.null_token = classes
        self.down = DownPath(size, channels, width, multipliers, blocks, attention, dropout)
        self.time = TimeEmbedding(width)
        self.label = nn.Embedding(classes + 1, 4 * width)
        sides, widths, emb = self.down.sides, self.down.widths, 4 * width
        self.middle = nn.ModuleList(
            [
                Level(widths[-1], widths[-1], emb, dropout, sides[-1] in attention),
                Level(widths[-1], widths[-1], emb, dropout, False),
            ]
        )
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        c = widths[-1]
        for level in reversed(range(len(sides))):
            blocks_up = nn.ModuleList()
            for _ in range(blocks):
                c_in = c + widths[level]  # what comes from below, and the skip beside it
                c = widths[level]
                blocks_up.append(Level(c_in, c, emb, dropout, sides[level] in attention))
            self.up.append(blocks_up)
            self.upsample.append(nn.Identity() if level == 0 else nn.Conv2d(c, c, 3, padding=1))
        self.norm = group_norm(c)
        self.out = zero(nn.Conv2d(c, channels, 3, padding=1))

    def forward(self, x_t: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """ε̂ for each image. x_t: (B, channels, size, size); t: (B,) in 1..T; c: (B,) in 0..K.

        c=None is ∅ for every image. Returns the shape and type of x_t. ValueError on other shapes.
        """
        check_images(x_t, self.architecture)
        check_integers("t", t, x_t)
        c = torch.full_like(t, self.null_token) if c is None else c
        check_integers("c", c, x_t, self.null_token)
        emb = self.time(t) + self.label(c)  # (B, 4·width)
        h, skips = self.down(x_t, emb)
        for block in self.middle:
            h = block(h, emb)
        for blocks, upsample in zip(self.up, self.upsample, strict=True):
            for block in cast(nn.ModuleList, blocks):
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
            if isinstance(upsample, nn.Conv2d):
                h = upsample(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        eps: Tensor = self.out(F.silu(self.norm(h)))  # (B, channels, size, size)
        return eps.to(x_t.dtype)
