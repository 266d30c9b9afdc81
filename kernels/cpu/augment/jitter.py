"""Colour jitter: v = brightness * image, clipped; then saturation * v + (1 - saturation) * grey of v, clipped.

brightness, saturation float32 (m,). All is float32, in the order of the array code, so that the results are equal.
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
BLACK, WHITE, ONE = np.float32(0), np.float32(255), np.float32(1)
RED, GREEN, BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)  # of grey


@inlined
def _clipped(level: Any) -> Any:
    return min(max(level, BLACK), WHITE)


@inlined
def _mixed(v: Any, saturation: Any, grey: Any) -> Any:
    return np.uint8(np.int32(_clipped(np.rint(saturation * v + grey))))


@over_images
@jit
def jitter(images: Images, rows: Integers, brightness: Floats, saturation: Floats, out: Images) -> None:
    for k in range(rows.size):
        i, bright, colour = rows[k], brightness[k], saturation[k]
        red, green, blue = images[i, 0].reshape(-1), images[i, 1].reshape(-1), images[i, 2].reshape(-1)
        out_red, out_green, out_blue = out[i, 0].reshape(-1), out[i, 1].reshape(-1), out[i, 2].reshape(-1)
        for j in range(red.size):
            r = _clipped(bright * np.float32(red[j]))
            g = _clipped(bright * np.float32(green[j]))
            b = _clipped(bright * np.float32(blue[j]))
            grey = (ONE - colour) * (RED * r + GREEN * g + BLUE * b)
            out_red[j], out_green[j], out_blue[j] = (
                _mixed(r, colour, grey),
                _mixed(g, colour, grey),
                _mixed(b, colour, grey),
            )
