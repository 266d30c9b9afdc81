"""The fused epoch's outputs other than softmax: each number by itself, with its own target.

With z the sums and t the target, prediction p, and loss:

    logistic       p = 1 / (1 + exp(-z))    -t log p - (1 - t) log(1 - p)
    identity       p = z                    (p - t)^2 / 2, over the number of outputs
    exponential    p = exp(z)               t log(t / p) - t + p

The gradient of all of them is p - t (of the squared error, that of its sum over outputs; see
`fastmlp.network.objective`).
"""

from __future__ import annotations

import numpy as np

from .exponential import logistic
from .jit import inlined, jit
from .records import COUNTS, NUMBERS, YES_OR_NO, Epoch, Floats, Layer, Piece, Totals


@jit
def outputs(
    epoch: Epoch, sums: Floats, layer: Layer, piece: Piece, stride: int, start: int, stop: int, totals: Totals
) -> None:
    """Add the losses of rows start to stop to the totals; the sums of the part's units become their gradient."""
    weighted = len(epoch.row_weights) > 0
    for q in range(epoch.classes):
        for i in range(start, stop):
            each = _loss(epoch, sums[q * stride + i], _target(epoch, piece, i, q))
            totals[0] += epoch.row_weights[piece.start + i] * each if weighted else each
    for q in range(layer.first_unit, layer.first_unit + layer.units):
        column = sums[q * stride : q * stride + piece.rows]
        _predict(epoch.output, column)
        for i in range(piece.rows):
            column[i] -= _target(epoch, piece, i, q)
            if weighted:
                column[i] *= epoch.row_weights[piece.start + i]


@inlined
def _predict(output: int, column: Floats) -> None:
    """Replace the sums of a unit by its predictions."""
    if output == YES_OR_NO:
        for i in range(len(column)):
            column[i] = logistic(column[i])  # type: ignore[no-untyped-call]
    elif output == COUNTS:
        for i in range(len(column)):
            column[i] = np.exp(column[i])


@inlined
def _target(epoch: Epoch, piece: Piece, row: int, unit: int) -> float:
    return epoch.targets[(piece.start + row) * epoch.classes + unit]


@inlined
def _loss(epoch: Epoch, z: float, target: float) -> float:
    if epoch.output == NUMBERS:
        return (z - target) * (z - target) / 2 / epoch.classes
    if epoch.output == COUNTS:
        p = np.exp(z)
        return (target * np.log(target / p) if target > 0 else 0.0) - target + p
    beyond = np.log1p(np.exp(-abs(z)))
    yes, no = (beyond, beyond + z) if z > 0 else (beyond - z, beyond)
    return target * clipped(yes, epoch.least) + (1 - target) * clipped(no, epoch.least)


@inlined
def clipped(loss: float, least: float) -> float:
    """-log p of a probability p that is taken between least and 1 - least; NaN stays."""
    lowest, highest = -np.log1p(-least), -np.log(least)
    return lowest if loss < lowest else min(loss, highest)
