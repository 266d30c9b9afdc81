"""A textbook training loop in NumPy, written straight from the equations."""

from __future__ import annotations

import numpy as np

from fastmlp.network.parameters import Parameters

from ..contenders import Bound
from ..training import Training


def train(problem: Training) -> Bound:
    X, y, order, batch_size, lr = (
        problem.features, problem.labels, problem.order, problem.batch_size, problem.learning_rate,
    )  # fmt: skip
    onehot = np.eye(problem.parameters.sizes[-1], dtype=np.float32)
    W1, W2 = (weight.copy() for weight in problem.parameters.weights)
    b1, b2 = (bias.copy() for bias in problem.parameters.biases)

    def run() -> None:
        nonlocal W1, W2, b1, b2
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            x, t = X[batch], onehot[y[batch]]
            hidden = np.maximum(x @ W1 + b1, 0)
            logits = hidden @ W2 + b2
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            d_logits = (exponentials / exponentials.sum(axis=1, keepdims=True) - t) / len(batch)
            d_hidden = (d_logits @ W2.T) * (hidden > 0)
            W2 -= lr * (hidden.T @ d_logits)
            b2 -= lr * d_logits.sum(axis=0)
            W1 -= lr * (x.T @ d_hidden)
            b1 -= lr * d_hidden.sum(axis=0)

    return Bound(run, lambda: Parameters((W1, W2), (b1, b2)))
