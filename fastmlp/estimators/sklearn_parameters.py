"""scikit-learn's parameters: what each may be in preset="sklearn" and MLPRegressor."""

from __future__ import annotations

import inspect
from dataclasses import fields
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
    parameters, signature = estimator.get_params(), inspect.signature(type(estimator)).parameters
    left = {name for name in NAMES if parameters[name] is None and signature[name].default is None}
    for name in (name for name in CONSTRAINTS if name in parameters and name not in left):
        own.check(name, parameters[name], CONSTRAINTS[name])
    return Settings(**{name: parameters[name] for name in NAMES if name not in left})
