"""scikit-learn's optimizer of an estimator, which partial_fit goes on with, and ours: each made from the other.

An estimator always keeps scikit-learn's, so that either may train it further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

from fastmlp.training.as_sklearn import Descent, Settings

KINDS = {"sgd": SGDOptimizer, "adam": AdamOptimizer}
MOMENTS = {"sgd": ("velocities",), "adam": ("ms", "vs")}
# scikit-learn's optimizers keep the constants of the first call, whatever the estimator's parameters are later.
CONSTANTS = {
    "sgd": {
        "learning_rate_init": "learning_rate_init",
        "learning_rate": "lr_schedule",
        "momentum": "momentum",
        "nesterovs_momentum": "nesterov",
        "power_t": "power_t",
    },
    "adam": {name: name for name in ("learning_rate_init", "beta_1", "beta_2", "epsilon")},
}


def new_optimizer(settings: Settings, arrays: Sequence[NDArray[Any]]) -> Any:
    """scikit-learn's, of parameters that have not been trained yet."""
    given = {its: getattr(settings, name) for name, its in CONSTANTS[settings.solver].items()}
    return KINDS[settings.solver](list(arrays), **given)


def settings_within(optimizer: Any, settings: Settings) -> Settings:
    """The settings, but for the constants that the optimizer has."""
    kept = {name: getattr(optimizer, its) for name, its in CONSTANTS[settings.solver].items()}
    return replace(settings, **kept)


def descent_from(optimizer: Any, settings: Settings) -> Descent:
    """What the optimizer remembers."""
    if settings.solver == "adam" and optimizer.t == 0:
        return Descent(float(optimizer.learning_rate_init))
    moments = [getattr(optimizer, name) for name in MOMENTS[settings.solver]]
    half = len(moments[0]) // 2  # of weights, and then of biases
    groups = tuple(np.stack([_flat(of[part]) for of in moments]) for part in (slice(half), slice(half, None)))
    adam = settings.solver == "adam"
    return Descent(
        float(optimizer.learning_rate_init if adam else optimizer.learning_rate), optimizer.t if adam else 0, groups
    )


def keep(optimizer: Any, descent: Descent, settings: Settings, arrays: Sequence[NDArray[Any]]) -> None:
    """Let scikit-learn's optimizer remember what ours does; arrays: the parameters, weights and then biases."""
    half = len(arrays) // 2
    groups = (arrays[:half], arrays[half:])
    for place, name in enumerate(MOMENTS[settings.solver]):
        parts = (_shaped(moments[place], group) for moments, group in zip(descent.moments, groups, strict=True))
        setattr(optimizer, name, [array for part in parts for array in part])
    if settings.solver == "adam":
        optimizer.t = steps = descent.steps
        corrections = np.sqrt(1 - optimizer.beta_2**steps) / (1 - optimizer.beta_1**steps)
        optimizer.learning_rate = optimizer.learning_rate_init * corrections
    else:
        optimizer.learning_rate = descent.learning_rate


def _flat(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([array.ravel() for array in arrays])


def _shaped(flat: NDArray[Any], like: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    parts = np.split(flat, np.cumsum([array.size for array in like])[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, like, strict=True)]
