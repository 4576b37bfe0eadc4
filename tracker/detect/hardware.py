"""What this machine offers: devices, cores, precisions, and memory that is quick to get again."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

import torch

from tracker.errors import ConfigError, ModelError

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8
_MOST_MMAP = 32 * 2**20  # bytes: the largest threshold that malloc sets by itself


def find_device(name: str) -> torch.device:
    """Return the device of that name; raise ConfigError or ModelError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise ConfigError(
            f"detector.device must be auto, cpu, cuda or cuda:1, got {name!r}"
        ) from exc
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"detector.device is {name!r}, but no CUDA device is to be found")
    return device


def find_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the number format of that name, or for `auto` the fastest that keeps the results.

    bfloat16 where the hardware multiplies it at twice the rate of float32 or more (AMX, AVX-512
    BF16, Nvidia since Ampere), float16 on older Nvidia devices with units for it, else float32.
    """
    if name != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[name]
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if major >= 8 else torch.float16 if major >= 7 else torch.float32
    if device.type == "cpu" and has_onednn():
        units = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        if units.get("amx_bf16") or units.get("avx512_bf16"):
            return torch.bfloat16
    return torch.float32


def has_onednn() -> bool:
    """Tell whether torch was built with oneDNN, whose kernels fuse layers on the CPU."""
    return bool(torch.backends.mkldnn.is_available()) and hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_convolution_pointwise"
    )


def available_cores() -> int:
    """Count the cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def keep_freed_memory(keep: bool = True) -> None:
    """Let malloc keep freed blocks for the next frame instead of giving them back (glibc only).

    A frame's features are blocks of tens of megabytes; given back and fetched again each time,
    the kernel fills them with zeros page by page, which took up to a third of a run. With False
    malloc does as it would in a program that runs for a while.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return
    if keep:
        mallopt(_M_ARENA_MAX, 1)  # one pool for all threads: other pools are capped at 64 MB
    mallopt(_M_MMAP_MAX, 0 if keep else 65536)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1 if keep else 2 * _MOST_MMAP)
    mallopt(_M_TOP_PAD, 64 * 2**20 if keep else 128 * 2**10)
    # Any of these calls ends malloc's own adjusting; this is where that would have led.
    mallopt(_M_MMAP_THRESHOLD, _MOST_MMAP)


def give_back_freed_memory() -> None:
    """Return to the system what malloc keeps, as after loading, which takes more than running."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of glibc's own, None where there is another C library."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), name, None)
