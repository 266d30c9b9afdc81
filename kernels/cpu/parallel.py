"""Images of a batch shared out between threads.

A kernel treats each image alone, so the result does not depend on the number of threads; and it holds no GIL, so
ordinary threads run it at once, with no need of Numba's own threading layers, which differ from machine to machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

Kernel = Callable[..., None]

IMAGES_A_THREAD = 64  # fewer are not worth the 20 us that it takes to hand them to a thread
_setting = SimpleNamespace(threads=os.cpu_count() or 1)


def set_threads(threads: int) -> None:
    """Split batches between that many threads from now on, in this process."""
    _setting.threads = threads


def over_images(kernel: Kernel) -> Kernel:
    """The op that runs kernel(images (n, ...), parameters (n,)..., out (n, ...)) on a part of the images a thread.

    The kernel is given C-contiguous arrays only, whatever the op is given.
    """

    @wraps(kernel)
    def op(images: Any, *parameters_and_out: Any) -> None:
        *parameters, out = parameters_and_out
        target = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        _share_out(kernel, (read_only(np.ascontiguousarray(images)), *map(_owned, parameters), target))
        if target is not out:
            out[...] = target

    return op


def on_this_thread(op: Kernel) -> Kernel:
    """The kernel that the op runs on parts of the images; it takes C-contiguous arrays, the images `read_only`."""
    kernel: Kernel = op.__wrapped__  # type: ignore[attr-defined]  # which functools.wraps sets
    return kernel


def _share_out(kernel: Kernel, arguments: tuple[Any, ...]) -> None:
    n = len(arguments[0])
    parts = max(1, min(_setting.threads, n // IMAGES_A_THREAD))
    bounds = [n * part // parts for part in range(parts + 1)]
    shares = [_rows(arguments, *bounds[part : part + 2]) for part in range(parts)]
    others = [_pool(parts - 1).submit(kernel, *share) for share in shares[1:]]
    kernel(*shares[0])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="fastmlp")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has the pool, but not its threads


def _rows(arguments: tuple[Any, ...], start: int, stop: int) -> tuple[Any, ...]:
    return tuple(a[start:stop] if isinstance(a, np.ndarray) else a for a in arguments)


def read_only(images: Any) -> Any:
    """Inputs are read-only or not, and Numba compiles for each: make them all one kind."""
    view = images.view()
    view.flags.writeable = False
    return view


def _owned(parameter: Any) -> Any:
    """The same for parameters, which may also be one number broadcast: they are few, so copy."""
    return np.array(parameter) if isinstance(parameter, np.ndarray) else parameter
