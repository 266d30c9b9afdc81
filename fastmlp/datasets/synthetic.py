"""Any number of generated images in CIFAR-10's shape, for benchmarks and tests.

Each image is a smooth field of colour, drawn as 4x4 RGB values around the mean of its class. The means are symmetric,
so that a flipped image keeps its class; the classes overlap, so that there is something to learn.
"""

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.datasets.base import Dataset, Split
from fastmlp.datasets.mapped import Images, gathered
from fastmlp.datasets.upsample import upsample

CLASSES = 10
GRID = (3, 4, 4)
CLASS_SPREAD = 0.5  # standard deviation between classes, in units of that within a class
MEAN_LEVEL = 120
CONTRAST = 40  # grey levels per standard deviation
NOISE_LEVELS = 16  # each pixel is brightened by 0 to 15 levels
CHUNK = 1000
TRAIN_SIZE = 5_000
MIN_TRAIN_SIZE = 50
TRAIN_TO_TEST = 5  # as in CIFAR-10


def load(train_size: int = TRAIN_SIZE) -> Dataset:
    """`train_size` training images and a fifth as many for testing, in balanced classes."""
    if train_size < MIN_TRAIN_SIZE:
        raise UsageError(f"synthetic:{train_size} is too small: ask for at least {MIN_TRAIN_SIZE} images.")
    means = _class_means(np.random.default_rng(0))
    return Dataset(
        f"synthetic:{train_size}",
        _draw(np.random.default_rng(1), means, train_size),
        _draw(np.random.default_rng(2), means, train_size // TRAIN_TO_TEST),
        tuple(f"class {k}" for k in range(CLASSES)),
    )


def _class_means(rng: np.random.Generator) -> NDArray[np.float32]:
    """(10, 3, 4, 4), each symmetric."""
    means = rng.standard_normal((CLASSES, *GRID), dtype=np.float32)
    return CLASS_SPREAD * (means + means[..., ::-1]) / np.sqrt(2, dtype=np.float32)


def _draw(rng: np.random.Generator, means: NDArray[np.float32], n: int) -> Split:
    labels = rng.permutation(np.arange(n, dtype=np.int64) % CLASSES)
    chunks = (_images(rng, means[labels[start : start + CHUNK]]) for start in range(0, n, CHUNK))
    return Split(gathered(chunks, n), labels)


def _images(rng: np.random.Generator, means: NDArray[np.float32]) -> Images:
    """uint8 (n, 3, 32, 32) around the means (n, 3, 4, 4)."""
    fields = means + rng.standard_normal(means.shape, dtype=np.float32)
    levels = np.rint(MEAN_LEVEL + CONTRAST * fields)  # whole numbers interpolate alike on every machine
    smooth = np.clip(upsample(levels), 0, 256 - NOISE_LEVELS).astype(np.uint8)
    return smooth + rng.integers(0, NOISE_LEVELS, smooth.shape, dtype=np.uint8)
