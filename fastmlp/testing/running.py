"""Runs checks one by one, each within its time, and finds what they leave behind in the process."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from types import TracebackType
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from fastmlp.backends import names
from fastmlp.backends.base import Backend
from fastmlp.common.clock import work_seconds
from fastmlp.testing.check import Check, Result, SkipError
from fastmlp.testing.watching import Watch

TIME_LIMIT = 120.0  # seconds for one check without compiling: none of ours takes ten


class Runner:
    """Runs checks of one backend in a thread, so that one which never returns does not hold up the rest for good.

    `is_stuck` from then on: the thread is left behind, and does not keep the process from ending; whatever else the
    backend is asked may wait for it, so there is no point in going on.
    """

    def __init__(self, backend: Backend, seed: int = 0, *, quick: bool = False) -> None:
        self._backend, self._seed, self._quick, self.is_stuck = backend, seed, quick, False
        self._thread = _CheckThread()
        self._at_the_end = ExitStack()

    def __enter__(self) -> Self:
        self._at_the_end.enter_context(warnings.catch_warnings())
        self._at_the_end.enter_context(threadpool_limits())  # sets the libraries' threads back
        self._at_the_end.callback(_set_threads_back, self._backend, self._backend.threads)
        self._at_the_end.callback(self._thread.stop)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._at_the_end.close()

    def result_of(self, check: Check) -> Result:
        """What it finds; whatever a backend raises, its check has failed."""
        begun, name = perf_counter(), check.name
        try:
            self._thread.run(lambda: _run_watched(self._backend, check.run), TIME_LIMIT)
        except SkipError as reason:
            return Result(name, "skipped", str(reason), perf_counter() - begun)
        except _NeverReturnedError:
            self.is_stuck = True
            message = f"did not return within {TIME_LIMIT:g} s; nothing after it was checked"
        except AssertionError as failure:
            message = str(failure)
        except Exception as error:  # noqa: BLE001  (see above)
            message = f"{type(error).__name__}: {error}"
        else:
            return Result(name, "passed", seconds=perf_counter() - begun)
        return Result(name, "failed", message, perf_counter() - begun, self._alone(name))

    def _alone(self, name: str) -> str:
        """What runs that check alone."""
        if self._backend.name in names():
            quick = " --quick" if self._quick else ""
            return f'fastmlp backends --check {self._backend} --only "{name}" --seed {self._seed}{quick}'
        quick = ", quick=True" if self._quick else ""
        return f'check_backend({type(self._backend).__name__}(), only="{name}", seed={self._seed}{quick})'


class _NeverReturnedError(Exception):
    """A check whose time is over."""


class _CheckThread:
    """A thread that does one thing at a time; it ends with the process even while it does."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
        Thread(target=copy_context().run, args=(self._serve,), name="fastmlp check", daemon=True).start()

    def run(self, task: Callable[[], None], limit: float) -> None:
        """Raises what the task raises, _NeverReturnedError if it has not ended after so many seconds of work."""
        self._tasks.put(task)
        error = self._outcome(limit)
        if error is not None:
            raise error

    def _outcome(self, limit: float) -> BaseException | None:
        begun = work_seconds()
        while (left := limit - (work_seconds() - begun)) > 0:
            try:
                return self._outcomes.get(timeout=left)
            except Empty:  # unless kernels were compiled meanwhile, its time is over
                continue
        raise _NeverReturnedError

    def stop(self) -> None:
        self._tasks.put(None)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001  (`run` raises it in the caller's thread)
                self._outcomes.put(error)
            else:
                self._outcomes.put(None)


def _set_threads_back(backend: Backend, threads: int) -> None:
    if backend.threads != threads:
        backend.set_threads(threads)


# What kernels may not do.


def _run_watched(backend: Backend, run: Callable[[], None]) -> None:
    """Run a check; if a kernel is found to be none, that is what failed, whatever came of it."""
    watch = Watch(backend)
    try:
        with watch.listening():
            _run_tidily(run)
    finally:
        if watch.found:
            raise AssertionError(watch.found)


def _run_tidily(run: Callable[[], None]) -> None:
    """Run a check; AssertionError if a kernel drew from NumPy's global random state, or set its error handling."""
    random, errors = np.random.get_state(), np.geterr()
    run()
    if any(np.any(now != then) for now, then in zip(np.random.get_state(), random, strict=True)):
        np.random.set_state(random)
        raise AssertionError("changed NumPy's global random state: what is random takes a Generator of its own")
    if np.geterr() != errors:
        found = np.seterr(**errors)
        raise AssertionError(f"set NumPy's error handling to {found}: do that within np.errstate")
