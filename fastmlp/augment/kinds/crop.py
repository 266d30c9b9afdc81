"""A window of each image padded by zeros, at a random place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.checks import check_pixels, integers
from fastmlp.augment.kind import Given, Kind, Parameters
from fastmlp.augment.pixels import grid, pixels
from fastmlp.backends.base import Array


def crop(xp: Any, images: Array, down: Array, across: Array, out: Array) -> None:
    """out[y, x] = image[y + down, x + across], zero outside; down, across int64 (n,)."""
    rows, columns = grid(xp, images)
    out[...] = pixels(xp, images, rows + down[:, None, None], columns + across[:, None, None])


@dataclass(frozen=True)
class Crop(Kind):
    """`crop=PIXELS` of padding on every side; the window's corner (dy, dx) is uniform in 0..2 * padding."""

    crop_padding: int = 4

    settings: ClassVar = {"crop": ("crop_padding",)}
    op = staticmethod(crop)

    def __post_init__(self) -> None:
        check_pixels("crop_padding", self.crop_padding)

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        return {name: rng.integers(0, 2 * self.crop_padding, n, endpoint=True) for name in ("dy", "dx")}

    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        corner = (integers(name, parameters[name], n, 0, 2 * self.crop_padding) for name in ("dy", "dx"))
        return tuple(place - self.crop_padding for place in corner)


KIND = Crop
