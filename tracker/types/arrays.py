"""Check and freeze the arrays of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]


def owned(
    name: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]
) -> npt.NDArray[Any]:
    """Return a read-only array, a copy where the caller could still write into it.

    Raises ValueError, with the `name`, unless it has exactly this shape and dtype and is finite.
    """
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} must be {shape} {np.dtype(dtype)}, got {array.shape} {array.dtype}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return read_only(array)


def own_columns(value: object, **columns: tuple[npt.NDArray[Any], tuple[int, ...], Any]) -> None:
    """Give a frozen value its arrays as `owned` has them: name = array, shape, dtype."""
    for name, (array, shape, dtype) in columns.items():
        object.__setattr__(value, name, owned(name, array, shape, dtype))


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array itself if nobody can write into it, else a copy that is so."""
    if not array.flags.writeable:
        return array
    array = array.copy()
    array.flags.writeable = False
    return array


def check_length(name: str, items: Sequence[Any], length: int) -> None:
    """Raise ValueError unless `items` has this length."""
    if len(items) != length:
        raise ValueError(f"{name} must have length {length}, got {len(items)}")
