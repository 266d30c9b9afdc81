"""Rotation of square images by quarter turns and three shears, along x, y, x, each linearly interpolated.

images, out (n, channels, s, s); quarters int64 (m,); tangent = tan(r / 2), sine = sin(r), float32 (m,).
A shear moves each line by its own offset o, with p = o - floor(o):
    out[x] = line[x + floor(o)] (1 - p) + line[x + floor(o) + 1] p
The tricks: lines and canvas lie between zeros, so that no element needs a test however far it moves; only the s rows
that end in the picture are computed; and the shear along y works row by row too, each column reading at its own height.
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


@inlined
def _quarter_turns(image: Images, quarters: int) -> Images:
    """A view of image (s, s) turned counter-clockwise."""
    turned = image.T if quarters % 2 else image
    turned = turned[::-1] if quarters in (1, 2) else turned
    return turned[:, ::-1] if quarters in (2, 3) else turned


@inlined
def _whole_part(offset: Any, length: int) -> Any:
    """floor(offset), kept to where all that is read is zero anyway, and the fraction above it."""
    whole = np.floor(offset)
    return np.int64(min(max(whole, np.float32(-length - 1)), np.float32(length))), offset - whole


@inlined
def _shear_line(line: Floats, offset: Any, out: Floats) -> None:
    """line (3 w + 2,): w elements between w + 1 zeros on either side; out (w,)."""
    width = out.shape[0]
    whole, part = _whole_part(offset, width)
    start = np.uint64(width + 1 + whole)
    source, one = line[start:], np.float32(1)
    for x in range(width):
        out[x] = source[x] * (one - part) + source[x + 1] * part


@inlined
def _shear_columns(slope: Any, side: int, start: Any, part: Floats) -> None:
    """start, part (w,): where column x finds its source for row 0 on the flat canvas, and the lower one's weight."""
    width = part.shape[0]
    for x in range(width):
        whole, part[x] = _whole_part(slope * (np.float32(x) + np.float32((1 - width) / 2)), side)
        start[x] = (side + 1 + whole) * width + x


@over_images
@jit
def rotate_by_shears(
    images: Images, rows: Integers, quarters: Integers, tangent: Floats, sine: Floats, out: Images
) -> None:
    _, channels, side, _ = images.shape
    margin = side // 2
    width = side + 2 * margin
    picture = width + 1 + margin  # where the picture begins on a line
    one, first_row = np.float32(1), np.float32((1 - side) / 2)
    line, middle = np.zeros(3 * width + 2, np.float32), np.zeros(3 * width + 2, np.float32)
    canvas = np.zeros((3 * side + 2, width), np.float32)  # the picture's rows between side + 1 rows of zeros
    flat, sheared = canvas.reshape(-1), np.empty(width, np.float32)
    start, part = np.empty(width, np.uint32), np.empty(width, np.float32)
    for j in range(rows.size):
        i = rows[j]
        _shear_columns(sine[j], side, start, part)
        for c in range(channels):
            turned = _quarter_turns(images[i, c], quarters[j])
            for y in range(side):
                for x in range(side):
                    line[picture + x] = turned[y, x]
                _shear_line(line, -tangent[j] * (first_row + np.float32(y)), canvas[side + 1 + y])
            for y in range(side):
                for x in range(width):
                    k = start[x] + np.uint32(y * width)
                    middle[width + 1 + x] = flat[k] * (one - part[x]) + flat[k + np.uint32(width)] * part[x]
                _shear_line(middle, -tangent[j] * (first_row + np.float32(y)), sheared)
                for x in range(side):
                    out[i, c, y, x] = np.uint8(np.rint(sheared[margin + x]))
