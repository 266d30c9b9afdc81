"""A clock of work: it stands still while kernels compile, which happens once and says nothing of the pace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local

BEGUN = time.monotonic() - time.process_time()  # for a command: about when its process began
_lock = Lock()
_compiled = 0.0
_compiling = 0  # how often at this moment
_compiling_since = 0.0
_here = local()


def work_seconds() -> float:
    """Seconds on a clock without a meaning of its own: differences count, and compiling does not."""
    with _lock:
        now = time.monotonic()
        return now - _compiled - (now - _compiling_since if _compiling else 0.0)


def compile_seconds() -> float:
    """Seconds that this process has compiled for."""
    return time.monotonic() - work_seconds()


def compiling_begins() -> None:
    """Stop the clock, unless this thread is `uncounted`; threads may compile at the same time."""
    global _compiling, _compiling_since  # noqa: PLW0603  (one clock for the process)
    if getattr(_here, "uncounted", False):
        return
    with _lock:
        if not _compiling:
            _compiling_since = time.monotonic()
        _compiling += 1


def compiling_ends() -> None:
    global _compiling, _compiled  # noqa: PLW0603
    if getattr(_here, "uncounted", False):
        return
    with _lock:
        if _compiling == 1:
            _compiled += time.monotonic() - _compiling_since
        _compiling = max(0, _compiling - 1)


@contextmanager
def compiling() -> Iterator[None]:
    """Within the block the clock stands still."""
    compiling_begins()
    try:
        yield
    finally:
        compiling_ends()


def uncounted() -> None:
    """From now on, this thread works beside those whose time is told: its compiling is none of that."""
    _here.uncounted = True
