"""TEMPORARY: what train/'s core still imports, until helper TRAIN's branch is merged. Drop it."""

from unet.device import autocast_dtype, compile_network, memory_format

__all__ = ["autocast_dtype", "compile_network", "memory_format"]
