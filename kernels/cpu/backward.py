"""The fused epoch's way back: from the gradient of a layer's sums to that of its inputs, and to the layer's step."""

from __future__ import annotations

from .jit import inlined, jit
from .optimizers import take_step
from .panels import add_up, differentiate, to_columns, to_panels
from .records import (
    ALL,
    SQUARES,
    SUM,
    UNITS,
    Buffers,
    Epoch,
    Floats,
    Integers,
    Layer,
    Network,
    Piece,
    Totals,
    Updates,
    layer_of,
)
from .tile import LINE, depth_product, rows_product

CHUNK = 128  # lines of a gradient that are computed and applied at once, so that both stay in the nearest caches
SQUARED = 4  # lines of weights whose squares add up side by side, so that no sum waits for another


@jit
def backward(
    network: Network, epoch: Epoch, updates: Updates, own: Buffers, arrived: Floats, leaving: Floats, part: int,
    number: int, piece: Piece, totals: Totals,
) -> None:  # fmt: skip
    """One layer: the gradient of its inputs or, where other parts add to that, what to leave; then the layer's step.

    Adds the penalty of the weights before that step to the totals.
    arrived (parts, ...): what all parts left of this layer's gradient, if the layer behind it is one of those.
    """
    layer, m, height, stride = layer_of(network.layers, part, number), piece.rows, network.height, network.stride
    activations, count = own.activations, network.layers.shape[1]
    line = LINE // activations.itemsize
    if number < count - 1 and layer_of(network.layers, part, number + 1).owns == UNITS:
        panel, panels = height * line, layer.padded_units // line
        add_up(activations, layer.deltas, panel, arrived, panel, panels, m * line)
        differentiate(network.activation, activations, layer.deltas, layer.values, height * layer.padded_units)
        to_columns(activations, layer.deltas, height, activations, layer.delta_columns, stride, layer.units, m)
    if number == 0:
        if count == 1:
            to_panels(activations, layer.delta_columns, stride, layer.deltas, height, layer.units, m)
        totals[0] += _update_first(network, epoch, updates, own, layer, epoch.rows[piece.start :], piece)
        return
    before = layer_of(network.layers, part, number - 1)
    if layer.owns == UNITS:
        _input_deltas(network, own, layer, leaving, 0, m)
    else:
        _input_deltas(network, own, layer, activations, before.deltas, m)
        differentiate(network.activation, activations, before.deltas, before.values, height * before.padded_units)
        if number > 1:
            to_columns(activations, before.deltas, height, activations, before.delta_columns, stride, before.units, m)
    penalty = _update_later(network, updates, own, layer, before, piece)
    if layer.owns != ALL or part == 0:  # every part has such a layer
        totals[0] += penalty


@inlined
def _input_deltas(network: Network, own: Buffers, layer: Layer, out: Floats, place: int, m: int) -> None:
    """out (panels of inputs) from that place on = G W', G being the gradient of the part's sums."""
    w, line, height = network.slots[0], LINE // own.activations.itemsize, network.height
    deltas = own.activations[layer.delta_columns :]
    for k in range(0, layer.padded_inputs, line):
        depth_product(deltas, own.positions, 0, m, layer.units, w, layer.weights + k, layer.padded_inputs, out,
                      place + k * height, line, own.positions, False)  # fmt: skip


# Steps.


@jit
def _step_weights(
    network: Network, updates: Updates, own: Buffers, piece: Piece, start: int, count: int, sums: Floats
) -> float:
    """Step weights [start : start + count], given sums[:count] over the piece's rows; their penalty."""
    gradient, penalty = _summed(network, piece, start, count, sums), 0.0
    if piece.ends and len(updates.penalties) > 0:
        values = network.slots[0, start : start + count]
        penalty = _penalize(values, gradient, updates.penalties[piece.step], own.of_units[SQUARES])
    _step(network, updates, piece, start, count, gradient, True)
    return penalty


@inlined
def _step_biases(network: Network, updates: Updates, piece: Piece, start: int, count: int, sums: Floats) -> None:
    gradient = _summed(network, piece, start, count, sums)
    _step(network, updates, piece, start, count, gradient, False)


@jit
def _step(
    network: Network, updates: Updates, piece: Piece, start: int, count: int, gradient: Floats, decays: bool
) -> None:
    """Once the gradient has been summed over the whole batch."""
    if piece.ends:
        row = updates.coefficients[piece.step]
        kept = row[0] if decays else 1.0
        take_step(updates.rule, network.slots, start, count, gradient, 1 / piece.batch, row[1:], kept)


