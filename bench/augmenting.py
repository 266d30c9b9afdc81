"""The problem of augmenting images: one augmentation for all, or for each image the one drawn for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing.compare import assert_levels

from .contenders import Problem

SIDE = 32
FLIP, MIXED = "flip", "all four, drawn"

Images = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Augmentation(Problem):
    """Images uint8 (n, 3, 32, 32), and for each the augmentation and its parameters; the result is new images.

    A contender that works in batches may keep only the last one.
    """

    kind: str
    images: Images
    plan: augment.Plan

    @cached_property
    def reference(self) -> Images:
        """By the array code on NumPy."""
        if self.kind == FLIP:
            return augment.hflip(self.images, self.plan.parameters["contrast"]["flip"])
        return augment.apply(NumpyBackend(), self.images, self.plan)

    def check(self, what: str, result: Images) -> None:
        """`result` holds the last of the images."""
        assert_levels(what, result, self.reference[-len(result) :])

    def batches(self, size: int) -> list[tuple[Images, augment.Plan]]:
        """The images and their parameters, `size` at a time."""
        parts = (slice(start, start + size) for start in range(0, len(self.images), size))
        return [(self.images[part], self.plan[part]) for part in parts]


def draw(kind: str, threads: int, n: int, device: str = "cpu") -> Augmentation:
    """Images of noise, on which no code is quick; grey for contrast, because only there all libraries' means agree."""
    rng = np.random.default_rng(n)
    shape = (n, 1 if kind == "contrast + flip" else 3, SIDE, SIDE)
    noise = rng.integers(0, 256, shape, dtype=np.uint8)
    plan = augment.draw(rng, n, height=SIDE, width=SIDE)
    for one in plan.policy.kinds:
        if one.name == kind:
            plan = plan.only(one)
    return Augmentation(
        suite="augment",
        threads=threads,
        title=f"{kind}, {n:,} images, {SIDE} x {SIDE}",
        unit="image",
        units=n,
        kind=kind,
        images=np.ascontiguousarray(np.broadcast_to(noise, (n, 3, SIDE, SIDE))),
        plan=plan,
        device=device,
    )
