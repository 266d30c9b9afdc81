"""What an optimizer is, and weight decay, which all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.ops import Array


@dataclass(frozen=True)
class Optimizer(ABC):
    """One optimizer, with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    Every step multiplies the weights, not the biases, by 1 - learning_rate * weight_decay; for plain gradient descent
    that equals an L2 penalty of weight_decay / 2 * |W|^2.

    name        by which recipes and kernels call it
    moments     names of the arrays that it keeps for every parameter array, zero at first
    constants   the numbers that are the same in every step
    """

    weight_decay: float = 0.0

    name: ClassVar[str]
    moments: ClassVar[tuple[str, ...]] = ()

    @property
    def constants(self) -> Mapping[str, float]:
        return {}

    def __post_init__(self) -> None:
        if not 0 <= self.weight_decay < np.inf:
            raise UsageError(f"The weight decay must be a number of 0 or more, not {self.weight_decay}.")

    def coefficients(self, learning_rates: NDArray[np.float64], first_step: int) -> NDArray[np.float64]:
        """The numbers of each of those steps: float64 (steps, 1 + k), computed on the host.

        The first is the share of a weight that decay leaves, the others are the optimizer's own. first_step counts from
        1 over the whole training.
        """
        rates = np.asarray(learning_rates, np.float64)
        steps = np.arange(first_step, first_step + len(rates))
        return np.stack([1 - rates * self.weight_decay, *self.schedule(rates, steps)], axis=1)

    def schedule(self, rates: NDArray[np.float64], steps: NDArray[np.int64]) -> Sequence[NDArray[np.float64]]:
        """The optimizer's own coefficients, (steps,) each, from the learning rates and the numbers of the steps.

        The learning rates themselves, unless an optimizer says otherwise.
        """
        return (rates,)

    @abstractmethod
    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]:
        """What to subtract from the values, and the new moments, in array code; arrays (n,)."""

    @classmethod
    def kinds(cls) -> Iterator[type[Optimizer]]:
        """Every optimizer that is defined, simple ones first."""
        for kind in cls.__subclasses__():
            yield kind
            yield from kind.kinds()
