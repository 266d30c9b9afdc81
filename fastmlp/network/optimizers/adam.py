"""Adam (Kingma and Ba 2015, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.network.optimizers.base import Optimizer
from fastmlp.ops import Array

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-8  # keeps the division finite


@dataclass(frozen=True)
class Adam(Optimizer):
    """Steps along the running mean of the gradient, over the root of the running mean of its square.

    first = beta_1 first + (1 - beta_1) gradient; second = beta_2 second + (1 - beta_2) gradient^2;
    W -= step_size * first / (sqrt(second) * correction + epsilon). Both means start at zero; the coefficients step_size
    and correction take that bias out of them. Raises UsageError for a beta below 0, or of 1 and more.
    """

    beta_1: float = BETA_1
    beta_2: float = BETA_2
    epsilon: float = EPSILON

    name = "adam"
    moments = ("first", "second")

    def __post_init__(self) -> None:
        super().__post_init__()
        for beta in (self.beta_1, self.beta_2):
            if not 0 <= beta < 1:
                raise UsageError(f"Adam's betas must be numbers from 0 to below 1, not {beta}.")

    @property
    def constants(self) -> Mapping[str, float]:
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

    def schedule(self, rates: NDArray[np.float64], steps: NDArray[np.int64]) -> Sequence[NDArray[np.float64]]:
        step_size = rates / (1 - self.beta_1**steps)
        correction = 1 / np.sqrt(1 - self.beta_2**steps)
        return step_size, correction

    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]:
        step_size, correction = coefficients
        first = self.beta_1 * moments[0] + (1 - self.beta_1) * gradient
        second = self.beta_2 * moments[1] + (1 - self.beta_2) * (gradient * gradient)
        return step_size * first / (xp.sqrt(second) * correction + self.epsilon), (first, second)
