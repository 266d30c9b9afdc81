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

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import array_api_compat.numpy
import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.testing.compare import assert_equal

HostArray = NDArray[Any]
Shape = tuple[int, ...]

WITH_GAPS = ("strided", "transposed", "padded")
GUARD = 8  # rows before and after every array, but of long rows one
LONG = 4096  # elements
UNIT = 64  # elements: guards are multiples, so that an array begins at as even an address as its buffer


def guards(stored: Shape, further: int = 0) -> tuple[int, int]:
    """So many elements before and behind, and that array further on."""
    row = prod(stored[1:])
    guard = UNIT * max(-(-max(row, min(GUARD * row, LONG)) // UNIT), 1)
    return guard + further, guard


@dataclass(frozen=True)
class Layout:
    """How an array lies in a buffer.

    stored      `stored(shape)`: of the contiguous array that it is a view of
    view        `view(xp, stored, shape)` is the array of that shape in it
    around      `around(stored shape)`: how many elements the buffer has before and behind it
    contiguous  nothing lies between its elements, in their order: no kernel may refuse it
    """

    name: str
    stored: Callable[[Shape], Shape] = lambda shape: shape
    view: Callable[[Any, Array, Shape], Array] = lambda xp, stored, shape: stored
    around: Callable[[Shape], tuple[int, int]] = guards
    contiguous: bool = False


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("contiguous", contiguous=True),
        Layout("misaligned", around=lambda stored: guards(stored, further=1), contiguous=True),
        Layout("strided", lambda s: (*s[:-1], 2 * s[-1] + 1), lambda xp, stored, shape: stored[..., 1::2]),
        Layout("transposed", lambda s: (s[-1], *s[:-1]), lambda xp, stored, shape: stored.T),
        Layout("padded", lambda s: (*s[:-1], s[-1] + 3), lambda xp, stored, shape: stored[..., : shape[-1]]),
    )
}


def lies(layout: str, arrays: Iterable[str]) -> dict[str, str]:
    """How each of an op's arrays lies, by its name: "contiguous", "misaligned", or one of WITH_GAPS."""
    names = tuple(arrays)
    if layout == "misaligned":
        return dict.fromkeys(names, layout)
    if layout == "mixed":
        return {name: WITH_GAPS[k % len(WITH_GAPS)] for k, name in enumerate(names)}
    how, _, one = layout.partition(" ")
    return {name: how if name == one else "contiguous" for name in names}


def layout_of(how: str, shape: Shape) -> Layout:
    """By its name; only a matrix is transposed."""
    return LAYOUTS["strided" if how == "transposed" and len(shape) != 2 else how]


def full(count: int, values: HostArray) -> HostArray:
    """An array (count,) of those values in turn."""
    filled = np.empty(count, values.dtype)
    for k, value in enumerate(values):
        filled[k :: len(values)] = value
    return filled


class Placed:
    """An array on the device, laid out so amid poison: `array` is the view, of `content` or, without it, of poison."""

    def __init__(
        self,
        backend: Backend,
        shape: Shape,
        layout: Layout,
        poison: HostArray,
        content: HostArray | None,
        writable: bool,
    ) -> None:
        self._backend, self._shape, self._layout = backend, shape, layout
        stored = layout.stored(shape)
        first, behind = layout.around(stored)
        self._place = slice(first, first + prod(stored))
        self._before = full(self._place.stop + behind, poison)
        if content is not None:
            self._view(array_api_compat.numpy, self._before)[...] = content
        buffer = self._before.copy()
        buffer.flags.writeable = writable
        self._buffer = backend.asarray(buffer)
        self.array: Array = self._view(backend.xp, self._buffer)

    def read(self, written_outside: str) -> HostArray:
        """The array on the host, once what lies around it is found as it was; else AssertionError, which says that."""
        buffer = np.asarray(self._backend.to_numpy(self._buffer))
        outside = np.ones(buffer.shape, np.bool_)
        self._view(array_api_compat.numpy, outside)[...] = False
        assert_equal(written_outside, buffer[outside], self._before[outside])
        return self._view(array_api_compat.numpy, buffer)

    def assert_unchanged(self, changed: str, written_outside: str) -> None:
        """Neither the array nor what lies around it; else AssertionError, which says that."""
        before = self._view(array_api_compat.numpy, self._before)
        assert_equal(
            changed, self._view(array_api_compat.numpy, np.asarray(self._backend.to_numpy(self._buffer))), before
        )
        self.read(written_outside)

    def _view(self, xp: Any, buffer: Array) -> Array:
        stored = xp.reshape(buffer[self._place], self._layout.stored(self._shape))
        return self._layout.view(xp, stored, self._shape)
