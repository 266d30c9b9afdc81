"""Rotation about the centre, bilinear, zero outside. Four neighbours are blended in float32, as in the array code.

images, out uint8 (n, channels, h, w); cosine, sine float32 (n,). With (v, u) a pixel counted from the centre,
    source row = u sine + v cosine + (h - 1) / 2,  source column = u cosine - v sine + (w - 1) / 2
The tricks: the image lies on a canvas with a frame of zeros, and a source beyond the frame is moved onto it, so that
no pixel needs a test; a row's source indices and weights are computed once, by vector code, for all its channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .parallel import over_images

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]
FRAME = 3  # one row of zeros above, two below, where the lower neighbours of a source on the frame lie; so for columns


@jit
def _lay_out(image: Images, canvas: Floats) -> None:
    """canvas (channels, h + FRAME, w + FRAME) = image (channels, h, w), framed."""
    channels, height, width = image.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                canvas[c, y + 1, x + 1] = image[c, y, x]


@jit
def _on_canvas(position: Any, length: int) -> Any:
    return min(max(position, np.float32(-1)), np.float32(length))


@jit
def _sources(y: int, cosine: Any, sine: Any, height: int, corner: Any, right: Floats, below: Floats) -> None:
    """For each x of row y: the flat index of the upper left neighbour, and the weights of the right and lower ones."""
    width = corner.shape[0]
    middle_y, middle_x = np.float32((height - 1) / 2), np.float32((width - 1) / 2)
    v = np.float32(y) - middle_y
    for x in range(width):
        u = np.float32(x) - middle_x
        row = _on_canvas(u * sine + v * cosine + middle_y, height)
        column = _on_canvas(u * cosine - v * sine + middle_x, width)
        top, left = np.floor(row), np.floor(column)
        below[x], right[x] = row - top, column - left
        corner[x] = (np.int32(top) + 1) * (width + FRAME) + np.int32(left) + 1


@jit
def _blend(canvas: Floats, corner: Any, right: Floats, below: Floats, out: Images) -> None:
    """One row of one channel; canvas is flat."""
    one = np.float32(1)
    next_row = np.uint32(corner.shape[0] + FRAME)
    for x in range(corner.shape[0]):
        k, r, b = corner[x], right[x], below[x]
        upper = canvas[k] * (one - r) + canvas[k + np.uint32(1)] * r
        k += next_row
        lower = canvas[k] * (one - r) + canvas[k + np.uint32(1)] * r
        out[x] = np.uint8(np.rint(upper * (one - b) + lower * b))


@over_images
@jit
def rotate(images: Images, cosine: Floats, sine: Floats, out: Images) -> None:
    n, channels, height, width = images.shape
    canvas = np.zeros((channels, height + FRAME, width + FRAME), np.float32)
    flat = canvas.reshape(channels, -1)
    corner = np.empty(width, np.uint32)  # unsigned: Numba then looks for no negative index
    right, below = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(n):
        _lay_out(images[i], canvas)
        for y in range(height):
            _sources(y, cosine[i], sine[i], height, corner, right, below)
            for c in range(channels):
                _blend(flat[c], corner, right, below, out[i, c, y])
