"""Optimizers: what one step makes of a gradient, and the numbers that it needs, computed on the host in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError

# Adam's (Kingma and Ba 2015, algorithm 1): how much of the moments of earlier gradients a step keeps, and what keeps
# the division finite.
BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = 1e-8

UPDATES = {"sgd": "sgd_update", "adam": "adam_update"}  # the op of each optimizer


@dataclass(frozen=True)
class Optimizer:
    """Gradient descent ("sgd") or Adam ("adam"), either with decoupled weight decay.

    Every step multiplies the weights, not the biases, by 1 - learning_rate * weight_decay (Loshchilov and Hutter 2019,
    algorithm 2); for plain gradient descent that equals an L2 penalty of weight_decay / 2 * |W|^2.

    Raises UsageError for another name, or a weight decay that is negative or not finite.
    """

    name: str = "sgd"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in UPDATES:
            raise UsageError(f"The optimizer must be one of {', '.join(UPDATES)}, not {self.name!r}.")
        if not 0 <= self.weight_decay < np.inf:
            raise UsageError(f"The weight decay must be a number of 0 or more, not {self.weight_decay}.")

    @property
    def update(self) -> str:
        """The name of the op that takes its step."""
        return UPDATES[self.name]

    @property
    def moments(self) -> int:
        """How many running means of gradients it keeps for every parameter."""
        return 2 if self.name == "adam" else 0

    def coefficients(self, learning_rates: NDArray[np.float64], first_step: int) -> NDArray[np.float64]:
        """For each of those steps (steps,): decay, step_size and scale (steps, 3), as the update ops take them.

        first_step is the number of the first of them, counted from 1 over the whole training; Adam's corrections of
        its moments' bias towards 0 depend on it. decay holds for weights; for biases it is 1.
        """
        rates = np.asarray(learning_rates, np.float64)
        scale = np.ones_like(rates)
        step_size = rates
        if self.name == "adam":
            step = np.arange(first_step, first_step + len(rates))
            step_size = rates / (1 - BETA_1**step)
            scale = 1 / np.sqrt(1 - BETA_2**step)
        return np.stack([1 - rates * self.weight_decay, step_size, scale], axis=1)


SGD = Optimizer()
