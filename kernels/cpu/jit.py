"""How every kernel is compiled: all flags are here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import extending, njit
from numba.core import event

from fastmlp.common.clock import compiling_begins, compiling_ends
from fastmlp.common.progress import say

FLAGS: dict[str, Any] = {
    "nogil": True,  # lets `parallel` run a kernel on several threads
    "error_model": "numpy",  # x / 0 is inf or NaN, as in array code, and costs no branch
    "fastmath": False,  # floats are added and rounded as written: NaN stays, and every CPU gives the same bits
}


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call with each combination of argument types; later processes load it from the cache."""
    try:
        kernel = njit(cache=True, **FLAGS)(function)
    except RuntimeError:  # no folder that Numba may write to: each process compiles for itself
        return njit(**FLAGS)(function)
    _renew_with_any_source(kernel)
    return kernel


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A part of kernels, compiled within each of them: LLVM would optimise a function of its own, and then once more
    with each of its callers.

    Numba drops writes to an array that such a part reaches as an attribute of the caller's own variable: records of
    arrays are the caller's arguments.
    """
    return njit(inline="always", **FLAGS)(function)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """LLVM code for jitted code to call, without the typing context that `function` takes first."""
    return extending.intrinsic(function)


class _Compiling(event.Listener):
    """Says once that kernels are being compiled, not loaded, and stops the clock of work meanwhile.

    Numba compiles under a lock of the process, and tells of a function's callees between its own start and end.
    """

    def __init__(self) -> None:
        self.depth, self.said = 0, False

    def on_start(self, event: Any) -> None:
        if self.depth or event.data["dispatcher"].py_func.__module__.startswith("fastmlp."):
            self.depth += 1
        if self.depth == 1:
            self._say_once(event.data["dispatcher"])
            compiling_begins()

    def on_end(self, event: Any) -> None:
        self.depth = max(0, self.depth - 1)
        if self.depth == 0:
            compiling_ends()

    def _say_once(self, kernel: Any) -> None:
        if not self.said:
            kept = " Later runs load them." if kernel.stats.cache_path else ""
            say(f"Compiling kernels for this machine.{kept}")
        self.said = True


event.register("numba:compile", _Compiling())


def _renew_with_any_source(kernel: Any) -> None:
    """Invalidate the cache of a kernel when any kernel's file changes; Numba looks only at the kernel's own.

    Kernels call one another, and the callee is compiled into the caller; Numba has no public API for that.
    """
    kept = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if kept is not None:
        kept._source_stamp = (kept._source_stamp, _sources())


@cache
def _sources() -> tuple[tuple[str, int, int], ...]:
    """Name, modification time and size of every kernel file."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


def is_compiled(kernel: Callable[..., Any]) -> bool:
    """False with NUMBA_DISABLE_JIT: the kernel is the plain function then."""
    return hasattr(kernel, "stats")


def cache_folder(kernel: Callable[..., Any]) -> str:
    """Where the compiled kernel is cached, or why it is not."""
    statistics = getattr(kernel, "stats", None)
    if statistics is None:
        return "none, NUMBA_DISABLE_JIT is set"
    return statistics.cache_path or "none, set NUMBA_CACHE_DIR to a folder you may write to"
