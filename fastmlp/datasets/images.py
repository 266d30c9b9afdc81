"""Images as people have them, in the one layout that we take; and for every other the fix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.common.errors import FastMLPError, UsageError

Images = NDArray[np.uint8]
CHANNELS = 3


def as_images(X: ArrayLike, error: Callable[[str], FastMLPError] = UsageError) -> Images:
    """uint8 images (n, 3, h, w) of those, or of rows (n, 3 s s) of square ones; the error for anything else."""
    array = np.asarray(X)
    if array.ndim == 2:
        array = _unflattened(array, error)
    if array.ndim != 4 or array.shape[1] != CHANNELS:
        found = f"Images must be an array (n, 3, height, width), not of shape {array.shape}"
        raise error(f"{found}: {layout_fix(array.shape)}.")
    if not len(array):
        raise error("There are no images, found array with 0 sample(s): give at least one.")
    if not array.size:
        raise error(f"Images of shape {array.shape} have no pixels: give larger ones.")
    return _as_bytes(array, error)


def layout_fix(shape: Sequence[int]) -> str:
    """How an array X of that shape becomes images (n, 3, h, w), as far as its shape tells."""
    match tuple(shape):
        case (_, _, _, 3):
            return "give X.transpose(0, 3, 1, 2)"
        case (_, 1, _, _):
            return "give X.repeat(3, axis=1), for they are grey"
        case (_, 4, _, _):
            return "give X[:, :3], without their transparency"
        case (3, _, _):
            return "give X[None] for one image"
        case (_, _, 3):
            return "give X.transpose(2, 0, 1)[None] for one image"
        case (_, _, _):
            return "give X[:, None].repeat(3, axis=1) for grey ones"
        case ():
            return "read files by PIL.Image.open(name).convert('RGB')"
    return "stack them so"


def _unflattened(rows: NDArray[Any], error: Callable[[str], FastMLPError]) -> NDArray[Any]:
    side = isqrt(rows.shape[1] // CHANNELS)
    if side < 1 or CHANNELS * side * side != rows.shape[1]:
        raise error(
            f"Rows of {rows.shape[1]} numbers are no square images of three channels: give images as (n, 3, h, w)."
        )
    return rows.reshape(len(rows), CHANNELS, side, side)


def _as_bytes(array: NDArray[Any], error: Callable[[str], FastMLPError]) -> Images:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "biuf":
        raise error(f"Images must be whole numbers 0 .. 255, not {array.dtype}: give them as uint8.")
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    found = f"{array.dtype} from {array.min()} to {array.max()}"
    if not np.isfinite(array).all():
        raise error(f"Images must be whole numbers 0 .. 255, not {found}: fix or remove those with NaN or infinity.")
    scale = "255 * X" if array.dtype.kind in "bf" and array.max() <= 1 else "X"
    fix = f"give np.rint({scale}).clip(0, 255).astype('uint8')"
    raise error(f"Images must be whole numbers 0 .. 255, not {found}: {fix}.")
