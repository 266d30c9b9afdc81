"""The one way a kernel is compiled: every flag stands here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

FLAGS: dict[str, Any] = {
    "nogil": True,  # lets `parallel` run a kernel on several threads
    "error_model": "numpy",  # x / 0 is inf or NaN, as in array code, and costs no branch
    "fastmath": False,  # floats are added and rounded as written: NaN stays, and every CPU gives the same bits
}


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call with arguments of each new kind; later processes load that from the cache."""
    try:
        return njit(cache=True, **FLAGS)(function)
    except RuntimeError:  # no folder that Numba may write to: each process compiles for itself
        return njit(**FLAGS)(function)


def cache_folder(kernel: Callable[..., Any]) -> str:
    """Where the compiled kernel is kept, or why it is not."""
    statistics = getattr(kernel, "stats", None)
    if statistics is None:
        return "none, NUMBA_DISABLE_JIT is set"
    return statistics.cache_path or "none, set NUMBA_CACHE_DIR to a folder you may write to"
