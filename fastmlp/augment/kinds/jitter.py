"""Colour jitter: brightness and saturation, each by a random factor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.checks import check_range, numbers
from fastmlp.augment.kind import Given, Kind, Parameters
from fastmlp.backends.base import Array


def jitter(xp: Any, images: Array, brightness: Array, saturation: Array, out: Array) -> None:
    """torchvision's adjust_brightness and then adjust_saturation of float images, rounded to even at the end alone.

    With v = brightness * image, clipped to 0 .. 255, and grey = 0.2989 red + 0.587 green + 0.114 blue of v,
    out = saturation * v + (1 - saturation) * grey, clipped. brightness, saturation float32 (n,).
    """
    brightness, saturation = brightness[:, None, None, None], saturation[:, None, None, None]
    v = xp.clip(brightness * xp.astype(images, xp.float32), 0, 255)
    red, green, blue = (v[:, c : c + 1, ...] for c in range(3))
    grey = 0.2989 * red + 0.587 * green + 0.114 * blue
    mixed = saturation * v + (1 - saturation) * grey
    out[...] = xp.astype(xp.clip(xp.round(mixed), 0, 255), xp.uint8)


@dataclass(frozen=True)
class Jitter(Kind):
    """`jitter=LOWEST:HIGHEST` factor, of brightness and, drawn apart, of saturation."""

    jitter_lowest: float = 0.8
    jitter_highest: float = 1.2

    settings: ClassVar = {"jitter": ("jitter_lowest", "jitter_highest")}
    op = staticmethod(jitter)

    def __post_init__(self) -> None:
        check_range("jitter", self.jitter_lowest, self.jitter_highest)

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        return {name: rng.uniform(self.jitter_lowest, self.jitter_highest, n) for name in ("brightness", "saturation")}

    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        return tuple(numbers(name, parameters[name], n).astype(np.float32) for name in ("brightness", "saturation"))


KIND = Jitter
