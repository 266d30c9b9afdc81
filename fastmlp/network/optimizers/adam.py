"""Adam (Kingma and Ba 2015, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.optimizers.base import Optimizer
from fastmlp.ops import Array

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-8  # keeps the division finite


class Adam(Optimizer):
    """Steps along the running mean of the gradient, over the root of the running mean of its square.

    first = beta_1 first + (1 - beta_1) gradient; second = beta_2 second + (1 - beta_2) gradient^2;
    W -= step_size * first / (sqrt(second) * correction + epsilon). Both means start at zero; the coefficients step_size
    and correction take that bias out of them.
    """

    name = "adam"
    moments = ("first", "second")

    @property
    def constants(self) -> Mapping[str, float]:
        return {"beta_1": BETA_1, "beta_2": BETA_2, "epsilon": EPSILON}

    def schedule(self, rates: NDArray[np.float64], steps: NDArray[np.int64]) -> Sequence[NDArray[np.float64]]:
        step_size = rates / (1 - BETA_1**steps)
        correction = 1 / np.sqrt(1 - BETA_2**steps)
        return step_size, correction

    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]:
        step_size, correction = coefficients
        first = BETA_1 * moments[0] + (1 - BETA_1) * gradient
        second = BETA_2 * moments[1] + (1 - BETA_2) * (gradient * gradient)
        return step_size * (first / (xp.sqrt(second) * correction + EPSILON)), (first, second)
