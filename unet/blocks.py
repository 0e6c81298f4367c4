"""The parts of the U-Net: embeddings, residual block, attention, and the downsampling half."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """[cos(t·ω_i), sin(t·ω_i)], ω_i = 10000^(−2i/dim), i = 0 … dim/2 − 1.

    DDPM App. B (the Transformer's sinusoids). t: (B,). Returns (B, dim) float32.
    """
    omega = torch.exp(torch.arange(dim // 2, device=t.device) * (-2 * math.log(1e4) / dim))
    angle = t.float()[:, None] * omega  # (B, dim/2)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class TimeEmbedding(nn.Sequential):
    """Sinusoids of t, then a small MLP: (B,) -> (B, 4·width)."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.width = width

    def forward(self, t: Tensor) -> Tensor:
        angles = timestep_embedding(t, self.width)
        h = angles.to(next(self.parameters()).dtype)  # (B, width)
        for layer in self:
            h = layer(h)
        return h


class ResBlock(nn.Module):
    """h + conv(SiLU(AdaGN(conv(SiLU(GroupNorm(h))), y))): (B, C_in, H, W) -> (B, C_out, H, W).

    AdaGN(h, y) = y_s·GroupNorm(h) + y_b with [y_s − 1, y_b] linear in the embedding (ADM Sec. 3).
    The last convolution starts at zero, so that a new block passes its input on.
    """

    def __init__(self, c_in: int, c_out: int, emb: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = group_norm(c_in)
        self.conv_in = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.scale_shift = nn.Linear(emb, 2 * c_out)
        self.norm_out = group_norm(c_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = rearrange(self.scale_shift(F.silu(emb)), "b (two c) -> two b c 1 1", two=2)
        h = self.norm_out(h) * (1 + scale) + shift
        y: Tensor = self.skip(x) + self.conv_out(self.dropout(F.silu(h)))
        return y


class SelfAttention(nn.Module):
    """h + Attention(GroupNorm(h)) over the H·W pixels, 32 channels a head or more. DDPM App. B."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(h for h in range(1, max(1, channels // 32) + 1) if channels % h == 0)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x))
        pattern = "b (three heads d) h w -> three b heads (h w) d"
        q, k, v = rearrange(qkv, pattern, three=3, heads=self.heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H·W, d)
        y: Tensor = self.out(rearrange(h, "b heads (h w) d -> b (heads d) h w", h=x.shape[2]))
        return x + y


class Level(nn.Module):
    """One residual block at one resolution, with self-attention behind it where asked for."""

    def __init__(self, c_in: int, c_out: int, emb: int, dropout: float, attention: bool) -> None:
        super().__init__()
        self.block = ResBlock(c_in, c_out, emb, dropout)
        self.attention = SelfAttention(c_out) if attention else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        x = self.block(x, emb)
        return x if self.attention is None else self.attention(x, emb)


class DownPath(nn.Module):
    """The downsampling half: an image -> its coarsest features, and one skip per block.

    size: pixels a side; attention: the sides (in pixels) at which self-attention is applied.
    ValueError if size can't be halved often enough, or attention names a side that never occurs.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        halvings = len(multipliers) - 1
        if not multipliers or width % 8:
            raise ValueError(
                "multipliers must not be empty and width a multiple of 8, got "
                f"{tuple(multipliers)} and {width}"
            )
        if size < 2**halvings or size % 2**halvings:
            raise ValueError(
                f"size must be divisible by {2**halvings}: {len(multipliers)} multipliers halve "
                f"the image {halvings} times, got {size}"
            )
        self.sides = [size // 2**level for level in range(len(multipliers))]
        if not set(attention) <= set(self.sides):
            raise ValueError(
                f"attention must name sides among {self.sides}, got {tuple(attention)}"
            )
        self.widths = [width * m for m in multipliers]
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.levels, self.downsample = nn.ModuleList(), nn.ModuleList()
        c = width
        for side, c_out in zip(self.sides, self.widths, strict=True):
            level = nn.ModuleList()
            for _ in range(blocks):
                level.append(Level(c, c_out, 4 * width, dropout, side in attention))
                c = c_out
            self.levels.append(level)
            last = side == self.sides[-1]
            self.downsample.append(
                nn.Identity() if last else nn.Conv2d(c, c, 3, stride=2, padding=1)
            )

    def forward(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        h = self.stem(x)
        for level, downsample in zip(self.levels, self.downsample, strict=True):
            for block in cast(nn.ModuleList, level):
                h = block(h, emb)
                skips.append(h)
            h = downsample(h)
        return h, skips


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with at most 32 groups, of a multiple of 8 channels each."""
    groups = max(g for g in range(1, 33) if channels // 8 % g == 0)
    return nn.GroupNorm(groups, channels)


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all its parameters set to 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
