"""A plan for all images in one call: each image by its kind, 0 crop, 1 rotate, 2 cutout, 3 contrast and then hflip.

images, out uint8 (n, 3, h, w); kind int64 (n,); the other parameters are those of the four, (n,) each. The images of a
kind are gathered for its kernel, some at a time so that they stay in cache; threads take whole parts of all this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contrast import contrast
from .crop import crop
from .cutout import cutout
from .hflip import hflip
from .parallel import Kernel, on_this_thread, over_images, read_only
from .rotate import rotate

Images = NDArray[np.uint8]
Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

SOME = 256  # images: 0.75 MB of 32 x 32 pixels


@over_images
def augment(
    images: Images,
    kind: Integers,
    dy: Integers,
    dx: Integers,
    padding: int,
    cosine: Floats,
    sine: Floats,
    top: Integers,
    left: Integers,
    size: Integers,
    factor: Floats,
    flip: NDArray[np.bool_],
    out: Images,
) -> None:
    crops, rotations, cutouts = (dy, dx, padding), (cosine, sine), (top, left, size)
    for start in range(0, len(images), SOME):
        kinds = kind[start : start + SOME]
        rows = [start + np.flatnonzero(kinds == number) for number in range(4)]
        _on(rows[0], crop, images, crops, out)
        _on(rows[1], rotate, images, rotations, out)
        _on(rows[2], cutout, images, cutouts, out)
        _on(rows[3], contrast, images, (factor,), out)
        _on(rows[3], hflip, out, (flip,), out)


def _on(rows: Integers, op: Kernel, images: Images, parameters: tuple[Any, ...], out: Images) -> None:
    """out[rows] = op(images[rows]), on this thread."""
    some = images[rows]
    result = np.empty_like(some)
    own = (parameter[rows] if isinstance(parameter, np.ndarray) else parameter for parameter in parameters)
    on_this_thread(op)(read_only(some), *own, result)
    out[rows] = result
