"""A turn of each image about its centre, by a random angle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.checks import check_number, numbers
from fastmlp.augment.kind import Given, Kind, Parameters
from fastmlp.augment.pixels import float_pixels, grid
from fastmlp.backends.base import Array

ANGLES_AT_ONCE = 4096


def rotate(xp: Any, images: Array, cosine: Array, sine: Array, out: Array) -> None:
    """Rotation about the centre, counter-clockwise, bilinear, zero outside, rounded to even.

    cosine and sine of the angles, float32 (n,).
    """
    rows, columns = grid(xp, images)
    middle_y, middle_x = (images.shape[2] - 1) / 2, (images.shape[3] - 1) / 2
    y, x = xp.astype(rows, xp.float32) - middle_y, xp.astype(columns, xp.float32) - middle_x
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    source_y = x * sine + y * cosine + middle_y
    source_x = x * cosine - y * sine + middle_x
    top, left = xp.floor(source_y), xp.floor(source_x)
    below, right = (source_y - top)[:, None, ...], (source_x - left)[:, None, ...]
    pixels = partial(float_pixels, xp, images, xp.astype(top, xp.int64), xp.astype(left, xp.int64))
    upper = pixels(0, 0) * (1 - right) + pixels(0, 1) * right
    lower = pixels(1, 0) * (1 - right) + pixels(1, 1) * right
    out[...] = xp.astype(xp.round(upper * (1 - below) + lower * below), xp.uint8)


@dataclass(frozen=True)
class Rotation(Kind):
    """`rotation=DEGREES`: the angle is uniform between minus and plus that many."""

    rotation_degrees: float = 15.0

    settings: ClassVar = {"rotation": ("rotation_degrees",)}
    op = staticmethod(rotate)

    def __post_init__(self) -> None:
        check_number("rotation_degrees", self.rotation_degrees)

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        return {"degrees": rng.uniform(-self.rotation_degrees, self.rotation_degrees, n)}

    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        return cosine_and_sine(numbers("degrees", parameters["degrees"], n))


def cosine_and_sine(degrees: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each angle, by the tangent of its half, which NumPy computes six times as fast as either; rounded at the end.

    Part by part, so that what lies between stays in the cache.
    """
    cosine, sine = (np.empty(degrees.shape, np.float32) for _ in range(2))
    for start in range(0, len(degrees), ANGLES_AT_ONCE):
        part = slice(start, start + ANGLES_AT_ONCE)
        tangent = np.tan(np.deg2rad(degrees[part]) / 2)
        square = tangent * tangent
        scale = 1 + square
        np.divide(1 - square, scale, out=cosine[part], casting="same_kind")
        np.divide(2 * tangent, scale, out=sine[part], casting="same_kind")
    return cosine, sine


KIND = Rotation
