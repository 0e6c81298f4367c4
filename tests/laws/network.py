"""The networks a second time: a page of plain functions on tensors that read a state_dict.

DDPM App. B, ADM Sec. 3 and 4.3. None of torch's layers, none of einops: a convolution is a product
with its windows, a norm is a mean and a variance, a softmax is exp over its sum, and each head is
cut out by hand.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]  # name -> tensor, as state_dict() has them
Dropout = Callable[[Tensor], Tensor]


def noise_predictor(state: State, shape: Mapping[str, Any], x: Tensor, t: Tensor, c: Tensor,
                    dropout: Dropout) -> Tensor:  # fmt: skip
    """ε_θ(x_t, t, c). Down, through the middle, and up, each block beside the skip of its like."""
    emb = time(state, t, shape["width"]) + state["label.weight"][c]
    h, skips = down(state, shape, x, emb, dropout)
    h = level(state, "middle.0", h, emb, dropout, shape["attention"])
    h = level(state, "middle.1", h, emb, dropout, ())
    levels = len(shape["multipliers"])
    for i in range(levels):
        for j in range(shape["blocks"]):
            h = torch.cat([h, skips.pop(-1)], dim=1)  # what comes from below first
            h = level(state, f"up.{i}.{j}", h, emb, dropout, shape["attention"])
        if i < levels - 1:
            h = h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            h = convolution(state, f"upsample.{i}", h)
    return convolution(state, "out", silu(group_norm(state, "norm", h)))


def noisy_classifier(state: State, shape: Mapping[str, Any], x: Tensor, t: Tensor,
                     dropout: Dropout) -> Tensor:  # fmt: skip
    """Logits of p_φ(y|x_t, t): the way down, one block more, the mean over the pixels."""
    emb = time(state, t, shape["width"])
    h, _ = down(state, shape, x, emb, dropout)
    h = level(state, "last", h, emb, dropout, shape["attention"])
    h = silu(group_norm(state, "norm", h))
    return linear(state, "head", h.flatten(2).mean(2))


def judge(state: State, x: Tensor, dropout: Dropout, training: bool
          ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # fmt: skip
    """The features, the logits, and the running statistics after them."""
    h, statistics = x, {}
    for i, stride in enumerate((1, 2, 1, 2, 1)):
        h = convolution(state, f"convolutions.{i}", h, stride=stride, bias=False)
        h, new = batch_norm(state, f"norms.{i}", h, training)
        h = torch.where(h > 0, h, 0)
        statistics |= new
    features = h.flatten(2).mean(2)
    return features, linear(state, "head", dropout(features)), statistics


def down(state: State, shape: Mapping[str, Any], x: Tensor, emb: Tensor, dropout: Dropout
         ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """The coarsest features, and what each block left on the way."""
    h, skips = convolution(state, "down.stem", x), []
    levels = len(shape["multipliers"])
    for i in range(levels):
        for j in range(shape["blocks"]):
            h = level(state, f"down.levels.{i}.{j}", h, emb, dropout, shape["attention"])
            skips.append(h)
        if i < levels - 1:
            h = convolution(state, f"down.downsample.{i}", h, stride=2)
    return h, skips


def level(state: State, name: str, x: Tensor, emb: Tensor, dropout: Dropout, sides: tuple[int, ...]
          ) -> Tensor:  # fmt: skip
    """A residual block, and behind it attention where the image has one of these sides."""
    x = res_block(state, f"{name}.block", x, emb, dropout)
    return attention(state, f"{name}.attention", x) if x.shape[3] in sides else x


def res_block(state: State, name: str, x: Tensor, emb: Tensor, dropout: Dropout) -> Tensor:
    """DDPM App. B with ADM's AdaGN after the first convolution, y_s = 1 + s."""
    h = convolution(state, f"{name}.conv_in", silu(group_norm(state, f"{name}.norm_in", x)))
    channels = h.shape[1]
    y = linear(state, f"{name}.scale_shift", silu(emb))[:, :, None, None]
    s, b = y[:, :channels], y[:, channels:]
    h = (1 + s) * group_norm(state, f"{name}.norm_out", h) + b
    h = convolution(state, f"{name}.conv_out", dropout(silu(h)))
    return h + (x if x.shape[1] == channels else convolution(state, f"{name}.skip", x, k=1))


