"""The process's worker threads: started with the first work for that many, and kept.

Kernels release the GIL, so ordinary threads run them in parallel, without Numba's own threading layers, which differ
from machine to machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import cache
from threading import Lock, current_thread, main_thread
from typing import Any

Call = Callable[[], Any]


class Workers:
    """A number of threads that any threads may hand work to."""

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="fastmlp")
        self._lock = Lock()

    def start(self, calls: Sequence[Call]) -> list[Future[Any]]:
        """Queue these calls side by side, so that up to `count` of them, which wait for one another, run together."""
        futures: list[Future[Any]] = []
        self._queue(calls, futures)
        return futures

    def run(self, calls: Sequence[Call], give_up: Call = lambda: None) -> list[Any]:
        """What these calls return. If one fails, or the wait ends early, call give_up and wait for the rest.

        Raises what the first failed call raised. A call alone runs in the caller's own thread, but for the main one,
        whose wait an interrupt may end: so fits of one thread each, in several threads, do not queue.
        """
        if len(calls) == 1 and current_thread() is not main_thread():
            return [calls[0]()]
        futures: list[Future[Any]] = []
        try:
            self._queue(calls, futures)
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            give_up()
            wait([future for future in futures if not future.cancel()])
            raise

    def _queue(self, calls: Sequence[Call], futures: list[Future[Any]]) -> None:
        """Append each call's future as soon as it is queued."""
        with self._lock:
            for call in calls:
                futures.append(self._pool.submit(call))  # noqa: PERF401  (those before one that fails are needed)


@cache
def workers(count: int) -> Workers:
    """The process's own `count` workers."""
    return Workers(count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.cache_clear)  # a forked child has the workers, but not their threads
