"""The two methods of scikit-learn's MLPs that train a network, as ours do it.

Around them, scikit-learn's own `fit` and `partial_fit` check parameters and data, draw the initial weights, and look
whether the result is finite.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from sklearn import __version__ as scikit_learns_version

from fastmlp.accel import optimizers
from fastmlp.accel.refusal import LOGGER, RefusalError, check, say_once
from fastmlp.backends.base import Backend
from fastmlp.estimators.arrays import backend_for
from fastmlp.estimators.sklearn_parameters import NAMES
from fastmlp.estimators.sklearn_training import Data, objective_of, parameters_of, placed, train_by_descent
from fastmlp.training.as_sklearn import Settings
from fastmlp.training.lbfgs import one_pool, value_and_gradient

Method = Callable[..., None]


@dataclass(frozen=True)
class Call:
    """A call of one of the two methods: its arguments by name, and what scikit-learn would do."""

    estimator: Any
    given: Mapping[str, Any]
    original: Callable[[], None]

    @property
    def data(self) -> Data:
        """Features, checked, targets (n, outputs) and weights, which scikit-learn 1.6 does not have."""
        return self.given["X"], self.given["y"], self.given.get("sample_weight")


def known_methods(base: type) -> dict[str, Method]:
    """scikit-learn's own; RefusalError if its class is not built as those that we know."""
    found = {name: vars(base).get(name) for name in TRAININGS}
    for method in found.values():
        if method is None or not {"X", "y"} <= inspect.signature(method).parameters.keys():
            raise RefusalError(f"scikit-learn {scikit_learns_version} has MLPs that fastmlp does not know")
    return {name: method for name, method in found.items() if method is not None}


def accelerated(original: Method, backend_name: str) -> Method:
    """The method, which trains by ours or, where that cannot be, by the original."""
    signature, train = inspect.signature(original), TRAININGS[original.__name__]

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> None:
        call = Call(self, signature.bind(self, *args, **kwargs).arguments, lambda: original(self, *args, **kwargs))
        settings = Settings(**{name: getattr(self, name) for name in NAMES})
        backend = backend_for(backend_name, None)
        try:
            check(self, settings, backend)
        except RefusalError as reason:
            say_once(f"{type(self).__name__} is trained by scikit-learn itself: {reason}.")
            call.original()
            return
        with backend.without_autograd():
            train(call, settings, backend)
        LOGGER.info("%s trained by fastmlp, %s", type(self).__name__, backend)

    return method


def _descend(call: Call, settings: Settings, backend: Backend) -> None:
    """Mini-batches, by sgd or adam; between calls, the estimator holds scikit-learn's optimizer."""
    estimator, incremental = call.estimator, call.given["incremental"]
    if incremental and settings.early_stopping:
        call.original()  # which raises its error
        return
    if not (incremental and hasattr(estimator, "_optimizer")):
        estimator._optimizer = optimizers.new_optimizer(settings, [*estimator.coefs_, *estimator.intercepts_])
    settings = optimizers.settings_within(estimator._optimizer, settings)
    descent = optimizers.descent_from(estimator._optimizer, settings)
    train_by_descent(estimator, call.data, settings, descent, backend, estimator._random_state, incremental)
    optimizers.keep(estimator._optimizer, descent, settings, [*estimator.coefs_, *estimator.intercepts_])


def _minimize(call: Call, settings: Settings, backend: Backend) -> None:
    """scikit-learn's own L-BFGS, SciPy's in float64, on our objective and its gradient."""
    estimator = call.estimator
    objective = objective_of(estimator, settings, backend, parameters_of(estimator).astype("float64"))
    rows = placed(call.data, objective)
    estimator._loss_grad_lbfgs = lambda packed, *_: value_and_gradient(objective, rows, packed)
    try:
        with one_pool(objective, rows):
            call.original()
    finally:
        del estimator._loss_grad_lbfgs


TRAININGS = {"_fit_stochastic": _descend, "_fit_lbfgs": _minimize}
