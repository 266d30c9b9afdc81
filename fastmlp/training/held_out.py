"""Rows held out of training: the one way in which test and validation rows are drawn from rows with labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.randomness import Purpose, generator

HELD_OUT = 0.1  # of the rows, wherever nothing else is asked for
LEAST_ROWS = 10  # of which that is one


def hold_out(
    labels: NDArray[np.int64], seed: int, fraction: float = HELD_OUT
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to train on and the held-out ones, both in order, drawn from the seed: that fraction of each class.

    Fractions of rows are rounded so that the total is right, and no class lies wholly in the held-out rows; hence this
    in place of scikit-learn's train_test_split, which refuses classes of one row, and more classes than held-out rows.
    """
    order = generator(seed, Purpose.VALIDATION).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, first_of_class = np.unique(labels[by_class], return_index=True)
    free = np.delete(by_class, first_of_class)
    count = min(round(fraction * len(labels)), len(free))
    held = np.zeros(len(labels), bool)
    held[free[(2 * np.arange(count) + 1) * len(free) // max(1, 2 * count)]] = True  # evenly spaced, so of every class
    return np.flatnonzero(~held), np.flatnonzero(held)
