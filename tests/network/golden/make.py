"""Write golden.npz: an epoch of ten steps of the paper's training, in plain NumPy and float64, with none of our code.

    python make.py FILE

One hidden layer; every name and formula is the paper's, biases kept as (k,). Holds the data, the order of the rows, the
first parameters, the gradients of the first step, the mean loss of each step, and the last parameters.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INPUTS, HIDDEN, CLASSES = 12, 8, 5
ROWS, BATCH, LEARNING_RATE = 155, 16, 0.3  # the tenth batch has 11 rows

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


def step(A0: NDArray, labels: NDArray, W1: NDArray, B1: NDArray, W2: NDArray, B2: NDArray) -> tuple[float, Arrays]:
    """The mean loss and its gradients."""
    m = len(A0)
    Y = np.eye(CLASSES)[labels]
    Z1 = A0 @ W1 + B1
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2 + B2
    exponentials = np.exp(Z2 - Z2.max(axis=1, keepdims=True))
    A2 = exponentials / exponentials.sum(axis=1, keepdims=True)
    dZ2 = A2 - Y
    dZ1 = dZ2 @ W2.T * (Z1 > 0)
    gradients = {
        "dW1": A0.T @ dZ1 / m,
        "dB1": dZ1.sum(axis=0) / m,
        "dW2": A1.T @ dZ2 / m,
        "dB2": dZ2.sum(axis=0) / m,
    }
    return float(-np.log(A2[Y == 1]).mean()), gradients


def numbers() -> Arrays:
    start = first_numbers()
    parameters = {name: start[name] for name in ("W1", "B1", "W2", "B2")}
    losses = []
    for first in range(0, ROWS, BATCH):
        batch = start["order"][first : first + BATCH]
        loss, gradients = step(start["features"][batch], start["labels"][batch], **parameters)
        losses.append(loss)
        if first == 0:
            first_gradients = gradients
        parameters = {name: value - LEARNING_RATE * gradients[f"d{name}"] for name, value in parameters.items()}
    last = {f"last_{name}": value for name, value in parameters.items()}
    recipe = {"batch_size": np.array(BATCH), "learning_rate": np.array(LEARNING_RATE)}
    return {**start, **first_gradients, **last, **recipe, "losses": np.array(losses)}


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **numbers())
