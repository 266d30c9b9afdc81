"""Hand-written kernels: compiled code that a backend runs in place of an op's array code, or of a whole epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.ops.network import Rule


@dataclass(frozen=True)
class EpochTask:
    """One network with one hidden layer, and the epoch that a fused epoch trains it for, in place.

    slots: the values (w1 (d, h), b1 (h,), w2 (h, c), b2 (c,)), then each moment of the rule's, of the same shapes.
    order int64 (rows,): the rows to train on, in batches. coefficients float64 (steps, 1 + k): the rule's numbers for
    each step. mean (d,): train on (features - mean) * scale; None: on the features as they are.
    """

    slots: Sequence[tuple[Any, Any, Any, Any]]
    rule: Rule
    order: NDArray[np.int64]
    batch_size: int
    coefficients: NDArray[np.float64]
    mean: Any = None
    scale: float = 1.0

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Inputs, hidden units, classes."""
        w1, _, w2, _ = self.slots[0]
        return (*w1.shape, w2.shape[1])
