"""Small arrays sent to a GPU together: packed into pinned memory, by one copy that the host does not wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array

ALIGNED = 16  # bytes: as much as a kernel reads at once

Wait = Callable[[], object]


class Staging:
    """Host memory that each upload fills, once the previous one has been copied from it.

    pinned(count): that many bytes of host memory, uint8, from which copies are asynchronous. send(source): an array on
    the device, uint8, that the source's bytes will have arrived in before any later work there; and what waits until
    the source may be changed.
    """

    def __init__(
        self,
        pinned: Callable[[int], NDArray[np.uint8]],
        send: Callable[[NDArray[np.uint8]], tuple[Array, Wait]],
    ) -> None:
        self._pinned, self._send = pinned, send
        self._host: list[NDArray[np.uint8]] = []  # one, once there is any
        self._copied: Wait = bool
        self._lock = Lock()

    def place(self, arrays: Iterable[NDArray[Any]]) -> list[Array]:
        """The arrays on the device, views of one. Each is packed before the next one is asked for."""
        with self._lock:
            self._copied()
            packed, total = [], 0
            for array in arrays:
                place, end = slice(total, total + array.nbytes), total + -(-array.nbytes // ALIGNED) * ALIGNED
                self._room(end, total)[place].view(array.dtype)[...] = array.ravel()
                packed.append((place, array.dtype, array.shape))
                total = end
            copy, self._copied = self._send(self._room(total, total)[:total])
        return [copy[place].view(dtype).reshape(shape) for place, dtype, shape in packed]

    def _room(self, count: int, kept: int) -> NDArray[np.uint8]:
        """That many bytes, of which so many are kept where there has to be more memory."""
        if not self._host or self._host[0].size < count:
            larger = self._pinned(max(count, 2 * kept))
            if kept:
                larger[:kept] = self._host[0][:kept]
            self._host[:] = [larger]
        return self._host[0]

    def clear(self) -> None:
        """Let the host's memory go."""
        with self._lock:
            self._copied()
            self._host.clear()
