"""Putting our training into scikit-learn's two classes and taking it out, here and in processes started later."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Callable
from typing import Any

from fastmlp.backends import AUTO, open_backend
from fastmlp.common.errors import FastMLPError

_INHERITED = "fastmlp.accel"  # the entry of a process that those which it starts get a copy of
_changing = threading.Lock()
_originals: dict[str, Callable[..., Any]] = {}  # of the methods that are replaced now


def install(backend: str = AUTO) -> None:
    """Let fastmlp train scikit-learn's MLPClassifier and MLPRegressor from now on, in this process and in new workers.

    What it cannot train is left to scikit-learn, and said once for each reason: a warning of the logger
    ``fastmlp.accel``, which goes to stderr where logging is not configured. At the level INFO, that logger tells of
    every fit that fastmlp has trained, and on which backend. May be called again, with another backend too, and from
    any thread; fits that run already end as they began.

    Parameters
    ----------
    backend : str, default="auto"
        "numpy", "numba", "torch", "torch:DEVICE", "cupy", or "auto": CuPy on a working GPU, else Numba, else NumPy.

    Raises
    ------
    UsageError
        There is no such backend.
    BackendError
        It cannot run here.
    """
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Base

    from fastmlp.accel.methods import accelerated, known_methods
    from fastmlp.accel.refusal import RefusalError, say_once

    if backend != AUTO:
        open_backend(backend)
    with _changing:
        try:
            originals = _originals or known_methods(Base)
        except RefusalError as reason:
            say_once(f"Nothing is accelerated: {reason}.")
            return
        for name, original in originals.items():
            setattr(Base, name, accelerated(original, backend))
        _originals.update(originals)
        _config_of_this_process()[_INHERITED] = _Inherited(backend)
    if _workers_run():
        say_once("joblib's worker processes that run already train by scikit-learn: install before they start.")


def uninstall() -> None:
    """Let scikit-learn train again, in this process and in those it starts from now on.

    Worker processes that run already, such as joblib's, keep what they began with.
    """
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Base

    with _changing:
        _restore(Base)


def is_installed() -> bool:
    """Whether fastmlp trains scikit-learn's MLPs now."""
    return bool(_originals)


def _restore(base: type) -> None:
    for name, method in _originals.items():
        setattr(base, name, method)
    _originals.clear()
    _config_of_this_process().pop(_INHERITED, None)


# Processes.


def _config_of_this_process() -> dict[str, Any]:
    """What processes of multiprocessing, and of joblib, inherit: it is pickled with each that is started."""
    return multiprocessing.current_process()._config  # type: ignore[attr-defined]


class _Inherited:
    """Installs in the process that it is unpickled in."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherit, (self.backend,)


def _inherit(backend: str) -> _Inherited:
    from fastmlp.accel.refusal import say_once

    try:
        install(backend)
    except FastMLPError as error:  # such as a GPU that this process has not
        say_once(f"Nothing is accelerated in this process: {error}")
    return _Inherited(backend)


def _workers_run() -> bool:
    """Whether joblib keeps workers from an earlier call."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)
    return executor is not None and not executor._flags.shutdown
