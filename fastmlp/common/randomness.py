"""All randomness comes from one seed, on the host, so that every backend sees the same draws."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Independent streams of one seed: children of its SeedSequence."""

    BATCH_ORDER = 0
    AUGMENTATION = 1
    PATCHES = 2
    VALIDATION = 3


def generator(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """The generator of one stream (and, say, epoch): the same whatever was drawn before, so a run can resume."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), index)))
