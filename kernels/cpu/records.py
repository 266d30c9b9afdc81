"""What compiled code is told of a network, of how it is cut into parts, and of the epoch that it is trained for.

Positions and sizes are in numbers, not bytes. A line is a cache line: 16 float32 or 8 float64.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .optimizers import AnyRule

Floats = NDArray[Any]
Integers = NDArray[np.int64]
Totals = NDArray[np.float64]  # (2,): the summed loss and the hits


class Owns(IntEnum):
    """What a part owns of a layer, and so which of its weights: see `train_epoch`."""

    ALL = 0
    UNITS = 1
    INPUTS = 2


class Activation(IntEnum):
    """Of hidden layers."""

    IDENTITY = 0
    RELU = 1
    LOGISTIC = 2
    TANH = 3


class Output(IntEnum):
    """What the last layer's sums become, and so which loss they have: see `loss` and `outputs`."""

    SOFTMAX = 0
    LOGISTIC = 1
    IDENTITY = 2
    EXPONENTIAL = 3


# As compiled code takes them.
ALL, UNITS, INPUTS = (int(owns) for owns in Owns)
IDENTITY, RELU, LOGISTIC, TANH = (int(activation) for activation in Activation)
SOFTMAX, YES_OR_NO, NUMBERS, COUNTS = (int(output) for output in Output)


class Network(NamedTuple):
    """All parts of a network.

    slots (1 + moments, n): the value, then each moment, of every part's layers, one after another. gradients (n,): a
    batch's, as far as its pieces have been; (0,) where each batch is one piece. layers (parts, layers, fields): of each
    part its `Layer`s. segments: what a part does between two exchanges, see `train_epoch`. height: rows of a panel of
    activations; stride: of activations unit by unit. activation: that of hidden layers.
    """

    slots: Floats
    gradients: Floats
    layers: Integers
    segments: Integers
    height: int
    stride: int
    activation: int


class Layer(NamedTuple):
    """A part's share of a layer: weights (inputs, units) of its own.

    padded_inputs, padded_units: in whole lines. weights, biases: where they are in the slots; has_biases: 0 in parts
    whose contribution the biases of another part go with. rows: where in the table of positions its weights' begin.

    Where its outputs are among the part's activations: values, the sums or what the activation makes of them, in panels
    (units / line, height, line); columns, the same unit by unit (units, stride); deltas and delta_columns, the
    gradients of the sums.
    """

    owns: int
    first_input: int
    inputs: int
    padded_inputs: int
    first_unit: int
    units: int
    padded_units: int
    weights: int
    biases: int
    has_biases: int
    rows: int
    values: int
    columns: int
    deltas: int
    delta_columns: int


class Epoch(NamedTuple):
    """One network's pass over rows (n,), positions of the samples in `features` (flat), in that order.

    It takes (features - mean (inputs,)) * scale or, with an empty mean, the features as they are. labels (n,) if the
    output is softmax, else targets (n * outputs,), and row_weights (n,), those of the losses, are in that order too;
    no row_weights: all 1. least: see `EpochTask`. pieces (count, fields): see `Piece`.
    """

    features: Floats
    rows: Integers
    labels: Integers
    targets: Floats
    output: int
    least: float
    row_weights: Floats
    smoothing: float
    pieces: Integers
    classes: int
    mean: Floats
    scale: float


class Piece(NamedTuple):
    """Rows that are computed together: a batch, or a part of one. step: the batch's number; batch: its rows.

    begins, ends: whether it is the first piece of its batch, and the last.
    """

    step: int
    start: int
    rows: int
    batch: int
    begins: int
    ends: int


class Updates(NamedTuple):
    """The optimizer, and each step's coefficients (steps, 1 + k): first the share of a weight that decay leaves.

    penalties (steps,): those of `EpochTask`, or (0,).
    """

    rule: AnyRule
    coefficients: NDArray[np.float64]
    penalties: NDArray[np.float64]


class Team(NamedTuple):
    """exchange (2, parts, ...): what each part leaves for the others; counters of `team`; pace of `pace`."""

    exchange: Floats
    counters: Integers
    pace: Integers


class Buffers(NamedTuple):
    """What a part needs for a piece; as an argument for all parts, each has a leading axis of them."""

    activations: Floats  # see `Layer`; unit by unit, so that loops over the rows vectorise, and in panels
    of_rows: Floats  # (4, m): see LARGEST and so on
    of_units: Floats  # (3, n): see SHIFT, SUM and SQUARES
    chunk: Floats  # a part of a gradient
    positions: Integers  # where each unit's columns begin; from a layer's `rows` on, where its weights do


LARGEST, FIRST, TOTAL, SPREAD = range(4)  # its largest logit, that one's class, sums of exponentials and of logits
SHIFT, SUM, SQUARES = range(3)  # mean W1, where features are standardised; a gradient's sum over rows; W^2, in lanes


@jit
def layer_of(layers: Integers, part: int, number: int) -> Layer:
    r = layers[part, number]
    return Layer(r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14])


@jit
def piece_of(pieces: Integers, number: int) -> Piece:
    r = pieces[number]
    return Piece(r[0], r[1], r[2], r[3], r[4], r[5])


@jit
def buffers_of(buffers: Buffers, part: int) -> Buffers:
    return Buffers(
        buffers.activations[part],
        buffers.of_rows[part],
        buffers.of_units[part],
        buffers.chunk[part],
        buffers.positions[part],
    )
