"""An image moved, with zeros where nothing moves to: out[y, x] = image[y + down, x + across].

down, across int64 (m,). The trick: to move an image is to move all its rows as one run of bytes; the rows and columns
without a source, which then hold the ends of others, are zeroed while still in cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels.cpu.jit import inlined, jit
from fastmlp.kernels.cpu.parallel import over_images

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]


@inlined
def _move(source: Images, offset: int, out: Images) -> None:
    """out[k] = source[k + offset] where that exists; both flat."""
    first, past = max(-offset, 0), min(out.size - offset, out.size)
    source, out = source[max(offset, 0) :], out[first:]
    for k in range(past - first):
        out[k] = source[k]


@inlined
def _within(offset: int, length: int) -> int:
    """Where a move by more than the image's length leaves nothing, one by its length does."""
    return min(max(offset, -length), length)


@inlined
def _without_source(offset: int, length: int) -> Any:
    """The first i, and one past the last, for which i + offset lies outside of 0 .. length."""
    return (0, min(-offset, length)) if offset < 0 else (max(length - offset, 0), length)


@over_images
@jit
def crop(images: Images, rows: Integers, down: Integers, across: Integers, out: Images) -> None:
    _, channels, height, width = images.shape
    for k in range(rows.size):
        i, y_offset, x_offset = rows[k], _within(down[k], height), _within(across[k], width)
        _move(images[i].reshape(-1), y_offset * width + x_offset, out[i].reshape(-1))
        first, past = _without_source(y_offset, height)
        for c in range(channels):
            lines = out[i, c, first:past].reshape(-1)
            for j in range(lines.size):
                lines[j] = 0
        first, past = _without_source(x_offset, width)
        columns = out[i].reshape(-1, width)[:, first:past]
        for x in range(past - first):  # down each column: along rows of few bytes each, every row would call memset
            for y in range(channels * height):
                columns[y, x] = 0
