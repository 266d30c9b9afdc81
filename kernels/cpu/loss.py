"""The fused epoch's turn: from the last sums to the loss and the hits, and to the gradient that goes backward."""

from __future__ import annotations

import numpy as np

from .exponential import exponential
from .jit import inlined, jit
from .outputs import clipped, outputs
from .panels import add_up
from .records import (
    ALL,
    FIRST,
    INPUTS,
    LARGEST,
    SOFTMAX,
    SPREAD,
    TOTAL,
    Buffers,
    Epoch,
    Floats,
    Layer,
    Network,
    Piece,
    Totals,
    layer_of,
)


@jit
def loss(
    network: Network, epoch: Epoch, own: Buffers, arrived: Floats, part: int, piece: Piece, totals: Totals
) -> None:
    """Add loss and hits of the part's share of the rows to the totals; its units' sums become their gradient.

    With softmax, a row's loss is its weight times the cross-entropy of softmax(Z) with (1 - smoothing) Y + smoothing /
    c.
    """
    number = network.layers.shape[1] - 1
    layer, m, stride = layer_of(network.layers, part, number), piece.rows, network.stride
    logits = own.activations[layer.columns - layer.first_unit * stride :]
    _receive_logits(network, logits, layer, number, arrived, m)
    parts = network.layers.shape[0]
    start, stop = m * part // parts, m * (part + 1) // parts
    if epoch.output != SOFTMAX:
        outputs(epoch, logits, layer, piece, stride, start, stop, totals)
        return
    _largest(logits, own, epoch.classes, stride, m)
    _add_loss(epoch, logits, own, piece, stride, start, stop, totals)
    _gradient(epoch, logits, own, layer, piece, stride)


@inlined
def _receive_logits(network: Network, logits: Floats, layer: Layer, number: int, arrived: Floats, m: int) -> None:
    """logits (c, stride) = Z: the sum of all parts' contributions in order, or each part's classes side by side."""
    stride = network.stride
    if layer.owns == INPUTS:
        add_up(logits, 0, stride, arrived, stride, layer.units, m)
    elif layer.owns != ALL:
        for other in range(arrived.shape[0]):
            theirs = layer_of(network.layers, other, number)
            for q in range(theirs.first_unit, theirs.first_unit + theirs.units):
                for i in range(m):
                    logits[q * stride + i] = arrived[other, q * stride + i]


@inlined
def _largest(logits: Floats, own: Buffers, classes: int, stride: int, m: int) -> None:
    """LARGEST and FIRST of each row."""
    largest, first = own.of_rows[LARGEST], own.of_rows[FIRST]
    for i in range(m):
        largest[i], first[i] = logits[i], 0
    for q in range(1, classes):
        z, number = logits[q * stride : q * stride + m], first.dtype.type(q)
        for i in range(m):
            higher = z[i] > largest[i] or z[i] != z[i]  # NaN, once there, stays
            first[i] = number if higher else first[i]
            largest[i] = z[i] if higher else largest[i]


@inlined
def _exponentials(epoch: Epoch, logits: Floats, own: Buffers, stride: int, m: int) -> None:
    """Replace Z by exp(Z - max Z); TOTAL and, if labels are smoothed, SPREAD those of Z - max Z."""
    total, spread, largest = own.of_rows[TOTAL], own.of_rows[SPREAD], own.of_rows[LARGEST]
    classes = epoch.classes
    if epoch.smoothing > 0:
        for i in range(m):
            spread[i] = 0
        for q in range(classes):
            z = logits[q * stride : q * stride + m]
            for i in range(m):
                spread[i] += z[i] - largest[i]
    for i in range(m):
        total[i] = 0
    for q in range(classes):
        values = logits[q * stride : q * stride + m]
        for i in range(m):
            values[i] = exponential(values[i] - largest[i])  # type: ignore[no-untyped-call]
            total[i] += values[i]


@inlined
def _add_loss(
    epoch: Epoch, logits: Floats, own: Buffers, piece: Piece, stride: int, start: int, stop: int, totals: Totals
) -> None:
    """Add loss and hits of rows start to stop to the totals, from Z, which the exponentials then replace."""
    labels, at_label, each, hits = epoch.labels[piece.start :], own.chunk, 0.0, 0
    largest, first, total, spread = own.of_rows[LARGEST], own.of_rows[FIRST], own.of_rows[TOTAL], own.of_rows[SPREAD]
    for i in range(start, stop):
        at_label[i] = largest[i] - logits[labels[i] * stride + i]
        hits += first[i] == labels[i] and largest[i] == largest[i]  # NaN is not equal to itself
    _exponentials(epoch, logits, own, stride, piece.rows)
    loss, smoothing, weighted = 0.0, epoch.smoothing, len(epoch.row_weights) > 0
    for i in range(start, stop):
        each = at_label[i]
        if smoothing > 0:
            each = (1 - smoothing) * each - smoothing / epoch.classes * spread[i]
        each += np.log(total[i])
        if epoch.least > 0:
            each = clipped(each, epoch.least)
        loss += epoch.row_weights[piece.start + i] * each if weighted else each
    totals[0] += loss
    totals[1] += hits


@inlined
def _gradient(epoch: Epoch, values: Floats, own: Buffers, layer: Layer, piece: Piece, stride: int) -> None:
    """Replace the exponentials of the part's classes by the gradient: the weight times softmax(Z) - the target."""
    number, m, first, stop = values.dtype.type, piece.rows, layer.first_unit, layer.first_unit + layer.units
    total = own.of_rows[TOTAL]
    everywhere, at_label = number(epoch.smoothing / epoch.classes), number(1 - epoch.smoothing)
    for q in range(first, stop):
        gradient = values[q * stride : q * stride + m]
        for i in range(m):
            gradient[i] /= total[i]
        if epoch.smoothing > 0:
            for i in range(m):
                gradient[i] -= everywhere
    for i in range(m):
        label = epoch.labels[piece.start + i]
        if first <= label < stop:
            values[label * stride + i] -= at_label
    if len(epoch.row_weights) > 0:
        weights = epoch.row_weights[piece.start :]
        for q in range(first, stop):
            gradient = values[q * stride : q * stride + m]
            for i in range(m):
                gradient[i] *= weights[i]
