"""How many threads a BLAS library takes, whichever thread of the process says so.

threadpoolctl 3.8 lets one thread at a time set them for an OpenBLAS with a pool of its own, and does nothing, without a
word, for any other: neither to limit them nor to set them back. Results of a library on two threads may differ in the
last bits from those on one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import OpenBLASController, ThreadpoolController


def limit(libraries: ThreadpoolController, threads: int) -> None:
    """For good."""
    _let_any_thread_decide()
    libraries.limit(limits=threads)
    _let_any_thread_decide()


@contextmanager
def limited(libraries: ThreadpoolController, threads: int) -> Iterator[None]:
    """Until the end of the context, which another thread may leave than entered it."""
    _let_any_thread_decide()
    before = libraries.limit(limits=threads)
    _let_any_thread_decide()
    try:
        yield
    finally:
        _let_any_thread_decide()
        before.restore_original_limits()
        _let_any_thread_decide()


def _let_any_thread_decide() -> None:
    if hasattr(OpenBLASController, "clear_controlling_thread"):  # before 3.8, any may
        OpenBLASController.clear_controlling_thread(force=True)
