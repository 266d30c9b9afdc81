"""A clock of work: it stands still while kernels compile, which happens once and says nothing of the pace."""

import time
from threading import Lock

BEGUN = time.monotonic() - time.process_time()  # for a command: about when its process began
_lock = Lock()
_compiled = 0.0
_compiling_since: float | None = None


def work_seconds() -> float:
    """Seconds on a clock without a meaning of its own: differences count, and compiling does not."""
    with _lock:
        now = time.monotonic()
        return now - _compiled - (0.0 if _compiling_since is None else now - _compiling_since)


def compile_seconds() -> float:
    """Seconds that this process has compiled for."""
    return time.monotonic() - work_seconds()


def compiling_begins() -> None:
    """Stop the clock. One thread compiles at a time: no call may come before the last one's `compiling_ends`."""
    global _compiling_since  # noqa: PLW0603  (one clock for the process)
    with _lock:
        _compiling_since = time.monotonic()


def compiling_ends() -> None:
    global _compiled, _compiling_since  # noqa: PLW0603
    with _lock:
        if _compiling_since is not None:
            _compiled += time.monotonic() - _compiling_since
        _compiling_since = None
