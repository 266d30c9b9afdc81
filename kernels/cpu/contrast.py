"""Contrast about an image's own mean: out = mean + factor * (image - mean), rounded to even and clipped.

images, out uint8 (n, channels, h, w); factor float32 (n,). The mean is over all pixels and channels; its sum is of
integers, hence exact. Everything else is float32, in the order of the array code, so that the results are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .parallel import over_images

Images = NDArray[np.uint8]


@jit
def _mean(pixels: Images) -> Any:
    total = np.uint64(0)
    for k in range(pixels.size):
        total += pixels[k]
    return np.float32(total) / np.float32(pixels.size)


@over_images
@jit
def contrast(images: Images, factor: NDArray[np.float32], out: Images) -> None:
    black, white = np.float32(0), np.float32(255)
    for i in range(images.shape[0]):
        source, target = images[i].reshape(-1), out[i].reshape(-1)
        mean = _mean(source)
        for k in range(target.size):
            stretched = np.rint(mean + factor[i] * (np.float32(source[k]) - mean))
            target[k] = np.uint8(np.int32(min(max(stretched, black), white)))
