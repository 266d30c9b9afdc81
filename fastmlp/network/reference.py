"""One training step in plain NumPy: the equations of the paper, and none of our other code.

The independent truth of the tests: everything that trains is held to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]
Parameters = tuple[Matrix, Matrix, Matrix, Matrix]  # W1 (d, h), B1 (h,), W2 (h, c), B2 (c,)


def step(
    A0: Matrix, labels: NDArray[np.int64], parameters: Parameters, rate: float
) -> tuple[float, Parameters, Parameters]:
    """The mean loss over the rows A0 (m, d), its gradients, and the parameters one step of gradient descent on."""
    W1, B1, W2, B2 = parameters
    m, Y = len(A0), np.eye(len(B2))[labels]
    Z1 = A0 @ W1 + B1  # forward
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2 + B2
    E = np.exp(Z2 - Z2.max(axis=1, keepdims=True))
    A2 = E / E.sum(axis=1, keepdims=True)
    loss = -np.log(A2[Y == 1]).mean()
    dZ2 = A2 - Y  # backward
    dW2 = A1.T @ dZ2 / m
    dB2 = dZ2.sum(axis=0) / m
    dZ1 = dZ2 @ W2.T * (Z1 > 0)
    dW1 = A0.T @ dZ1 / m
    dB1 = dZ1.sum(axis=0) / m
    gradients = (dW1, dB1, dW2, dB2)
    W1, B1, W2, B2 = (w - rate * dw for w, dw in zip(parameters, gradients, strict=True))  # update
    return float(loss), gradients, (W1, B1, W2, B2)
