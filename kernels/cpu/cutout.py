"""A square of zeros in each image: rows top to top + size, columns left to left + size, clipped to the image.

images, out uint8 (n, channels, h, w); top, left, size int64 (n,). The hole is cut while the image is still in cache,
column by column: its rows are too short for a call of memset to pay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .parallel import over_images

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]


@over_images
@jit
def cutout(images: Images, top: Integers, left: Integers, size: Integers, out: Images) -> None:
    for i in range(images.shape[0]):
        source, target = images[i].reshape(-1), out[i].reshape(-1)
        for k in range(target.size):
            target[k] = source[k]
        rows = slice(max(top[i], 0), max(top[i] + size[i], 0))
        columns = slice(max(left[i], 0), max(left[i] + size[i], 0))
        hole = out[i, :, rows, columns]
        for x in range(hole.shape[2]):
            for c in range(hole.shape[0]):
                for y in range(hole.shape[1]):
                    hole[c, y, x] = 0
