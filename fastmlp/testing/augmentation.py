"""The check of whole augmentation plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar

import numpy as np

from fastmlp import augment
from fastmlp.backends.base import Backend, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing.augment_cases import noise
from fastmlp.testing.check import Check
from fastmlp.testing.compare import assert_equal, assert_levels, assert_same_kind

AUGMENTED = 600  # images: about 150 of each kind, enough for several threads


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    yield Check("augmentation of a mixed batch", partial(assert_augmentation, backend, seed))


def assert_augmentation(backend: Backend, seed: int = 0) -> None:
    """A mixed plan applied by the backend: NumPy's images, or one level off where rounding ties."""
    rng = np.random.default_rng(seed)
    images = noise(rng, (AUGMENTED, 3, 32, 32))
    before = images.copy()
    images.flags.writeable = False
    plan = augment.draw(rng, len(images))
    what = f"{backend} augmentation (seed {seed})"
    got = augment.apply(backend, images, plan)
    assert_equal(f"{what}: changed the images it was given", images, before)
    assert_same_kind(what, got, images.shape, "uint8")
    assert_levels(what, got, augment.apply(_ArrayCode(), images, plan))


class _ArrayCode(NumpyBackend):
    kernels: ClassVar[Mapping[str, Kernel]] = {}
