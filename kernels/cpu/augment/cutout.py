"""A square of zeros in each image: rows top to top + size, columns left to left + size, clipped to the image.

top, left, size int64 (m,). The hole is cut while the image is still in cache,
column by column: its rows are too short for a call of memset to pay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..jit import jit
from ..parallel import over_images

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]


@over_images
@jit
def cutout(images: Images, rows: Integers, top: Integers, left: Integers, size: Integers, out: Images) -> None:
    for k in range(rows.size):
        i = rows[k]
        source, target = images[i].reshape(-1), out[i].reshape(-1)
        for j in range(target.size):
            target[j] = source[j]
        lines = slice(max(top[k], 0), max(top[k] + size[k], 0))
        columns = slice(max(left[k], 0), max(left[k] + size[k], 0))
        hole = out[i, :, lines, columns]
        for x in range(hole.shape[2]):
            for c in range(hole.shape[0]):
                for y in range(hole.shape[1]):
                    hole[c, y, x] = 0
