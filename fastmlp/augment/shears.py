"""Rotation by three shears (Paeth 1986; Tanaka et al. 1986), as the reference the paper cites."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array


def turns_and_shears(degrees: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
    """What the op takes, from angles (n,)."""
    quarters = np.rint(degrees / 90)
    rest = np.deg2rad(degrees - 90 * quarters)
    turns = quarters.astype(np.int64) % 4
    return turns, np.tan(rest / 2).astype(np.float32), np.sin(rest).astype(np.float32)


def rotate_by_shears(xp: Any, images: Array, quarters: Array, tangent: Array, sine: Array, out: Array) -> None:
    """Rotation by three shears along x, y, x, each linearly interpolated.

    A turn by a = quarters * 90 degrees + r, |r| <= 45 degrees, is `quarters` exact quarter turns (int64 (n,), 0 to 3)
    and then shears by -tan(r/2), sin(r), -tan(r/2): tangent = tan(r/2), sine = sin(r), float32 (n,). Square images.
    """
    side = images.shape[2]
    margin = side // 2  # a shear by up to 45 degrees pushes corners this far out of the picture
    canvas = xp.zeros((*images.shape[:2], side + 2 * margin, side + 2 * margin), dtype=xp.float32, device=images.device)
    inner = (slice(None), slice(None), slice(margin, margin + side), slice(margin, margin + side))
    canvas[inner] = xp.astype(_quarter_turns(xp, images, quarters), xp.float32)
    offset = _centred(xp, canvas)
    canvas = _shear_rows(xp, canvas, -tangent[:, None] * offset)
    canvas = _swap_axes(xp, _shear_rows(xp, _swap_axes(xp, canvas), sine[:, None] * offset))
    canvas = _shear_rows(xp, canvas, -tangent[:, None] * offset)
    out[...] = xp.astype(xp.round(canvas[inner]), xp.uint8)


def _quarter_turns(xp: Any, images: Array, quarters: Array) -> Array:
    """Each image turned counter-clockwise by its number of quarter turns."""
    turned, result = images, images
    for turns in (1, 2, 3):
        turned = xp.flip(_swap_axes(xp, turned), axis=2)
        result = xp.where((quarters == turns)[:, None, None, None], turned, result)
    return result


def _swap_axes(xp: Any, images: Array) -> Array:
    return xp.permute_dims(images, (0, 1, 3, 2))


def _centred(xp: Any, canvas: Array) -> Array:
    """Row numbers counted from the middle, float32 (1, side)."""
    side = canvas.shape[2]
    return (xp.arange(side, dtype=xp.float32, device=canvas.device) - (side - 1) / 2)[None, :]


def _shear_rows(xp: Any, canvas: Array, offset: Array) -> Array:
    """out[y, x] = canvas[y, x + offset[y]], linearly interpolated, zero outside; offset float32 (n, side)."""
    columns = xp.arange(canvas.shape[3], dtype=xp.int64, device=canvas.device)
    whole = xp.floor(offset)
    part = (offset - whole)[:, None, :, None]
    left = xp.astype(whole, xp.int64)[:, None, :, None] + columns[None, None, None, :]
    return _along_row(xp, canvas, left) * (1 - part) + _along_row(xp, canvas, left + 1) * part


def _along_row(xp: Any, canvas: Array, columns: Array) -> Array:
    inside = (columns >= 0) & (columns < canvas.shape[3])
    picked = xp.take_along_axis(canvas, xp.where(inside, columns, xp.zeros_like(columns)), axis=3)
    return xp.where(inside, picked, xp.zeros_like(picked))
