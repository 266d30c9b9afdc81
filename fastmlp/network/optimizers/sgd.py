"""Mini-batch gradient descent, the paper's: W -= rate * dW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmlp.network.optimizers.base import Optimizer
from fastmlp.ops import Array


class SGD(Optimizer):
    """Gradient descent."""

    name = "sgd"

    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]:
        (rate,) = coefficients
        return rate * gradient, ()