@inlined
def _summed(network: Network, piece: Piece, start: int, count: int, sums: Floats) -> Floats:
    """The sums over all of the batch's rows so far."""
    if piece.begins and piece.ends:
        return sums
    gradient = network.gradients[start : start + count]
    for k in range(count):
        gradient[k] = sums[k] if piece.begins else gradient[k] + sums[k]
    return gradient


@inlined
def _penalize(values: Floats, gradient: Floats, penalty: float, squares: Floats) -> float:
    """Add penalty * values to the gradient; penalty / 2 times the sum of their squares."""
    factor, lanes, total = values.dtype.type(penalty), SQUARED * (LINE // values.itemsize), 0.0
    for lane in range(lanes):
        squares[lane] = 0
    for first in range(0, len(values), lanes):
        some, increased = values[first : first + lanes], gradient[first : first + lanes]
        for lane in range(len(some)):
            increased[lane] += factor * some[lane]
            squares[lane] += some[lane] * some[lane]
    for lane in range(lanes):
        total += squares[lane]
    return penalty / 2 * total


@jit
def units_at_once(inputs: int, line: int) -> int:
    """Of how many of a layer's units the gradient is computed and applied at once."""
    return max(CHUNK * line // max(inputs, 1), 8)


@inlined
def _update_later(network: Network, updates: Updates, own: Buffers, layer: Layer, before: Layer, piece: Piece) -> float:
    """A' G of the part's weights, and the sums of G; the penalty of the weights."""
    activations, stride, m = own.activations, network.stride, piece.rows
    line, inputs = LINE // activations.itemsize, layer.padded_inputs
    deltas, at_once, penalty = activations[layer.delta_columns :], units_at_once(inputs, line), 0.0
    for unit in range(0, layer.units, at_once):
        count = min(at_once, layer.units - unit)
        for k in range(0, inputs, line):
            rows_product(deltas, own.positions, unit, count, m, activations, before.values + k * network.height, line,
                         own.chunk, k, inputs, own.positions, False)  # fmt: skip
        place = layer.weights + unit * inputs
        penalty += _step_weights(network, updates, own, piece, place, count * inputs, own.chunk)
    if layer.has_biases:
        sums = own.of_units[SUM]
        for unit in range(layer.units):
            sums[unit] = 0
        for first in range(0, layer.units, line):  # of few units, whose sums need not wait for one another
            for i in range(m):
                for unit in range(first, min(first + line, layer.units)):
                    sums[unit] += deltas[unit * stride + i]
        _step_biases(network, updates, piece, layer.biases, layer.units, sums)
    return penalty


@inlined
def _update_first(
    network: Network, epoch: Epoch, updates: Updates, own: Buffers, layer: Layer, rows: Integers, piece: Piece
) -> float:
    """X' G of the part's weights, and the sums of G; the penalty of the weights."""
    activations, m, inputs, penalty = own.activations, piece.rows, layer.inputs, 0.0
    line, height = LINE // activations.itemsize, network.height
    sums = own.of_units[SUM]
    for unit in range(layer.padded_units):
        sums[unit] = 0
    for unit in range(0, layer.padded_units, line):
        place, panel_sums = layer.deltas + unit * height, sums[unit : unit + line]
        for i in range(m):
            row = activations[place + i * line : place + (i + 1) * line]
            for j in range(line):
                panel_sums[j] += row[j]
    features = epoch.features[layer.first_input :]
    for k in range(0, inputs, CHUNK):
        count = min(CHUNK, inputs - k)
        for unit in range(0, layer.padded_units, line):
            depth_product(features, rows, k, count, m, activations, layer.deltas + unit * height, line, own.chunk, 0,
                          line, rows, False)  # fmt: skip
            if len(epoch.mean) > 0:
                _standardize(epoch, own.chunk, layer.first_input + k, count, sums[unit : unit + line])
            place = layer.weights + unit * inputs + k * line
            penalty += _step_weights(network, updates, own, piece, place, count * line, own.chunk)
    if layer.has_biases:
        _step_biases(network, updates, piece, layer.biases, layer.padded_units, sums)
    return penalty


@inlined
def _standardize(epoch: Epoch, chunk: Floats, start: int, count: int, sums: Floats) -> None:
    """X' G from F' G in the chunk (count, line), for inputs from start on: scale (F' G - mean sum(G))."""
    line, scale = len(sums), chunk.dtype.type(epoch.scale)
    for k in range(count):
        row, mean = chunk[k * line : (k + 1) * line], epoch.mean[start + k]
        for j in range(line):
            row[j] = scale * (row[j] - mean * sums[j])
