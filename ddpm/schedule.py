"""How much of the image is left at each t: β_t, α_t, ᾱ_t. DDPM Sec. 2; IDDPM's cosine schedule."""

import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Schedule:
    """β_t, α_t = 1 − β_t, ᾱ_t = α_1·…·α_t and β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t.

    DDPM Eq. 2, 4, 7. Every table is (T+1,) float64 on the CPU and its index is the
    paper's t: entry 0 is clean data, β_0 = 0 and ᾱ_0 = 1.
    beta: (T,), the values β_1 … β_T, each in (0, 1). info: see `from_info`.
    """

    def __init__(self, beta: Tensor, info: dict[str, Any] | None = None) -> None:
        try:
            if torch.is_tensor(beta) and beta.is_complex():
                raise TypeError("beta is complex")
            beta = torch.as_tensor(beta, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError, OverflowError):
            beta = torch.empty(0)
        if beta.ndim != 1 or len(beta) == 0 or not bool(((beta > 0) & (beta < 1)).all()):
            raise ValueError(
                f"beta must be a non-empty list of numbers in (0, 1), got {beta!s:.80}"
            )
        self.T = len(beta)
        self.beta = torch.cat([beta.new_zeros(1), beta])  # (T+1,)
        self.alpha = 1 - self.beta  # (T+1,)
        self.alpha_bar = self.alpha.cumprod(0)  # (T+1,)
        if not (self.alpha_bar[1] < 1 and self.alpha_bar[-1] > 1e-70):  # its root is a float32 > 0
            raise ValueError(
                "beta must not be so near to 0 or 1 that ᾱ rounds to 1 or 0, got ᾱ_1 = "
                f"{self.alpha_bar[1]:g}, ᾱ_T = {self.alpha_bar[-1]:g}"
            )
        previous = self.alpha_bar.roll(1)  # ᾱ_{t−1}; entry 0 is never used
        self.posterior_variance = (1 - previous) / (1 - self.alpha_bar) * self.beta  # (T+1,)
        self.posterior_variance[0] = 0.0  # 0/0: nothing is before clean data
        self.info = {"name": "table", "beta": beta.tolist()} if info is None else info

    @staticmethod
    def from_info(info: dict[str, Any]) -> "Schedule":
        """The schedule that `schedule.info` came from; info is plain data that JSON can hold."""
        makers: dict[str, Callable[..., Schedule]] = {
            "linear": linear_schedule,
            "cosine": cosine_schedule,
            "table": Schedule,
        }
        name = info.get("name") if isinstance(info, dict) else info
        if not isinstance(name, str) or name not in makers:
            raise ValueError(f"info['name'] must be one of {sorted(makers)}, got {name!r:.80}")
        try:
            return makers[name](**{key: value for key, value in info.items() if key != "name"})
        except (TypeError, OverflowError) as error:
            raise ValueError(f"info can't be made into a schedule: {error}") from error

    def at(self, table: Tensor, t: Tensor, x: Tensor, first: int = 0) -> Tensor:
        """table[t], shaped to multiply x: (T+1,) and (B,) give (B, 1, …) in x's type and device.

        The table is computed in float64 and rounded once, here, where it meets the image.
        ValueError if x holds no floats, or t is not (B,) int64 in first..T.
        """
        if not x.is_floating_point():
            raise ValueError(f"images must be floats in [-1, 1], got {x.dtype}")
        if not isinstance(t, Tensor):
            raise TypeError(f"t must be a tensor, got {type(t).__name__}")
        if t.shape != x.shape[:1] or t.dtype not in (torch.int64, torch.int32):
            raise ValueError(
                f"t must hold one integer per image, ({len(x)},), got {tuple(t.shape)} of {t.dtype}"
            )
        if t.device not in (x.device, torch.device("cpu")):
            raise ValueError(f"t must be on {x.device} as the images are, got {t.device}")
        # On an accelerator looking at t would stall the queue of work; there we trust it.
        if t.device.type == "cpu" and len(t) and not first <= t.min() <= t.max() <= self.T:
            raise ValueError(f"t must lie in {first}..{self.T}, got {int(t.min())}..{int(t.max())}")
        values = table.to(x.dtype).to(x.device, non_blocking=True)[t]  # (B,)
        return values.view(-1, *[1] * (x.ndim - 1))

    def subsequence(self, steps: Sequence[int]) -> "Schedule":
        """The schedule of a sampler that visits only the t in steps (strictly decreasing).

        Its entry i is the i-th smallest visited t, τ_i: ᾱ_i = ᾱ_{τ_i} and
        β_i = 1 − ᾱ_{τ_i}/ᾱ_{τ_{i−1}}. So a formula in ᾱ and β holds unchanged for strides (DDIM
        Sec. 4.2; CFG Eq. 2 is this β_i in log-SNR).
        """
        alpha_bar = self.alpha_bar[[0, *reversed(steps)]]  # (S+1,)
        beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
        return Schedule(beta.clamp(max=1 - 1e-15))  # 1 − ᾱ rounds to 1 after very long schedules


def linear_schedule(T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """β_t rises linearly from β_1 to β_T. DDPM Sec. 4.

    The defaults fit T = 1000 only: with a smaller T they leave signal at t = T, and the prior
    N(0, I) no longer matches.
    """
    T = _count(T)
    if not (is_number(beta_1) and is_number(beta_T) and 0 < beta_1 <= beta_T < 1):
        raise ValueError(f"beta_1, beta_T must satisfy 0 < β_1 ≤ β_T < 1, got {beta_1}, {beta_T}")
    beta = torch.linspace(beta_1, beta_T, T, dtype=torch.float64, device="cpu")
    return Schedule(beta, {"name": "linear", "T": T, "beta_1": beta_1, "beta_T": beta_T})


def cosine_schedule(T: int = 1000, s: float = 0.008) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s)·π/2), β_t = min(1 − ᾱ_t/ᾱ_{t−1}, 0.999).

    IDDPM Sec. 3.2.
    """
    T = _count(T)
    if not (is_number(s) and s > 0):
        raise ValueError(f"s must be a positive number, got {s!r:.80}")
    s = float(s)
    t = torch.arange(T + 1, dtype=torch.float64, device="cpu")
    f = torch.cos((t / T + s) / (1 + s) * torch.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return Schedule(beta, {"name": "cosine", "T": T, "s": s})


def timesteps(T: int, S: int) -> list[int]:
    """The S values of t that a sampler visits, evenly spaced: strictly decreasing from T, last ≥ 1.

    Step k of a sampler is the update at timesteps(T, S)[k]; step 0 leaves x_T.
    """
    T = _count(T)
    steps = integer(S)
    if steps is None or not 1 <= steps <= T:
        raise ValueError(f"steps must be an integer in 1..{T} (T), got {S!r}")
    return [T * (steps - k) // steps for k in range(steps)]


def _count(T: int) -> int:
    """T as an int. ValueError if it is none, below 1, or so large that it can only be a mistake."""
    count = integer(T)
    if count is None or not 1 <= count <= 1_000_000:
        raise ValueError(f"T must be a positive integer, at most a million, got {T!r:.80}")
    return count


def integer(value: Any) -> int | None:
    """value as an int, numpy's and torch's integers among them; None for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def is_number(value: Any) -> bool:
    """Whether value is a finite real number, numpy's among them, and no bool."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and bool(-1e300 < value < 1e300)
