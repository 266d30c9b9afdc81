"""A square of zeros in each image, at a random place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.augment.checks import check_pixels, integers
from fastmlp.augment.kind import Given, Kind, Parameters
from fastmlp.augment.pixels import grid
from fastmlp.backends.base import Array


def cutout(xp: Any, images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    """Zero in the square of rows top to top + size and columns left to left + size, clipped; int64 (n,) each."""
    rows, columns = grid(xp, images)
    top, left, size = top[:, None, None], left[:, None, None], size[:, None, None]
    hole = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    out[...] = xp.where(hole[:, None, ...], xp.zeros_like(images), images)


def squares(n: int, top: ArrayLike, left: ArrayLike, size: ArrayLike) -> tuple[NDArray[Any], ...]:
    """What the op takes."""
    return tuple(integers(name, value, n) for name, value in (("top", top), ("left", left), ("size", size)))


@dataclass(frozen=True)
class Cutout(Kind):
    """`cutout=PIXELS` a side; the square lies wholly in the image, all its places being equally likely."""

    cutout_size: int = 8

    settings: ClassVar = {"cutout": ("cutout_size",)}
    op = staticmethod(cutout)

    def __post_init__(self) -> None:
        check_pixels("cutout_size", self.cutout_size)

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        sides = {"top": height, "left": width}
        return {
            name: rng.integers(0, max(length - self.cutout_size, 0), n, endpoint=True) for name, length in sides.items()
        }

    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        return squares(n, parameters["top"], parameters["left"], self.cutout_size)


KIND = Cutout
