"""Small parts of array code: where pixels are, and what lies there."""

from __future__ import annotations

from typing import Any

from fastmlp.backends.base import Array


def grid(xp: Any, images: Array) -> tuple[Array, Array]:
    """Row numbers int64 (1, h, 1) and column numbers int64 (1, 1, w)."""
    height, width = images.shape[2:]
    rows = xp.arange(height, dtype=xp.int64, device=images.device)
    columns = xp.arange(width, dtype=xp.int64, device=images.device)
    return rows[None, :, None], columns[None, None, :]


def pixels(xp: Any, images: Array, rows: Array, columns: Array) -> Array:
    """images[:, :, rows, columns], zero outside; rows and columns broadcast to (n, h, w)."""
    n, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = xp.where(inside, rows * width + columns, xp.zeros_like(rows * width + columns))
    picked = xp.take_along_axis(
        xp.reshape(images, (n, channels, height * width)), xp.reshape(flat, (n, 1, height * width)), axis=2
    )
    picked = xp.reshape(picked, images.shape)
    return xp.where(inside[:, None, ...], picked, xp.zeros_like(picked))


def float_pixels(xp: Any, images: Array, top: Array, left: Array, down: int, across: int) -> Array:
    return xp.astype(pixels(xp, images, top + down, left + across), xp.float32)
