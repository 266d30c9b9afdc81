"""Hand-written kernels: compiled code that a backend runs in place of an op's array code, or of a whole epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp.ops.network import Rule

Layers = Sequence[tuple[Any, Any]]  # the weights (k, n) and biases (n,) of each


@dataclass(frozen=True)
class EpochKind:
    """What a backend must know of networks and their epochs to say whether it fuses these, and how.

    weighted: rows have different weights; smoothing, activation, output and penalized: as `EpochTask` has them.
    networks: how many are to train together.
    """

    sizes: tuple[int, ...]
    dtype: str
    batch_size: int
    optimizer: Rule
    weighted: bool = False
    smoothing: float = 0.0
    activation: str = "relu"
    output: str = "softmax"
    penalized: bool = False
    networks: int = 1

    @property
    def is_papers(self) -> bool:
        """Whether it is ReLU, softmax and cross-entropy without a penalty."""
        return (self.activation, self.output, self.penalized) == ("relu", "softmax", False)


@dataclass(frozen=True)
class EpochTask:
    """One network, and the epoch that a fused epoch trains it for, in place.

    slots: the values, then each moment of the rule's, of the same shapes; each has every layer's weights (k, n) and
    biases (n,). order int64 (rows,): the rows to train on, in batches. coefficients float64 (steps, 1 + k): the rule's
    numbers for each step. mean (d,): train on (features - mean) * scale; None: on the features as they are.
    row_weights (n,): of each row's loss, of mean 1; None: all weigh the same. smoothing: the share of a row's target
    that is spread over all classes, (1 - smoothing) Y + smoothing / c. Evaluation knows neither of the two.

    activation of hidden layers: identity, relu, logistic or tanh. output: softmax, of labels int64 (n,), or, of targets
    (n, outputs) of the network's dtype, logistic, identity or exponential, with the losses of
    `fastmlp.network.objective`. least: losses take probabilities between that and 1 - least. penalties float64
    (steps,): of a batch's summed loss, penalty / 2 times the sum of the squared weights; None: 0.

    memory: where a backend may keep, from epoch to epoch of this network, what it has laid out; the values are always
    those of the slots.
    """

    slots: Sequence[Layers]
    rule: Rule
    order: NDArray[np.int64]
    batch_size: int
    coefficients: NDArray[np.float64]
    mean: Any = None
    scale: float = 1.0
    row_weights: Any = None
    smoothing: float = 0.0
    activation: str = "relu"
    output: str = "softmax"
    least: float = 0.0
    penalties: NDArray[np.float64] | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, the hidden units of each hidden layer, classes."""
        layers = self.slots[0]
        return (layers[0][0].shape[0], *(weight.shape[1] for weight, _ in layers))


class Halves(IntEnum):
    """How numbers of 16 bits are stored."""

    NONE = 0  # they are of more bits
    FLOAT16 = 1
    BFLOAT16 = 2


class RowSource(NamedTuple):
    """Rows of numbers in open files: descriptors int32 (f,), where the first row of each begins int64 (f,), and stops.

    stops int64 (f,): of the rows that are asked for, one behind those of each file. row_bytes: of every row. halves:
    one of `Halves`. gap: two rows no further apart are read by one call, with those between them.
    """

    files: NDArray[np.int32]
    offsets: NDArray[np.int64]
    stops: NDArray[np.int64]
    row_bytes: int
    halves: int
    gap: int
