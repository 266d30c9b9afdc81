"""The mirror image, left for right, where flip is true: out[y, x] = image[y, w - 1 - x].

images, out uint8 (n, channels, h, w); flip bool (n,). The mirrored index is made unsigned: Numba then does not look
for a negative one, and LLVM reverses a whole vector at a time, 7 times as fast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .parallel import over_images

Images = NDArray[np.uint8]


@over_images
@jit
def hflip(images: Images, flip: NDArray[np.bool_], out: Images) -> None:
    n, channels, height, width = images.shape
    for i in range(n):
        mirrored = flip[i]
        for c in range(channels):
            for y in range(height):
                source, target = images[i, c, y], out[i, c, y]
                if mirrored:
                    for x in range(width):
                        target[x] = source[np.uint64(width - 1 - x)]
                else:
                    for x in range(width):
                        target[x] = source[x]
