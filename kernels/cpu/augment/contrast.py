"""Contrast about an image's own mean: out = mean + factor * (image - mean), rounded to even and clipped.

factor float32 (m,); flip bool (m,): mirrored left for right too. The mean is over all pixels and channels; its sum is
of integers, hence exact. Everything else is float32, in the order of the array code, so that the results are equal.
The mirrored index is unsigned, as in hflip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels.cpu.jit import inlined, jit
from fastmlp.kernels.cpu.parallel import over_images

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
BLACK, WHITE = np.float32(0), np.float32(255)


@inlined
def _mean(pixels: Images) -> Any:
    total = np.uint64(0)
    for k in range(pixels.size):
        total += pixels[k]
    return np.float32(total) / np.float32(pixels.size)


@inlined
def _stretched(level: Any, mean: Any, factor: Any) -> Any:
    return np.uint8(np.int32(min(max(np.rint(mean + factor * (np.float32(level) - mean)), BLACK), WHITE)))


@over_images
@jit
def contrast(images: Images, rows: Integers, factor: Floats, flip: NDArray[np.bool_], out: Images) -> None:
    width = images.shape[3]
    for k in range(rows.size):
        source, target = images[rows[k]].reshape(-1, width), out[rows[k]].reshape(-1, width)
        mean = _mean(source.reshape(-1))
        if flip[k]:
            for y in range(source.shape[0]):
                line, result = source[y], target[y]
                for x in range(width):
                    result[x] = _stretched(line[np.uint64(width - 1 - x)], mean, factor[k])
        else:
            pixels, result = source.reshape(-1), target.reshape(-1)
            for j in range(result.size):
                result[j] = _stretched(pixels[j], mean, factor[k])
