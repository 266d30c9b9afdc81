"""Steps of scikit-learn's two stochastic solvers, where they are not those of `fastmlp.network.optimizers`.

Neither has a weight decay of its own: the penalty is part of the objective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.optimizers import Optimizer
from fastmlp.network.optimizers.adam import Adam
from fastmlp.ops import Array


@dataclass(frozen=True)
class Velocity(Optimizer):
    """Gradient descent with momentum, whose velocity holds the learning rates of its past.

    velocity = momentum * velocity - rate * gradient; W += velocity, or, with nesterov, W += momentum * velocity -
    rate * gradient. While the learning rate is constant, it is `Momentum`.
    """

    momentum: float = 0.9
    nesterov: bool = True

    name = "velocity"
    moments = ("velocity",)

    @property
    def constants(self) -> Mapping[str, float]:
        return {"momentum": self.momentum, "nesterov": float(self.nesterov)}

    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]:
        (rate,) = coefficients
        velocity = self.momentum * moments[0] - rate * gradient
        return rate * gradient - self.momentum * velocity if self.nesterov else -velocity, (velocity,)


class UncorrectedAdam(Adam):
    """Adam, but epsilon is added to the root of the second moment as it is, its bias still in it.

    Kingma and Ba (2015) give this form at the end of section 2, with another epsilon.
    """

    def schedule(self, rates: NDArray[np.float64], steps: NDArray[np.int64]) -> Sequence[NDArray[np.float64]]:
        first, second = (np.array([beta**step for step in steps.tolist()]) for beta in (self.beta_1, self.beta_2))
        return rates * np.sqrt(1 - second) / (1 - first), np.ones(len(rates))
