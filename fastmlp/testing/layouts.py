"""How an op's arrays lie in memory: each is a view of a flat buffer whose other elements are poison.

contiguous     as they are made
misaligned     one element further on, so that no address is one of 16 bytes
mixed          none is contiguous: the first is "strided", the second "transposed", the third "padded", and so on
aliased        contiguous; outputs are the inputs whose memory they may share
misaligned x   x alone
strided x      of x every second column; "padded x": its rows have more columns, "transposed x": they are a view's
               columns (an array that is not a matrix is strided instead). All others are contiguous
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend

HostArray = NDArray[Any]
Shape = tuple[int, ...]

WITH_GAPS = ("strided", "transposed", "padded")
GUARD = 8  # rows before and after every array, but of long rows one
LONG = 4096  # elements
UNIT = 64  # elements: guards are multiples, so that an array begins at as even an address as its buffer


def lies(layout: str, arrays: Iterable[str]) -> dict[str, str]:
    """How each of an op's arrays lies, by its name: "contiguous", "misaligned", or one of WITH_GAPS."""
    names = tuple(arrays)
    if layout == "misaligned":
        return dict.fromkeys(names, layout)
    if layout == "mixed":
        return {name: WITH_GAPS[k % len(WITH_GAPS)] for k, name in enumerate(names)}
    how, _, one = layout.partition(" ")
    return {name: how if name == one else "contiguous" for name in names}


def full(count: int, values: HostArray) -> HostArray:
    """An array (count,) of those values in turn."""
    filled = np.empty(count, values.dtype)
    for k, value in enumerate(values):
        filled[k :: len(values)] = value
    return filled


class Placed:
    """An array on the device, amid poison: `array` is the view, of `content` or, without it, full of the poison."""

    def __init__(
        self, backend: Backend, shape: Shape, how: str, poison: HostArray, content: HostArray | None, writable: bool
    ) -> None:
        self._backend, self.shape = backend, shape
        self.how = "strided" if how == "transposed" and len(shape) != 2 else how
        self._before = full(self._room(), poison)
        if content is not None:
            self._view(np, self._before)[...] = content
        buffer = self._before.copy()
        buffer.flags.writeable = writable
        self._buffer = backend.asarray(buffer)
        self.array: Array = self._view(backend.xp, self._buffer)

    def read(self) -> HostArray:
        """The array on the host."""
        return self._view(np, self._backend.to_numpy(self._buffer))

    def around(self) -> tuple[HostArray, HostArray]:
        """The elements of the buffer that are not of the array: now, and before the op."""
        outside = np.ones(self._room(), np.bool_)
        self._view(np, outside)[...] = False
        return self._backend.to_numpy(self._buffer)[outside], self._before[outside]

    @property
    def _stored(self) -> Shape:
        """The contiguous array that the view is taken of."""
        *rows, columns = self.shape
        by_how = {"strided": (*rows, 2 * columns + 1), "padded": (*rows, columns + 3), "transposed": (columns, *rows)}
        return by_how.get(self.how, self.shape)

    @property
    def _guard(self) -> int:
        row = prod(self._stored[1:])
        return UNIT * max(-(-max(row, min(GUARD * row, LONG)) // UNIT), 1)

    def _room(self) -> int:
        return 2 * self._guard + prod(self._stored) + (self.how == "misaligned")

    def _view(self, xp: Any, buffer: Array) -> Array:
        first = self._guard + (self.how == "misaligned")
        stored = xp.reshape(buffer[first : first + prod(self._stored)], self._stored)
        if self.how == "strided":
            return stored[..., 1::2]
        if self.how == "padded":
            return stored[..., : self.shape[-1]]
        return stored.T if self.how == "transposed" else stored
