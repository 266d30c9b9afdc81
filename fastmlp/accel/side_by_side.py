"""joblib's threads as fits share them: one core for each, warnings that do not get lost, and an end to all of them."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from threading import Event, Lock, get_ident
from typing import Any

from joblib import parallel_config
from joblib.parallel import SequentialBackend, ThreadingBackend
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from fastmlp.accel.refusal import LOGGER
from fastmlp.backends import open_backend
from fastmlp.backends.base import Backend
from fastmlp.common.environment import available_cores
from fastmlp.common.sharing import Shared
from fastmlp.estimators.arrays import beside_others, is_beside_others

STRANGERS = (
    "fastmlp.accel: %d of %d jobs computed nothing by fastmlp: they ran one per thread, and take turns while they hold "
    "Python's GIL."
)


@contextmanager
def side_by_side() -> Iterator[None]:
    """See `fastmlp.accel.together`."""
    if is_beside_others():  # a job within it: the cores are busy
        yield
        return
    workers = _SideBySide()
    with _ALL_TOLD.held(), parallel_config(workers, n_jobs=available_cores()):
        yield
    if workers.strangers:
        LOGGER.warning(STRANGERS, workers.strangers, workers.jobs)


class _SideBySide(ThreadingBackend):  # type: ignore[misc]  # joblib has no types
    """joblib's threads, in which our estimators compute on one thread each.

    jobs: how many have ended, and strangers: of them, those in which none of our backends was used.
    """

    _pool: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.jobs = self.strangers = 0
        self._changing = Lock()
        self._held = set[str]()  # the names of backends held to one thread
        self._limits = ExitStack()

    def start_call(self) -> None:
        self._limits.enter_context(_OWN_FILTERS.held())
        self.limit(open_backend("numpy"))

    def stop_call(self) -> None:
        with self._changing:
            self._held.clear()
            self._limits.close()

    def limit(self, backend: Backend) -> None:
        """Hold what is the process's in a backend, such as BLAS, to one thread until the call of Parallel ends."""
        with self._changing:
            if backend.name not in self._held:
                self._limits.enter_context(backend.one_thread())
                self._held.add(backend.name)

    def submit(self, func: Any, callback: Any = None) -> Any:
        func.items = [(_with_filters_left(one), args, kwargs) for one, args, kwargs in func.items]
        return super().submit(func, callback)

    def run(self, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run it in a thread beside others."""
        used = set[str]()

        def use(backend: Backend) -> None:
            used.add(backend.name)
            self.limit(backend)

        with beside_others(use):
            result = job(*args, **kwargs)
        with self._changing:
            self.jobs, self.strangers = self.jobs + 1, self.strangers + (not used)
        return result

    def get_nested_backend(self) -> tuple[Any, None]:
        """A job's own Parallel does one thing after another: the cores are busy."""
        return SequentialBackend(nesting_level=1), None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        if self._pool is not None:
            self._pool.interrupt()
        super().abort_everything(ensure_ready)

    def _get_pool(self) -> Any:
        if self._pool is None:
            self._pool = _Pool(self._n_jobs, self.run)
        return self._pool


class _Pool(ThreadPool):
    """Threads whose jobs run by `run`, and can be interrupted."""

    def __init__(self, threads: int, run: Callable[..., Any]) -> None:
        super().__init__(threads)
        self._run_job, self._busy, self._ended, self._changing = run, set[int](), Event(), Lock()

    def apply_async(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return super().apply_async(partial(self._interruptible, partial(self._run_job, func)), *args, **kwargs)

    def interrupt(self) -> None:
        """End all jobs that run, at their next line of Python, as an interrupt does the main thread; start no more."""
        with self._changing:
            self._ended.set()
            for thread in self._busy:
                _raise_exit_in(thread)

    def _interruptible(self, job: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            with self._busily():
                return job(*args, **kwargs)
        except SystemExit:  # outside of what the job itself catches and returns
            return None

    @contextmanager
    def _busily(self) -> Iterator[None]:
        thread = get_ident()
        with self._changing:
            if self._ended.is_set():
                raise SystemExit
            self._busy.add(thread)
        try:
            yield
        finally:
            with self._changing:
                self._busy.discard(thread)
                if self._ended.is_set():
                    _let_no_exit_wait()


def _raise_exit_in(thread: int) -> None:
    """Have the thread raise SystemExit at its next line of Python, once."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))


def _let_no_exit_wait() -> None:
    """Raise, and catch, what this thread may have been told to raise.

    It could be taken back as well; but until it has been raised, CPython looks for it at each call in each thread, and
    3.11 then never ends where a thread is profiled.
    """
    try:
        _raise_exit_in(get_ident())
        while True:
            pass
    except SystemExit:
        return


# Warnings.


@contextmanager
def _filters(*more: Any) -> Iterator[None]:
    """The process's filters of warnings in a list of their own, with more behind them."""
    before = warnings.filters
    warnings.filters = [*before, *more]
    try:
        yield
    finally:
        warnings.filters = before


# Of warnings that nobody has filtered, Python shows each once until somebody changes filters, which every fit does: so
# fits show theirs in turn, but side by side only the first of them.
_ALL_TOLD = Shared(partial(_filters, ("always", None, ConvergenceWarning, None, 0)))
# Code in a job that sets filters sets them for the process, and puts back what it found: in the midst of another job's
# changes, that may be anything.
_OWN_FILTERS = Shared(_filters)


def _with_filters_left(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take from scikit-learn's wrapper of a job what resets the filters and sets them again, one by one.

    They are the process's, which a job in a thread has already: but another job that warns in between finds none.
    """
    if not hasattr(function, "warning_filters"):
        return function
    return partial(_configured, function.config, function.function)  # type: ignore[attr-defined]


def _configured(config: dict[str, Any], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with config_context(**config):
        return function(*args, **kwargs)
