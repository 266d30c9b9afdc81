"""Gradient descent with momentum, Nesterov's by default (Sutskever et al. 2013, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastmlp.common.errors import UsageError
from fastmlp.network.optimizers.base import Optimizer
from fastmlp.ops import Array


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Steps along a velocity: velocity = momentum * velocity + gradient; W -= rate * velocity.

    With nesterov, W -= rate * (gradient + momentum * velocity), the form that PyTorch uses. Raises UsageError for a
    momentum below 0, or of 1 and more.
    """

    momentum: float = 0.9
    nesterov: bool = True

    name = "momentum"
    moments = ("velocity",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise UsageError(f"The momentum must be a number from 0 to below 1, not {self.momentum}.")

    @property
    def constants(self) -> Mapping[str, float]:
        return {"momentum": self.momentum, "nesterov": float(self.nesterov)}

    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]:
        (rate,) = coefficients
        velocity = self.momentum * moments[0] + gradient
        return rate * (gradient + self.momentum * velocity if self.nesterov else velocity), (velocity,)
