"""Checks of images and of parameters: what people call raises UsageError before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.backends.base import Array
from fastmlp.common.errors import UsageError
from fastmlp.datasets.images import layout_fix

MOST_PIXELS = 2**61  # twice as many, and an image's, are still an int64


def check_images(images: Array) -> None:
    dtype = str(getattr(images, "dtype", type(images).__name__)).rpartition(".")[2]  # PyTorch says torch.uint8
    if dtype != "uint8" or images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(getattr(images, "shape", ()))
        found = f"{dtype} {shape}"
        fix = "round and clip them to 0 .. 255" if shape[1:2] == (3,) and len(shape) == 4 else layout_fix(shape)
        fix = fix if shape else "make them one array"
        raise UsageError(f"Images must be a uint8 array (n, 3, height, width), not {found}: {fix}.")


# Parameters: one number per image, or one for all n of them.


def integers(name: str, value: ArrayLike, n: int, low: int | None = None, high: int | None = None) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise UsageError(f"{name} must be whole numbers, not {array.dtype}.")
    if low is not None and high is not None and array.size and (array.min() < low or array.max() > high):
        raise UsageError(f"{name} must lie in {low}..{high}, but {array.min()}..{array.max()} was given.")
    return _per_image(name, array.astype(np.int64, copy=False), n)


def numbers(name: str, value: ArrayLike, n: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"{name} must be finite numbers: remove NaN and infinity.")
    return _per_image(name, array, n)


def flags(name: str, value: ArrayLike, n: int) -> NDArray[np.bool_]:
    return _per_image(name, np.asarray(value, dtype=bool), n)


def _per_image(name: str, array: NDArray[Any], n: int) -> NDArray[Any]:
    if array.ndim > 1 or array.shape not in ((), (n,)):
        raise UsageError(f"{name} must be one number, or one per image ({n}), not of shape {array.shape}.")
    # kernels are compiled for arrays without gaps, and PyTorch warns of read-only ones
    return np.full(n, array) if array.shape == () else np.require(array, requirements=["C", "W"])


# Ranges.


def check_pixels(name: str, value: float) -> None:
    if not isinstance(value, int | np.integer) or value < 0:
        raise UsageError(f"{name} must be a whole number of pixels, 0 or more, not {value!r}.")
    if value > MOST_PIXELS:
        raise UsageError(f"{name} is larger than any image, {value}: give fewer pixels.")


def check_number(name: str, value: float, highest: int = 1_000_000) -> None:
    if not 0 <= value <= highest:  # nor is NaN
        raise UsageError(f"{name} must be a number from 0 to {highest:,}, not {value!r}.")


def check_range(name: str, lowest: float, highest: float) -> None:
    check_number(f"the lowest {name}", lowest)
    check_number(f"the highest {name}", highest)
    if highest < lowest:
        raise UsageError(f"the lowest {name} comes first, not {lowest!r} before {highest!r}.")