def attention(state: State, name: str, x: Tensor) -> Tensor:
    """x + softmax(QKᵀ/√d)·V, a head at a time. The narrowest heads of 32 channels or more."""
    C = x.shape[1]
    d = next(d for d in range(min(32, C), C + 1) if C % d == 0)
    qkv = convolution(state, f"{name}.qkv", group_norm(state, f"{name}.norm", x), k=1).flatten(2)
    heads = []
    for i in range(0, C, d):
        q, k, v = (qkv[:, start + i : start + i + d].mT for start in (0, C, 2 * C))  # (B, N, d)
        scores = q @ k.mT / d**0.5  # (B, N, N)
        weights = (scores - scores.amax(2, keepdim=True)).exp()
        heads.append((weights / weights.sum(2, keepdim=True) @ v).mT)  # (B, d, N)
    return x + convolution(state, f"{name}.out", torch.cat(heads, dim=1).view_as(x), k=1)


def time(state: State, t: Tensor, width: int) -> Tensor:
    return linear(state, "time.2", silu(linear(state, "time.0", sinusoids(t, width))))


def sinusoids(t: Tensor, d: int) -> Tensor:
    """cos, then sin, of t/10000^(2i/d), in float64."""
    angle = t.double()[:, None] / 10_000 ** (torch.arange(0, d, 2).double() / d)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def convolution(state: State, name: str, x: Tensor, k: int = 3, stride: int = 1, bias: bool = True
                ) -> Tensor:  # fmt: skip
    """The k×k windows of x, with zeros around it so that stride 1 keeps its size, times weights."""
    B, C, H, W = x.shape
    weight, edge = state[f"{name}.weight"].view(-1, C, k, k), k // 2  # (C_out, C, k, k)
    padded = x.new_zeros(B, C, H + 2 * edge, W + 2 * edge)
    padded[:, :, edge : edge + H, edge : edge + W] = x
    windows = padded.unfold(2, k, stride).unfold(3, k, stride)  # (B, C, H', W', k, k)
    y = torch.einsum("bchwij,ocij->bohw", windows, weight)
    return y + state[f"{name}.bias"][:, None, None] if bias else y


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].mT + state[f"{name}.bias"]


def group_norm(state: State, name: str, x: Tensor) -> Tensor:
    """As many groups as there can be, up to 32, whose channels are 8, 16, 24, …"""
    groups = next(g for g in range(32, 0, -1) if x.shape[1] % (8 * g) == 0)
    parts = x.reshape(len(x), groups, -1)
    centred = parts - parts.mean(2, keepdim=True)
    variance = centred.square().mean(2, keepdim=True)
    return affine(state, name, (centred / (variance + 1e-5).sqrt()).view_as(x))


def batch_norm(state: State, name: str, x: Tensor, training: bool
               ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """By this batch's mean and variance, of which the running ones take a tenth; or by those."""
    old = [state[f"{name}.{which}"] for which in ("running_mean", "running_var")]
    mean, variance = old
    if training:
        values = x.transpose(0, 1).flatten(1)  # (C, B·H·W)
        n, mean = values.shape[1], values.mean(1)
        variance = (values - mean[:, None]).square().sum(1) / n
        old = [0.9 * old[0] + 0.1 * mean, 0.9 * old[1] + 0.1 * variance * n / (n - 1)]
    normed = (x - mean[:, None, None]) / (variance + 1e-5).sqrt()[:, None, None]
    new = {f"{name}.running_mean": old[0], f"{name}.running_var": old[1]}
    return affine(state, name, normed), new


def affine(state: State, name: str, x: Tensor) -> Tensor:
    """γ·x + β, a number for each channel."""
    return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())
