"""How a fused epoch's network lies in memory: what each part owns, where it begins, the way there and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import EpochTask

from .backward import CHUNK, SQUARED, units_at_once
from .records import Activation, Buffers, Layer, Network, Owns
from .tile import LINE

Floats = NDArray[Any]
Range = tuple[int, int]  # the first one, and how many

SMALL = 1_000_000  # flops of a last layer's step, about 10 us: computing it in each part costs less than exchanging it


class Parts:
    """A task's network in parts, and what they need to compute up to `rows` rows at once.

    several: whether a batch may have several such pieces.
    """

    def __init__(self, task: EpochTask, count: int, rows: int, several: bool = False) -> None:
        self.sizes, self.dtype = task.sizes, task.slots[0][0][0].dtype
        self.line, self.height = LINE // self.dtype.itemsize, rows
        self.stride = self.line * (-(-rows // self.line) | 1)  # odd: else the lines of a column share a cache's sets
        self.owns = owners(self.sizes, count, task.batch_size)
        self._values, self._activations, self._widest = 0, 0, max(self.sizes[1:])
        self.layers = [list(self._layers_of(part, count)) for part in range(count)]
        slots = zeros((len(task.slots), self._values), self.dtype)
        gradients = zeros((self._values if several else 0,), self.dtype)
        table, segments = np.array(self.layers), np.array(segments_of(self.owns))
        activation = int(Activation[task.activation.upper()])
        self.network = Network(slots, gradients, table, segments, self.height, self.stride, activation)

    @classmethod
    def of(cls, task: EpochTask, count: int, rows: int, several: bool = False) -> Parts:
        """With the task's values, in the memory of its last epoch if that was of the same kind."""
        key = count, rows, several, task.batch_size
        parts = task.memory.get(key) or task.memory.setdefault(key, cls(task, count, rows, several))
        for ours, theirs in parts._pairs(task):
            ours[...] = theirs
        return parts

    def write_back(self, task: EpochTask) -> None:
        for ours, theirs in self._pairs(task):
            theirs[...] = ours

    @cached_property
    def exchange(self) -> Floats:
        """Twice what each part leaves for the others."""
        of_units = max(self.sizes[1:]) * self.stride
        of_inputs = max(map(self._whole, self.sizes[1:])) * self.height
        return zeros((2, len(self.layers), max(of_units, of_inputs)), self.dtype)

    @cached_property
    def own_buffers(self) -> Buffers:
        """Those of each part, along a leading axis."""
        return self.buffers(self.layers)

    def buffers(self, layers: Sequence[Sequence[Layer]]) -> Buffers:
        """Those of the parts with these layers, along a leading axis."""
        rows, widest = self._whole(self.height), self._whole(self._widest)
        at_once = [units_at_once(inputs, self.line) * inputs for inputs in map(self._whole, self.sizes[1:-1])]
        chunk = max(CHUNK * self.line, rows, *at_once)
        shapes = ((self._activations,), (4, rows), (3, max(widest, SQUARED * self.line)), (chunk,))
        floats = [zeros((len(layers), *shape[:-1], self._whole(shape[-1])), self.dtype) for shape in shapes]
        positions = np.zeros((len(layers), self._widest + sum(self.sizes[1:])), np.int64)
        for row, own in zip(positions, layers, strict=True):
            row[: self._widest] = np.arange(self._widest) * self.stride
            for layer in own:
                row[layer.rows : layer.rows + layer.units] = np.arange(layer.units) * layer.padded_inputs
        return Buffers._make([*floats, positions])

    def _layers_of(self, part: int, count: int) -> Iterator[Layer]:
        """A part's layers, and room for them among all values and its activations."""
        room, rows = 0, self._widest
        for number, (owns, (inputs, units)) in enumerate(zip(self.owns, pairwise(self.sizes), strict=True)):
            is_last = number == len(self.owns) - 1
            if owns == Owns.INPUTS:
                taken, given = self._share(inputs, part, count), (0, units)
            else:
                taken, given = (0, inputs), self._share(units, part, count) if owns == Owns.UNITS else (0, units)
            stored = self._whole(given[1]) * taken[1] if number == 0 else given[1] * self._whole(taken[1])
            columns = (units if is_last else given[1]) * self.stride
            panels = self._whole(given[1]) * self.height
            first_column = room + 2 * panels + given[0] * self.stride * is_last
            yield Layer(
                owns=owns,
                first_input=taken[0],
                inputs=taken[1],
                padded_inputs=self._whole(taken[1]),
                first_unit=given[0],
                units=given[1],
                padded_units=self._whole(given[1]),
                weights=self._values,
                biases=self._values + stored,
                has_biases=owns != Owns.INPUTS or part == 0,
                rows=rows,
                values=room,
                columns=first_column,
                deltas=room + panels,
                delta_columns=first_column if is_last else first_column + columns,
            )
            self._values += stored + self._whole(given[1])
            rows, room = rows + given[1], room + 2 * panels + (1 if is_last else 2) * columns
        self._activations = max(self._activations, room)

    def _share(self, width: int, part: int, count: int) -> Range:
        """The part's of so many units or inputs, in whole lines."""
        lines = -(-width // self.line)
        first, stop = (min(lines * each // count * self.line, width) for each in (part, part + 1))
        return first, stop - first

    def _whole(self, size: int) -> int:
        return -(-size // self.line) * self.line

    def _pairs(self, task: EpochTask) -> Iterator[tuple[Floats, Floats]]:
        """Views of the same weights, and biases, in the network and in the task."""
        for slot, layers in zip(self.network.slots, task.slots, strict=True):
            for own in self.layers:
                for number, (layer, (weight, bias)) in enumerate(zip(own, layers, strict=True)):
                    units = slice(layer.first_unit, layer.first_unit + layer.units)
                    theirs = weight[layer.first_input : layer.first_input + layer.inputs, units]
                    yield from self._weights(slot[layer.weights : layer.biases], layer, theirs, in_panels=number == 0)
                    if layer.has_biases:
                        yield slot[layer.biases : layer.biases + layer.units], bias[units]

    def _weights(
        self, stored: Floats, layer: Layer, theirs: Floats, in_panels: bool
    ) -> Iterator[tuple[Floats, Floats]]:
        if not in_panels:
            yield stored.reshape(layer.units, layer.padded_inputs)[:, : layer.inputs].T, theirs
            return
        panels, whole = stored.reshape(-1, layer.inputs, self.line), layer.units // self.line
        filled, rest = np.split(theirs, [whole * self.line], axis=1)
        yield panels[:whole].swapaxes(0, 1), filled.reshape(layer.inputs, whole, self.line)
        if rest.shape[1]:
            yield panels[whole][:, : rest.shape[1]], rest


def owners(sizes: Sequence[int], parts: int, batch_size: int) -> list[Owns]:
    """What the parts own of each layer, see `train_epoch`."""
    count = len(sizes) - 1
    if parts == 1:
        return [Owns.ALL] * count
    if count == 1:
        return [Owns.INPUTS]
    in_turn = [Owns.INPUTS if number % 2 else Owns.UNITS for number in range(count)]
    if in_turn[-1] == Owns.UNITS and 4 * batch_size * sizes[-2] * sizes[-1] <= SMALL:
        in_turn[-1] = Owns.ALL
    return in_turn


def segments_of(owns: Sequence[Owns]) -> list[int]:
    """Where a piece's way through the layers and back begins, is cut by exchanges, and ends.

    Of n layers, place k is forward through layer k, and place n + k is backward through layer n - 1 - k. The way of a
    single part is cut once, as if there were an exchange.
    """
    count = len(owns)
    forward = [k + 1 for k, own in enumerate(owns) if own == Owns.INPUTS or (own == Owns.UNITS and k == count - 1)]
    back = [2 * count - k for k, own in enumerate(owns) if own == Owns.UNITS and k > 0]
    return [0, *(forward or [count]), *reversed(back), 2 * count]


def zeros(shape: tuple[int, ...], dtype: Any) -> Floats:
    """Zeros that start at a cache line, so that no two threads write to one."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + LINE, np.uint8)
    offset = -memory.ctypes.data % LINE
    return memory[offset : offset + size].view(dtype).reshape(shape)
