"""All randomness comes from one seed, on the host, so that every backend sees the same draws."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What random numbers are drawn for: each purpose has its own child of the seed's SeedSequence."""

    BATCH_ORDER = 0
    AUGMENTATION = 1
    PATCHES = 2
    VALIDATION = 3
    WINDOWS = 4


def generator(seed: int, purpose: Purpose, index: int = 0) -> np.random.Generator:
    """The generator for a purpose (and, say, an epoch): independent of earlier draws, so that a run can resume."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(purpose), index)))
