"""What the end of a training tells: whether the network has learned more than how frequent each class is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmlp.training.history import History

LEAST_STEPS = 50  # after fewer there is nothing to judge
LEAST_ENTROPY = 0.05  # of labels: where one class has 99% of the weight, a guess at it is hard to better
LEAST_GAIN = 0.05  # of a guess's loss


def no_better_than_guessing(
    history: History, labels: NDArray[np.int64], batch_size: int, weights: NDArray[np.float64] | None = None
) -> str | None:
    """The finding, if the training loss has ended at about that of a guess that looks at no feature, or above.

    That guess, each class by its share of the labels (n,) trained on, weighted by weights (n,), has the shares' entropy
    as its loss. None: the network has learned something, or has taken too few steps to tell.
    """
    counts = np.bincount(labels, weights)
    shares = counts[counts > 0] / counts.sum()
    entropy = -float(np.sum(shares * np.log(shares)))
    steps, loss = history.epochs * -(-len(labels) // batch_size), history.train_loss[history.kept_epoch - 1]
    if steps < LEAST_STEPS or entropy < LEAST_ENTROPY or loss <= (1 - LEAST_GAIN) * entropy:
        return None
    return (
        f"The training loss ended at {loss:.3g}, no better than guessing by how frequent each class is ({entropy:.3g})"
    )
