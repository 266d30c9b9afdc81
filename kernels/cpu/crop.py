"""A window of each image, padded by zeros: out[y, x] = image[y + dy - padding, x + dx - padding].

images, out uint8 (n, channels, h, w); dy, dx int64 (n,). The rows and columns where the window meets the image are
worked out once, so that the copy itself tests nothing.
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
def _meeting(offset: int, length: int) -> Any:
    """The first i, and one past the last, for which both i and i + offset lie in 0 .. length."""
    start = min(max(-offset, 0), length)
    return start, max(min(length - offset, length), start)


@over_images
@jit
def crop(images: Images, dy: Integers, dx: Integers, padding: int, out: Images) -> None:
    n, channels, height, width = images.shape
    for i in range(n):
        down, across = dy[i] - padding, dx[i] - padding
        top, bottom = _meeting(down, height)
        left, right = _meeting(across, width)
        pixels = out[i].flat
        for k in range(channels * height * width):
            pixels[k] = 0
        source = images[i, :, top + down : bottom + down, left + across : right + across]
        target = out[i, :, top:bottom, left:right]
        for c in range(channels):
            for y in range(bottom - top):
                for x in range(right - left):
                    target[c, y, x] = source[c, y, x]
