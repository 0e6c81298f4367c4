"""Which device, and what each is fastest with: number type, memory layout, compiler."""

import sys

import torch
from torch import nn


def choose_device(name: str) -> torch.device:
    """The device of this name, "auto" being the best there is. ValueError if there is none such."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name} can't be used here: {reason}") from error
    return device


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of this name; of auto bfloat16 where it is fast. None is float32."""
    named = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision in named:
        return named[precision]
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    # Not public, and not in every version: where they are missing the answer is no.
    cpu_flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if device.type == "cpu" and any(getattr(torch.cpu, f, lambda: False)() for f in cpu_flags):
        return torch.bfloat16
    return None


def memory_format(device: torch.device, *, predicts_float32: bool = False) -> torch.memory_format:
    """channels_last on CUDA, and on a CPU that only predicts, in float32; contiguous elsewhere.

    CUDA's tensor cores want it. On two AVX2 cores the mnist U-Net predicts 1.2 times as fast in it,
    and trains as fast as before. In bfloat16 on two AVX-512 cores its convolutions take 0.8 of the
    time in it, and its GroupNorm 7 to 12 times as long.
    """
    wanted = device.type == "cuda" or (device.type == "cpu" and predicts_float32)
    return torch.channels_last if wanted else torch.contiguous_format


def compile_network(network: nn.Module, wanted: str, device: torch.device) -> None:
    """Have torch.compile translate the network's forward pass, in place; its weights stay theirs.

    wanted: off, on, or auto, which is on for CUDA alone: on two AVX-512 cores sampling gets 1.3
    times as fast by it and training not at all, after 40 to 60 seconds of compiling.
    Where no compiler is found, auto says so and goes on without; on raises ValueError.
    """
    if wanted == "off" or (wanted == "auto" and device.type != "cuda"):
        return
    try:
        torch.compile(_probe)(torch.zeros(8, device=device))  # a second: before the big one
    except Exception as error:  # of Dynamo, Inductor, Triton, or the C++ compiler's own
        reason = str(error).splitlines()[0]
        if wanted == "on":
            raise ValueError(f"--compile on is not possible on {device}: {reason}") from error
        print(f"not compiled, which costs only time: {reason}", file=sys.stderr)
        return
    network.compile()


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x + 1
