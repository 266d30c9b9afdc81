"""scikit-learn's parameters: what each may be in preset="sklearn" and MLPRegressor."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np

from fastmlp.estimators import parameters as own
from fastmlp.estimators.parameters import Constraint
from fastmlp.network.objective import ACTIVATIONS
from fastmlp.network.parameters import DTYPES
from fastmlp.training.as_sklearn import Settings

SOLVERS = ("adam", "lbfgs", "sgd")
RATES = ("adaptive", "constant", "invscaling")
LOSSES = ("poisson", "squared_error")

ABSENT = Constraint('None with preset="sklearn"', lambda value: value is None)

CONSTRAINTS = {
    "loss": own.one_of(LOSSES),
    "hidden_layer_sizes": own.WIDTHS,
    "activation": own.one_of(ACTIVATIONS),
    "backend": own.CONSTRAINTS["backend"],
    "solver": own.one_of(SOLVERS),
    "alpha": own.FINITE,
    "batch_size": own.COUNT.or_("auto"),
    "learning_rate": own.one_of(RATES),
    "learning_rate_init": own.POSITIVE,
    "power_t": own.FINITE,
    "max_iter": own.COUNT,
    "shuffle": own.FLAG,
    "random_state": own.CONSTRAINTS["random_state"],
    "tol": own.NOT_NEGATIVE,
    "verbose": own.VERBOSITY,
    "warm_start": own.FLAG,
    "momentum": Constraint("a number from 0 to 1", lambda value: own.is_number(value) and 0 <= value <= 1),
    "nesterovs_momentum": own.FLAG,
    "early_stopping": own.FLAG,
    "validation_fraction": own.SHARE,
    "beta_1": own.SHARE,
    "beta_2": own.SHARE,
    "epsilon": own.POSITIVE,
    "n_iter_no_change": Constraint(
        "a whole number from 1 on, or infinity", lambda value: own.COUNT.allows(value) or value == np.inf
    ),
    "max_fun": own.COUNT,
    "init": ABSENT,
    "label_smoothing": ABSENT,
    "standardize": Constraint('None or False with preset="sklearn"', lambda value: value is None or value is False),
    "class_weight": own.CONSTRAINTS["class_weight"],
    "dtype": own.one_of(DTYPES).or_none(),
    "threads": own.COUNT.or_none(),
}
NAMES = tuple(field.name for field in fields(Settings))


def settings_of(estimator: Any) -> Settings:
    """The estimator's parameters, of which those that are None by default are then scikit-learn's defaults.

    Raises UsageError for the first that is not what it must be.
    """
    signature = _signature(type(estimator))  # type: ignore[arg-type]  # mypy takes type[Any] for unhashable
    given = checked(estimator, [name for name in CONSTRAINTS if name in signature])
    return Settings(**{name: given[name] for name in NAMES if name in given})


def checked(estimator: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those of its parameters, but for settings that are None by default. Raises UsageError as `settings_of` does."""
    signature, given = _signature(type(estimator)), {}  # type: ignore[arg-type]  # as above
    for name in names:
        value = getattr(estimator, name)
        if value is None and name in NAMES and signature[name].default is None:
            continue
        own.check(name, value, CONSTRAINTS[name])
        given[name] = value
    return given


@cache
def _signature(kind: type) -> Mapping[str, inspect.Parameter]:
    """The parameters of an estimator's class: to look them up takes longer than to answer a row."""
    return inspect.signature(kind).parameters
