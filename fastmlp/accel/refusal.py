"""What is left to scikit-learn's own training, and why: said once for each reason."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from sklearn.neural_network import _base as functions

from fastmlp.accel.optimizers import KINDS
from fastmlp.backends.base import Backend
from fastmlp.network.objective import ACTIVATIONS
from fastmlp.training.as_sklearn import Settings

LOGGER = logging.getLogger("fastmlp.accel")
LOSSES = ("log_loss", "poisson", "squared_error")
# What scikit-learn's training calls, and ours does not.
CALLED = (
    "_backprop", "_compute_loss_grad", "_forward_pass", "_forward_pass_fast", "_loss_grad_lbfgs", "_pack", "_predict",
    "_score", "_score_with_function", "_unpack", "_update_no_improvement_count",
)  # fmt: skip
_said: set[str] = set()
_saying = threading.Lock()


class RefusalError(Exception):
    """Why a network is not ours to train, as the end of a sentence."""


def say_once(text: str) -> None:
    """Log a warning, unless this process has logged the same before."""
    with _saying:
        if text in _said:
            return
        _said.add(text)
    LOGGER.warning("fastmlp.accel: %s", text)


def check(estimator: Any, settings: Settings, backend: Backend) -> None:
    """Raise RefusalError unless our training of the estimator would be scikit-learn's."""
    changed = [name for name in CALLED if not _is_scikit_learns(estimator, name)]
    if changed:
        raise RefusalError(f"it has {', '.join(changed)} of its own")
    if settings.activation not in ACTIVATIONS or not _are_untouched(functions.ACTIVATIONS, functions.DERIVATIVES):
        raise RefusalError(f"its activation {settings.activation!r}, or another, is not scikit-learn's own")
    if estimator.loss not in LOSSES or not _are_untouched(functions.LOSS_FUNCTIONS):
        raise RefusalError(f"its loss {estimator.loss!r}, or another, is not scikit-learn's own")
    optimizer = getattr(estimator, "_optimizer", None)
    if optimizer is not None and settings.solver in KINDS and type(optimizer) is not KINDS[settings.solver]:
        raise RefusalError(f"its optimizer is not that of solver={settings.solver!r}")
    if backend.name == "numba" and _numba_is_off():
        raise RefusalError("NUMBA_DISABLE_JIT is set")


def _is_scikit_learns(estimator: Any, name: str) -> bool:
    method = getattr(type(estimator), name, None)
    return name not in vars(estimator) and (method is None or _is_of_scikit_learn(method))


def _are_untouched(*tables: dict[str, Callable[..., Any]]) -> bool:
    return all(_is_of_scikit_learn(function) for table in tables for function in table.values())


def _is_of_scikit_learn(function: Callable[..., Any]) -> bool:
    return function.__module__.startswith("sklearn.")


def _numba_is_off() -> bool:
    from fastmlp.kernels.cpu import dense
    from fastmlp.kernels.cpu.jit import is_compiled

    return not is_compiled(dense.add_bias)
