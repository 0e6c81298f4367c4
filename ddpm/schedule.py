"""How much of the image is left at each t: β_t, α_t, ᾱ_t. DDPM Sec. 2; IDDPM's cosine schedule."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from ddpm.checked import checked
from ddpm.checks import Count, number
from ddpm.values import float64

Rate = Annotated[float, number(0, 1, inside=True)]


class Schedule:
    """β_t, α_t = 1 − β_t, ᾱ_t = α_1·…·α_t and β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t.

    DDPM Eq. 2, 4, 7. Every table is (T+1,) float64 on the CPU and its index is the
    paper's t: entry 0 is clean data, β_0 = 0 and ᾱ_0 = 1.
    beta: (T,), the values β_1 … β_T, each in (0, 1). info: see `from_info`.
    """

    def __init__(self, beta: Tensor | Sequence[float], info: dict[str, Any] | None = None) -> None:
        beta = float64("beta", beta)
        if beta.ndim != 1 or len(beta) == 0 or not bool(((beta > 0) & (beta < 1)).all()):
            raise ValueError(
                f"beta must be a non-empty list of numbers in (0, 1), got {beta!s:.80}"
            )
        self._fill(beta, 1 - beta, (1 - beta).cumprod(0))
        self.info = {"name": "table", "beta": beta.tolist()} if info is None else info

    def _fill(self, beta: Tensor, alpha: Tensor, alpha_bar: Tensor) -> None:
        """The tables, from their entries 1 … T."""
        self.T, one = len(beta), beta.new_ones(1)
        self.beta = torch.cat([0 * one, beta])  # (T+1,)
        self.alpha = torch.cat([one, alpha])  # (T+1,)
        self.alpha_bar = torch.cat([one, alpha_bar])  # (T+1,)
        if not (self.alpha_bar[1] < 1 and self.alpha_bar[-1] > 1e-70):  # its root is a float32 > 0
            raise ValueError(
                "beta must not be so near to 0 or 1 that ᾱ rounds to 1 or 0, got ᾱ_1 = "
                f"{self.alpha_bar[1]:g}, ᾱ_T = {self.alpha_bar[-1]:g}"
            )
        previous = self.alpha_bar.roll(1)  # ᾱ_{t−1}; entry 0 is never used
        self.posterior_variance = (1 - previous) / (1 - self.alpha_bar) * self.beta  # (T+1,)
        self.posterior_variance[0] = 0.0  # 0/0: nothing is before clean data

    @staticmethod
    def from_alpha_bar(alpha_bar: Tensor | Sequence[float]) -> "Schedule":
        """The schedule of ᾱ_1 … ᾱ_T, which stay as they are: α_t = ᾱ_t/ᾱ_{t−1}, β_t = 1 − α_t.

        The product of 1 − β_t is not ᾱ_t again: of a small α_t, 1 − β_t has lost most digits.
        ValueError unless they fall from below 1 and stay above 0.
        """
        alpha_bar = float64("alpha_bar", alpha_bar)  # (T,)
        one = alpha_bar.new_ones(1)
        if alpha_bar.ndim != 1 or not (torch.cat([one, alpha_bar, 0 * one]).diff() < 0).all():
            raise ValueError(
                f"alpha_bar must fall from below 1 and stay above 0, got {alpha_bar!s:.80}"
            )
        alpha = alpha_bar / torch.cat([one, alpha_bar])[:-1]  # (T,)
        beta = (1 - alpha).clamp(max=1 - 1e-15)  # it rounds to 1 after very long schedules
        schedule = Schedule(beta, {"name": "alpha_bar", "alpha_bar": alpha_bar.tolist()})
        schedule._fill(beta, alpha, alpha_bar)
        return schedule

    @staticmethod
    def from_info(info: dict[str, Any]) -> "Schedule":
        """The schedule that `schedule.info` came from; info is plain data that JSON can hold."""
        makers: dict[str, Callable[..., Schedule]] = {
            "linear": linear_schedule,
            "cosine": cosine_schedule,
            "table": Schedule,
            "alpha_bar": Schedule.from_alpha_bar,
        }
        name = info.get("name") if isinstance(info, dict) else info
        if not isinstance(name, str) or name not in makers:
            raise ValueError(f"info['name'] must be one of {sorted(makers)}, got {name!r:.80}")
        try:
            return makers[name](**{key: value for key, value in info.items() if key != "name"})
        except (TypeError, OverflowError, RuntimeError) as error:  # of any plain data at all
            raise ValueError(f"info can't be made into a schedule: {error}") from error

    def at(self, table: Tensor, t: Tensor | int, x: Tensor) -> Tensor:
        """table[t], shaped to multiply x: (T+1,) and (B,) give (B, 1, …) in x's type and device.

        The table is computed in float64 and rounded once, where it meets the image. For one t it
        stays on the CPU, where torch takes it for the number that it is.
        """
        if not isinstance(t, Tensor):
            return table[t]  # ()
        values = table.to(x.dtype).to(x.device, non_blocking=True)[t]  # (B,)
        return values.view(-1, *[1] * (x.ndim - 1))

    def subsequence(self, steps: Sequence[int]) -> "Schedule":
        """The schedule of a sampler that visits only the t in steps (strictly decreasing).

        Its entry i is the i-th smallest visited t, τ_i: ᾱ_i = ᾱ_{τ_i}, bit for bit, and
        β_i = 1 − ᾱ_{τ_i}/ᾱ_{τ_{i−1}}. So a formula in ᾱ and β holds unchanged for strides (DDIM
        Sec. 4.2; CFG Eq. 2 is this β_i in log-SNR).
        """
        return Schedule.from_alpha_bar(self.alpha_bar[[*reversed(steps)]])


@checked
def linear_schedule(T: Count = 1000, beta_1: Rate = 1e-4, beta_T: Rate = 0.02) -> Schedule:
    """β_t rises linearly from β_1 to β_T. DDPM Sec. 4.

    The defaults fit T = 1000 only: with a smaller T they leave signal at t = T, and the prior
    N(0, I) no longer matches.
    """
    if beta_1 > beta_T:
        raise ValueError(f"beta_1 must not exceed beta_T, got {beta_1} and {beta_T}")
    beta = torch.linspace(beta_1, beta_T, T, dtype=torch.float64, device="cpu")
    return Schedule(
        beta, {"name": "linear", "T": len(beta), "beta_1": float(beta_1), "beta_T": float(beta_T)}
    )


@checked
def cosine_schedule(
    T: Count = 1000, s: Annotated[float, number(0, inside=True)] = 0.008
) -> Schedule:
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s)·π/2), β_t = min(1 − ᾱ_t/ᾱ_{t−1}, 0.999).

    IDDPM Sec. 3.2.
    """
    t = torch.arange(T + 1, dtype=torch.float64, device="cpu")
    f = torch.cos((t / T + s) / (1 + s) * torch.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return Schedule(beta, {"name": "cosine", "T": len(beta), "s": float(s)})


@checked
def timesteps(T: Count, S: Count) -> list[int]:
    """The S values of t that a sampler visits, evenly spaced: strictly decreasing from T, last ≥ 1.

    Step k of a sampler is the update at timesteps(T, S)[k]; step 0 leaves x_T.
    """
    if S > T:
        raise ValueError(f"S must be an integer in 1..{T} (T), got {S}")
    T, S = int(T), int(S)  # of whatever kind of integer
    return [T * (S - k) // S for k in range(S)]
