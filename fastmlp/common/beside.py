"""Work that is begun before its result is needed, in a thread beside the rest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from fastmlp.common.clock import uncounted

Result = TypeVar("Result")


class Beside(Generic[Result]):
    """Work in a thread of its own, begun at once; threads may share it.

    A process that is interrupted, or that no longer needs the work, still waits for it before it ends. Kernels that
    compile there do not stop the clock of work.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        thread = ThreadPoolExecutor(1, "beside", uncounted)
        self._coming = thread.submit(work)
        thread.shutdown(wait=False)

    def join(self) -> Result:
        """What the work gives once it has ended; raises what it raised."""
        return self._coming.result()
