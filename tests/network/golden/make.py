"""Write golden.npz: an epoch of ten steps of the paper's training, by `fastmlp.network.reference`, in float64.

    python make.py FILE

One hidden layer; every name and formula is the paper's, biases kept as (k,). Holds the data, the order of the rows, the
first parameters, the gradients of the first step, the mean loss of each step, and the last parameters.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.network.reference import step

INPUTS, HIDDEN, CLASSES = 12, 8, 5
ROWS, BATCH, LEARNING_RATE = 155, 16, 0.3  # the tenth batch has 11 rows

NAMES = ("W1", "B1", "W2", "B2")
Arrays = dict[str, Any]


def first_numbers() -> Arrays:
    """The data and the parameters to start from. RandomState's numbers are the same in every version of NumPy."""
    rng = np.random.RandomState(2026)
    labels = rng.randint(0, CLASSES, ROWS).astype(np.int64)
    return {
        "features": 1.5 * rng.randn(CLASSES, INPUTS)[labels] + rng.randn(ROWS, INPUTS),
        "labels": labels,
        "order": rng.permutation(ROWS).astype(np.int64),
        "W1": 0.3 * rng.randn(INPUTS, HIDDEN),
        "B1": 0.1 * rng.randn(HIDDEN),
        "W2": 0.3 * rng.randn(HIDDEN, CLASSES),
        "B2": 0.1 * rng.randn(CLASSES),
    }


def numbers() -> Arrays:
    start = first_numbers()
    parameters = tuple(start[name] for name in NAMES)
    losses = []
    for first in range(0, ROWS, BATCH):
        batch = start["order"][first : first + BATCH]
        features, labels = start["features"][batch], start["labels"][batch]
        loss, gradients, parameters = step(features, labels, parameters, LEARNING_RATE)
        losses.append(loss)
        if first == 0:
            first_gradients = {f"d{name}": gradient for name, gradient in zip(NAMES, gradients, strict=True)}
    last = {f"last_{name}": value for name, value in zip(NAMES, parameters, strict=True)}
    recipe = {"batch_size": np.array(BATCH), "learning_rate": np.array(LEARNING_RATE)}
    return {**start, **first_gradients, **last, **recipe, "losses": np.array(losses)}


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **numbers())
