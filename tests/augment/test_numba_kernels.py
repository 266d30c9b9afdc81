"""Numba's augmentations equal NumPy's array code to the bit, also where the public check takes either byte."""

import numpy as np
import pytest

from fastmlp import augment
from fastmlp.augment import Policy
from fastmlp.backends import open_backend


@pytest.mark.parametrize("shape", [(700, 3, 12, 10), (3, 3, 7, 9), (0, 3, 8, 8)], ids=str)
def test_plans(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """Of several parts and two threads, of no image of some kinds, and of none at all."""
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    images.flags.writeable = False
    policy = Policy.parse("crop=4,rotation=180,cutout=5,contrast=0:9,jitter=0:2")
    plan = augment.draw(rng, len(images), policy, *shape[2:])
    got, expected = (augment.apply(open_backend(name, threads=2), images, plan) for name in ("numba", "numpy"))
    np.testing.assert_array_equal(got, expected)
