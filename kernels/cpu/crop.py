"""A window of each image, padded by zeros: out[y, x] = image[y + dy - padding, x + dx - padding].

images, out uint8 (n, channels, h, w); dy, dx int64 (n,). The trick: to move an image is to move all its rows as one run
of bytes; the rows and columns without a source, which then hold the ends of others, are zeroed while still in cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .parallel import over_images

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]


@jit
def _move(source: Images, offset: int, out: Images) -> None:
    """out[k] = source[k + offset] where that exists; both flat."""
    first, past = max(-offset, 0), min(out.size - offset, out.size)
    source, out = source[max(offset, 0) :], out[first:]
    for k in range(past - first):
        out[k] = source[k]


@jit
def _without_source(offset: int, length: int) -> Any:
    """The first i, and one past the last, for which i + offset lies outside of 0 .. length."""
    return (0, min(-offset, length)) if offset < 0 else (max(length - offset, 0), length)


@over_images
@jit
def crop(images: Images, dy: Integers, dx: Integers, padding: int, out: Images) -> None:
    n, channels, height, width = images.shape
    for i in range(n):
        down, across = dy[i] - padding, dx[i] - padding
        _move(images[i].reshape(-1), down * width + across, out[i].reshape(-1))
        first, past = _without_source(down, height)
        for c in range(channels):
            rows = out[i, c, first:past].reshape(-1)
            for k in range(rows.size):
                rows[k] = 0
        first, past = _without_source(across, width)
        columns = out[i].reshape(-1, width)[:, first:past]
        for x in range(past - first):  # down each column: along its few bytes a row, every row would call memset
            for y in range(channels * height):
                columns[y, x] = 0
