"""Activations in two forms: columns (units, stride), unit by unit, and panels (units / line, height, line), row by row.

Each product reads the one whose lines it multiplies. What is here is compiled once, and not within its callers.
"""

from __future__ import annotations

from .exponential import logistic, tanh
from .jit import jit
from .records import LOGISTIC, RELU, TANH, Floats
from .tile import LINE


@jit
def to_columns(
    source: Floats, panels: int, height: int, out: Floats, columns: int, stride: int, units: int, m: int
) -> None:
    """Write m rows of those units, in panels from that place on, to out from columns on."""
    line = LINE // source.itemsize
    for unit in range(units):
        lane, place = unit % line, panels + (unit - unit % line) * height
        panel, column = source[place : place + m * line], out[columns + unit * stride : columns + unit * stride + m]
        for i in range(m):
            column[i] = panel[i * line + lane]


@jit
def to_panels(activations: Floats, columns: int, stride: int, panels: int, height: int, units: int, m: int) -> None:
    """The way back, within the activations."""
    line = LINE // activations.itemsize
    for unit in range(units):
        lane, place = unit % line, panels + (unit - unit % line) * height
        panel = activations[place : place + m * line]
        column = activations[columns + unit * stride : columns + unit * stride + m]
        for i in range(m):
            panel[i * line + lane] = column[i]


@jit
def activate(activation: int, columns: Floats, place: int, stride: int, units: int, m: int) -> None:
    zero = columns.dtype.type(0)
    for unit in range(units):
        column = columns[place + unit * stride : place + unit * stride + m]
        if activation == RELU:
            for i in range(m):
                column[i] = zero if column[i] < zero else column[i]  # noqa: FURB136  (NaN is not below zero, and stays)
        elif activation == LOGISTIC:
            for i in range(m):
                column[i] = logistic(column[i])  # type: ignore[no-untyped-call]
        elif activation == TANH:
            for i in range(m):
                column[i] = tanh(column[i])  # type: ignore[no-untyped-call]


@jit
def differentiate(activation: int, activations: Floats, deltas: int, values: int, count: int) -> None:
    """Times the derivative of the activation, given its values; products, so that NaN stays."""
    one = activations.dtype.type
    gradient, value = activations[deltas : deltas + count], activations[values : values + count]
    if activation == RELU:
        for k in range(count):
            gradient[k] *= one(value[k] > 0)
    elif activation == LOGISTIC:
        for k in range(count):
            gradient[k] *= value[k] * (one(1) - value[k])
    elif activation == TANH:
        for k in range(count):
            gradient[k] *= one(1) - value[k] * value[k]


@jit
def add_up(out: Floats, place: int, stride: int, arrived: Floats, apart: int, count: int, m: int) -> None:
    """m numbers at each of `count` places in out, `stride` apart = the sum of what all parts left there, in order.

    arrived (parts, ...): those of a place begin `apart` after those of the one before.
    """
    for number in range(count):
        total = out[place + number * stride : place + number * stride + m]
        for part in range(arrived.shape[0]):
            theirs = arrived[part, number * apart : number * apart + m]
            if part == 0:
                for i in range(m):
                    total[i] = theirs[i]
            else:
                for i in range(m):
                    total[i] += theirs[i]
