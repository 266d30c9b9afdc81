"""Rotation about the centre, bilinear, zero outside. Four neighbours are blended in float32, as in the array code.

cosine, sine float32 (m,). With (v, u) a pixel counted from the centre,
    source row = u sine + v cosine + (h - 1) / 2,  source column = u cosine - v sine + (w - 1) / 2
The trick: the four neighbours are packed into one 32-bit word, so that a pixel reads once, not four times, at a place
that no vector code can foresee; all the rest is vector code over the image as one run of pixels. A neighbour outside
the image has the weight zero, and the indices are worked out once for all channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels.cpu.jit import inlined, jit
from fastmlp.kernels.cpu.parallel import over_images

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]
Words = NDArray[np.uint32]  # unsigned, also as indices: Numba then looks for no negative one
Floats = NDArray[np.float32]
ZERO, ONE = np.float32(0), np.float32(1)


@inlined
def _grid(height: int, width: int) -> Any:
    """v and u of every pixel, float32 (h * w,)."""
    v, u = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            v[y, x] = np.float32(y) - np.float32((height - 1) / 2)
            u[y, x] = np.float32(x) - np.float32((width - 1) / 2)
    return v.reshape(-1), u.reshape(-1)


@inlined
def _split(position: Any, length: int) -> Any:
    """The neighbour before, from -1 to length - 1, and the weights of that one and the next, zero where outside."""
    whole, end = np.floor(position), np.float32(length)
    part = position - whole
    weight = ONE - part if (whole >= ZERO) & (whole < end) else ZERO
    next_weight = part if (whole >= -ONE) & (whole < end - ONE) else ZERO
    return np.int32(min(max(whole, -ONE), end - ONE)), weight, next_weight


@inlined
def _sources(v: Floats, u: Floats, cosine: Any, sine: Any, shape: Any, place: Words, weights: Floats) -> None:
    """For each pixel: the place of its neighbours' word, and weights (4, h * w): left, right, upper, lower."""
    height, width = shape
    middle_y, middle_x = np.float32((height - 1) / 2), np.float32((width - 1) / 2)
    left, right, upper, lower = weights[0], weights[1], weights[2], weights[3]
    for k in range(place.size):
        row, upper[k], lower[k] = _split(u[k] * sine + v[k] * cosine + middle_y, height)
        column, left[k], right[k] = _split(u[k] * cosine - v[k] * sine + middle_x, width)
        place[k] = (row + 1) * width + column + 1


@inlined
def _pack(channel: Images, width: int, framed: Images, words: Words) -> None:
    """words[k]: the pixel k - width - 1 of the channel, the next, the one below, and that one's next."""
    image = framed[width + 1 :]
    for k in range(channel.size):
        image[k] = channel[k]
    right, lower, lower_right = framed[1:], framed[width:], framed[width + 1 :]
    for k in range(words.size):
        upper_half = np.uint32(framed[k]) | np.uint32(right[k]) << np.uint32(8)
        lower_half = np.uint32(lower[k]) | np.uint32(lower_right[k]) << np.uint32(8)
        words[k] = upper_half | lower_half << np.uint32(16)


@inlined
def _byte(word: Any, number: int) -> Any:
    return np.float32(np.int32((word >> np.uint32(8 * number)) & np.uint32(255)))


@inlined
def _blend(words: Words, weights: Floats, out: Images) -> None:
    left, right, upper, lower = weights[0], weights[1], weights[2], weights[3]
    for k in range(out.size):
        above = _byte(words[k], 0) * left[k] + _byte(words[k], 1) * right[k]
        below = _byte(words[k], 2) * left[k] + _byte(words[k], 3) * right[k]
        out[k] = np.uint8(np.int32(np.rint(above * upper[k] + below * lower[k])))


@over_images
@jit
def rotate(images: Images, rows: Integers, cosine: Floats, sine: Floats, out: Images) -> None:
    _, channels, height, width = images.shape
    size, frame = height * width, width + 1
    v, u = _grid(height, width)
    framed = np.zeros(size + 2 * frame, np.uint8)  # what lies around the image is read, but has no weight
    words, picked, place = np.empty(size + frame, np.uint32), np.empty(size, np.uint32), np.empty(size, np.uint32)
    weights = np.empty((4, size), np.float32)
    for k in range(rows.size):
        i = rows[k]
        _sources(v, u, cosine[k], sine[k], (height, width), place, weights)
        for c in range(channels):
            _pack(images[i, c].reshape(-1), width, framed, words)
            for j in range(size):
                picked[j] = words[place[j]]
            _blend(picked, weights, out[i, c].reshape(-1))
