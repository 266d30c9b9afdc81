"""More or less contrast by a random factor, and by chance the mirror image of that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.checks import check_number, check_range, flags, numbers
from fastmlp.augment.kind import Given, Kind, Parameters
from fastmlp.backends.base import Array


def contrast(xp: Any, images: Array, factor: Array, flip: Array, out: Array) -> None:
    """mean + factor * (image - mean), rounded to even and clipped; mirrored left for right where flip is true.

    The mean is over an image's pixels and channels; its sum is of integers, hence exact. factor float32 (n,), flip
    bool (n,).
    """
    pixels = images.shape[1] * images.shape[2] * images.shape[3]
    total = xp.sum(xp.astype(images, xp.int64), axis=(1, 2, 3))
    mean = (xp.astype(total, xp.float32) / pixels)[:, None, None, None]
    stretched = mean + factor[:, None, None, None] * (xp.astype(images, xp.float32) - mean)
    hflip(xp, xp.astype(xp.clip(xp.round(stretched), 0, 255), xp.uint8), flip, out)


def hflip(xp: Any, images: Array, flip: Array, out: Array) -> None:
    """The mirror image, left for right, where flip bool (n,) is true."""
    out[...] = xp.where(flip[:, None, None, None], xp.flip(images, axis=3), images)


@dataclass(frozen=True)
class Contrast(Kind):
    """`contrast=LOWEST:HIGHEST` factor, and `flip=PROBABILITY` that an image whose contrast changes is mirrored too."""

    contrast_lowest: float = 0.5
    contrast_highest: float = 1.5
    flip_probability: float = 0.5  # zero where a mirror image would be of another class

    name = "contrast + flip"
    settings: ClassVar = {"contrast": ("contrast_lowest", "contrast_highest"), "flip": ("flip_probability",)}
    op = staticmethod(contrast)

    def __post_init__(self) -> None:
        check_range("contrast", self.contrast_lowest, self.contrast_highest)
        check_number("flip_probability", self.flip_probability, 1)

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        factor = rng.uniform(self.contrast_lowest, self.contrast_highest, n)
        return {"factor": factor, "flip": rng.random(n) < self.flip_probability}

    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        return numbers("factor", parameters["factor"], n).astype(np.float32), flags("flip", parameters["flip"], n)

    @property
    def label(self) -> str:
        return self.name if self.flip_probability > 0 else self.word

    def without_flip(self) -> Self:
        return replace(self, flip_probability=0.0)


KIND = Contrast
