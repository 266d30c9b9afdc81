"""Images as they may lie in memory: at any byte, in another order, or with gaps between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_compat.numpy
import numpy as np

from fastmlp.backends.base import Array, Backend
from fastmlp.testing.compare import HostArray, assert_equal
from fastmlp.testing.op_case import Shape, size

BEHIND = 16  # elements after what starts anywhere


@dataclass(frozen=True)
class Layout:
    """How an array lies in the memory of another, its base.

    base        the shape of the base, for a shape
    view        `view(xp, base, shape)` is the array of that shape in it
    contiguous  nothing lies between its elements, in their order: no kernel may refuse it
    """

    name: str
    base: Callable[[Shape], Shape]
    view: Callable[[Any, Array, Shape], Array]
    contiguous: bool = False


def starting_at(start: int, behind: int = BEHIND) -> Layout:
    """Contiguous, so many elements behind where memory is aligned; with none behind it, what reads on leaves memory."""
    return Layout(
        f"starting at {start}",
        lambda shape: (start + size(shape) + behind,),
        lambda xp, base, shape: xp.reshape(base[start : start + size(shape)], shape),
        contiguous=True,
    )


WITH_GAPS = (
    Layout("every second column", lambda s: (*s[:-1], 2 * s[-1]), lambda xp, base, shape: base[..., ::2]),
    Layout("of wider images", lambda s: (*s[:-1], s[-1] + 5), lambda xp, base, shape: base[..., 1 : shape[-1] + 1]),
    Layout("every second image", lambda s: (2 * s[0], *s[1:]), lambda xp, base, shape: base[::2, ...]),
    Layout(
        "columns first",
        lambda s: (*s[:2], s[3], s[2]),
        lambda xp, base, shape: xp.permute_dims(base, (0, 1, 3, 2)),
    ),
    Layout(
        "channels last",
        lambda s: (s[0], *s[2:], s[1]),
        lambda xp, base, shape: xp.permute_dims(base, (0, 3, 1, 2)),
    ),
)


class PlacedImages:
    """An array on the device, laid out so, in memory that is full of poison besides."""

    def __init__(self, backend: Backend, layout: Layout, content: HostArray, poison: float) -> None:
        self._backend, self._layout, self._shape, self._poison = backend, layout, content.shape, poison
        self._before = np.full(layout.base(content.shape), poison, content.dtype)
        self._on_host(self._before)[...] = content
        self._base = backend.asarray(self._before.copy())
        self.array: Array = layout.view(backend.xp, self._base, content.shape)

    def assert_unchanged(self, what: str) -> None:
        assert_equal(what, np.asarray(self._backend.to_numpy(self._base)), self._before)

    def read(self, what: str) -> HostArray:
        """The array on the host, once the memory around it is found as it was."""
        base = np.array(self._backend.to_numpy(self._base))
        content = self._on_host(base).copy()
        self._on_host(base)[...] = self._poison
        assert_equal(f"{what}: written outside", base, np.full_like(base, self._poison))
        return content

    def _on_host(self, base: HostArray) -> HostArray:
        view: HostArray = self._layout.view(array_api_compat.numpy, base, self._shape)
        return view
