"""How many threads a BLAS library takes, whichever thread of the process says so.

threadpoolctl 3.8 lets one thread at a time set them for an OpenBLAS with a pool of its own, and does nothing, without a
word, for any other: neither to limit them nor to set them back. Results of a library on two threads may differ in the
last bits from those on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from threadpoolctl import OpenBLASController, ThreadpoolController

_control = Lock()


def limit(libraries: ThreadpoolController, threads: int) -> None:
    """For good."""
    with _in_control():
        libraries.limit(limits=threads)


@contextmanager
def limited(libraries: ThreadpoolController, threads: int) -> Iterator[None]:
    """Until the end of the context, which another thread may leave than entered it."""
    with _in_control():
        before = libraries.limit(limits=threads)
    try:
        yield
    finally:
        with _in_control():
            before.restore_original_limits()


@contextmanager
def _in_control() -> Iterator[None]:
    """Let this thread set the threads, and then any other."""
    with _control:
        _let_any_thread()
        yield
        _let_any_thread()


def _let_any_thread() -> None:
    if hasattr(OpenBLASController, "clear_controlling_thread"):  # before 3.8, any may
        OpenBLASController.clear_controlling_thread(force=True)
