"""The fused epoch's way forward: from rows of features to a part's activations, or its contribution to an exchange."""

from __future__ import annotations

import numpy as np

from .jit import inlined, jit
from .panels import activate, add_up, to_columns, to_panels
from .records import INPUTS, RELU, SHIFT, UNITS, Buffers, Epoch, Floats, Integers, Layer, Network, Piece, layer_of
from .tile import LINE, rows_product

ROWS = 64  # that are multiplied at once
ONE_ROW = np.zeros(1, np.int64)  # a table of one position


@jit
def forward(
    network: Network, epoch: Epoch, own: Buffers, arrived: Floats, leaving: Floats, part: int, number: int, piece: Piece
) -> None:
    """One layer: from its inputs to its activations or, where other parts need them or add theirs, to `leaving`.

    arrived (parts, ...): what all parts left of the layer before, if it is one of those.
    """
    layer, m, height, stride = layer_of(network.layers, part, number), piece.rows, network.height, network.stride
    is_last = number == network.layers.shape[1] - 1
    leaves = layer.owns == INPUTS or (layer.owns == UNITS and is_last)
    out = leaving if leaves else own.activations
    place = layer.first_unit * stride if leaves else layer.columns
    if number == 0:
        _first_layer(network, epoch, own, layer, epoch.rows[piece.start :], m, not is_last)
        to_columns(own.activations, layer.values, height, out, place, stride, layer.units, m)
        if network.activation > RELU and not is_last:
            _activate(network, own, layer, m)
        return
    before = layer_of(network.layers, part, number - 1)
    if before.owns == INPUTS:
        add_up(own.activations, before.columns, stride, arrived, stride, before.units, m)
        _activate(network, own, before, m)
    _later_layer(network, own, layer, before, out, place, m)
    if not leaves and not is_last:
        _activate(network, own, layer, m)


@inlined
def _activate(network: Network, own: Buffers, layer: Layer, m: int) -> None:
    """A hidden layer's activations from its sums in columns; lanes of panels beyond its units stay zero."""
    activate(network.activation, own.activations, layer.columns, network.stride, layer.units, m)
    to_panels(own.activations, layer.columns, network.stride, layer.values, network.height, layer.units, m)


@inlined
def _first_layer(
    network: Network, epoch: Epoch, own: Buffers, layer: Layer, rows: Integers, m: int, is_hidden: bool
) -> None:
    """The part's values = X W + B, through ReLU in a hidden layer that has it; rows continue with the next piece's.

    Where X = (F - mean) * scale, the stored features F stay as they are: X W + B = scale (F W - shift) + B.
    """
    w, values, inputs = network.slots[0], own.activations, layer.inputs
    line, height = LINE // w.itemsize, network.height
    features, ahead = epoch.features[layer.first_input :], rows[m:]
    for i in range(0, m, ROWS):  # few enough to stay in cache from panel to panel
        count = min(ROWS, m - i)
        for unit in range(0, layer.padded_units, line):
            panel, place = layer.weights + unit * inputs, layer.values + unit * height + i * line
            rows_product(features, rows, i, count, inputs, w, panel, line, values, place, line, ahead, False)
    zero, scale, shift, bias = w.dtype.type(0), w.dtype.type(epoch.scale), own.of_units[SHIFT], w[layer.biases :]
    if len(epoch.mean) > 0:
        mean = epoch.mean[layer.first_input :]
        for unit in range(0, layer.padded_units, line):
            panel = layer.weights + unit * inputs
            rows_product(mean, ONE_ROW, 0, 1, inputs, w, panel, line, shift, unit, line, ONE_ROW, False)
    least = zero if is_hidden and network.activation == RELU else w.dtype.type(-np.inf)
    for unit in range(0, layer.padded_units, line):
        panel_shift, panel_bias = shift[unit : unit + line], bias[unit : unit + line]
        for i in range(m):
            place = layer.values + unit * height + i * line
            row = values[place : place + line]
            for j in range(line):
                z = scale * (row[j] - panel_shift[j]) + panel_bias[j]
                row[j] = least if z < least else z  # noqa: FURB136  (NaN is not below zero, and stays)


@inlined
def _later_layer(network: Network, own: Buffers, layer: Layer, before: Layer, out: Floats, place: int, m: int) -> None:
    """out (units, stride) from that place on = what the part adds to A W + B."""
    w, stride, positions = network.slots[0], network.stride, own.positions[layer.rows :]
    weights, line = w[layer.weights :], LINE // w.itemsize
    for i in range(0, m, line):
        rows_product(weights, positions, 0, layer.units, layer.inputs, own.activations, before.columns + i, stride,
                     out, place + i, stride, positions, False)  # fmt: skip
    for unit in range(layer.units if layer.has_biases else 0):
        bias, column = w[layer.biases + unit], out[place + unit * stride : place + unit * stride + m]
        for i in range(m):
            column[i] += bias
