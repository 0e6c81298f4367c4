"""Where to compute, and in which precision."""

import torch


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware computes in it, None (float32) elsewhere.

    Measured on two AVX-512 cores, contiguous layout: the mnist U-Net trains 1.5 to 2 times as
    fast in bfloat16; in channels_last its GroupNorm is 7 to 12 times slower and eats the gain.
    """
    if precision == "float32":
        return None
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    cpu_flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if device.type == "cpu" and any(getattr(torch.cpu, f, bool)() for f in cpu_flags):
        return torch.bfloat16
    return None


def choose_device(name: str) -> torch.device:
    """The device that --device names; ValueError if this machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name} can't be used here: {reason}") from error
    return device
