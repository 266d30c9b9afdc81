"""What the end of a training tells: whether the network has learned more than how frequent each class is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe

LEAST_STEPS = 50  # after fewer there is nothing to judge
LEAST_ENTROPY = 0.05  # of labels: where one class has 99% of the weight, a guess at it is hard to better
LEAST_GAIN = 0.05  # of a guess's loss


def no_better_than_guessing(
    history: History,
    labels: NDArray[np.int64],
    recipe: Recipe,
    weights: NDArray[np.float64] | None = None,
) -> str | None:
    """The finding, if the training loss has ended at about that of a guess that looks at no feature, or above.

    That guess, each class by its share of the labels (n,) trained on, weighted by weights (n,), has the shares' entropy
    as its loss; the best loss is the entropy of one label, which is 0 unless labels are smoothed. None: the network has
    learned something, or has taken too few steps to tell.
    """
    counts = np.bincount(labels, weights)
    entropy = _entropy(_smoothed(counts / counts.sum(), recipe.label_smoothing))
    least = _entropy(_smoothed(np.eye(1, len(counts))[0], recipe.label_smoothing))
    steps, loss = history.epochs * -(-len(labels) // recipe.batch_size), history.train_loss[history.kept_epoch - 1]
    gained, to_gain = entropy - loss, entropy - least
    if steps < LEAST_STEPS or to_gain < LEAST_ENTROPY or gained >= LEAST_GAIN * to_gain:
        return None
    return (
        f"The training loss ended at {loss:.3g}, no better than guessing by how frequent each class is ({entropy:.3g})"
    )


def _smoothed(shares: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    return (1 - smoothing) * shares + smoothing / len(shares)


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return -float(np.sum(shares * np.log(shares)))
