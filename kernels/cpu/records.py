"""The records of a fused epoch: what compiled code is given of networks, rows, optimizer and threads."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Integers = NDArray[np.int64]


class Weights(NamedTuple):
    """The slots of each array: W1 (panels * d * line), B1 (panels * line), W2 (c * panels * line), B2 (parts * c)."""

    w1: Floats
    b1: Floats
    w2: Floats
    b2: Floats


class Epoch(NamedTuple):
    """One network's pass over rows (n,), positions of the samples in `features` (flat), in that order.

    It takes (features - mean (inputs,)) * scale or, with an empty mean, the features as they are.
    """

    features: Floats
    rows: Integers
    labels: Integers
    batch_size: int
    inputs: int
    classes: int
    mean: Floats
    scale: float


class Updates(NamedTuple):
    """The optimizer, and each step's coefficients (steps, 1 + k): first the share of a weight that decay leaves.

    Apart from `Epoch`, so that evaluation is not compiled for each optimizer.
    """

    rule: Any
    coefficients: NDArray[np.float64]


class Team(NamedTuple):
    """parts: of the hidden units; exchange (2, parts, c * padded batch), for Z2; counters of `team`; pace of `pace`."""

    parts: int
    exchange: Floats
    counters: Integers
    pace: Integers


class Share(NamedTuple):
    """A part's hidden units: `units` of them from `first` on, both whole lines; padded: the batch in whole lines."""

    part: int
    first: int
    units: int
    line: int
    padded: int


class Step(NamedTuple):
    """How to apply a sum over the batch: mean_factor, 1 / m, makes it a gradient; see `optimizers` for the rest."""

    rule: Any
    mean_factor: float
    coefficients: NDArray[np.float64]
    kept: float


class Buffers(NamedTuple):
    """What one part needs for a batch; h: its hidden units, m: the batch, rounded up to whole lines."""

    hidden: Floats  # (m, h)
    transposed: Floats  # (h, m)
    delta: Floats  # (m, h)
    gradient: Floats  # (c, m): class by class, so that loops over the batch vectorise
    largest: Floats  # (m,): logits
    first: Floats  # (m,): the first class with the largest logit, as a float, so that loops use one type
    total: Floats  # (m,): sums of exponentials
    chunk: Floats  # a part of a gradient
    shift: Floats  # (h,): mean W1, where features are standardised
    sums: Floats  # (max(h, c),): of the gradient over the batch
    by_hidden: Integers  # (c,): where a class's weights start in W2
    by_batch: Integers  # (c,): where a class's gradients start
