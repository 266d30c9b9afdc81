"""Hand-written kernels: compiled code that a backend runs in place of an op's array code, or of a whole epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Head:
    """One network with one hidden layer, and its next epoch: what a fused epoch trains in place.

    slots: the values (w1 (d, h), b1 (h,), w2 (h, c), b2 (c,)), and for Adam its first and its second moments, of the
    same shapes. order int64: the rows to train on, in batches. coefficients float64 (steps, 3): of each step, see
    `fastmlp.network.optimizers`. mean (d,): it trains on (features - mean) * factor; None: on the features as they are.
    """

    slots: Sequence[tuple[Any, Any, Any, Any]]
    order: NDArray[np.int64]
    batch_size: int
    coefficients: NDArray[np.float64]
    mean: Any = None
    factor: float = 1.0

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Inputs, hidden units, classes."""
        w1, _, w2, _ = self.slots[0]
        return (*w1.shape, w2.shape[1])
