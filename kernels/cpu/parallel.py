"""A batch's images distributed over threads: each is treated separately, so their number does not change the result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastmlp.common.environment import available_cores

from .workers import workers

Kernel = Callable[..., None]

IMAGES_PER_THREAD = 64  # fewer are not worth the 20 us of handing them to a thread
_setting = SimpleNamespace(threads=0)  # 0: all that the process may use, counted with the first work


def set_threads(threads: int) -> None:
    """Split batches between that many threads from now on, in this process."""
    _setting.threads = threads


def over_images(kernel: Kernel) -> Kernel:
    """The op that runs kernel(images, rows (m,), *arguments (m,), out) on a part of the rows per thread.

    The kernel always gets C-contiguous arrays, and writes only to those rows of out.
    """

    @wraps(kernel)
    def op(images: Any, rows: Any, *arguments_and_out: Any) -> None:
        *arguments, out = arguments_and_out
        target = np.ascontiguousarray(out)
        by_row = [_owned(array) for array in (rows, *arguments)]
        _share_out(kernel, _read_only(np.ascontiguousarray(images)), by_row, target)
        if target is not out:
            out[...] = target

    return op


def _share_out(kernel: Kernel, images: Any, by_row: list[Any], out: Any) -> None:
    count = len(by_row[0])
    threads = _setting.threads = _setting.threads or available_cores()
    parts = max(1, min(threads, count // IMAGES_PER_THREAD))
    bounds = [count * part // parts for part in range(parts + 1)]
    shares = [[array[slice(*bounds[part : part + 2])] for array in by_row] for part in range(parts)]
    others = [partial(kernel, images, *share, out) for share in shares[1:]]
    started = workers(threads).start(others)
    kernel(images, *shares[0], out)
    for future in started:
        future.result()


def _read_only(images: Any) -> Any:
    """A read-only view: otherwise Numba would compile once for writable and once for read-only arrays."""
    view = images.view()
    view.flags.writeable = False
    return view


def _owned(array: Any) -> Any:
    """A copy of the numbers per row, to the same end; they are few, and may be one number broadcast."""
    return np.array(array)
