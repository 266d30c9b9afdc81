"""Training of any estimator that has scikit-learn's attributes, ours or its own, by scikit-learn's rules.

All that a fit leaves is in those attributes, some of them private: what is written into them, such as other
coefficients, counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.network.forward import Forward
from fastmlp.network.inputs import Rows, inputs_of
from fastmlp.network.objective import Objective
from fastmlp.network.parameters import Parameters
from fastmlp.training.as_sklearn import Descent, Progress, Settings, descend

OUTPUTS = {"exp": "exponential"}  # scikit-learn's name of an output, and ours where it is another
Data = tuple[Any, NDArray[Any], NDArray[Any] | None]  # features, targets (n, outputs) and weights, on the host


def train_by_descent(
    estimator: Any,
    data: Data,
    settings: Settings,
    descent: Descent,
    backend: Backend,
    generator: np.random.RandomState,
    incremental: bool,
) -> None:
    """Mini-batches, by sgd or adam, from what the estimator is to what it will be; incremental: for one epoch."""
    objective = objective_of(estimator, settings, backend, parameters_of(estimator))
    score = None
    if settings.early_stopping:
        data, held_out = _split(estimator, data, settings, generator)
        score = _scorer(estimator, objective, held_out)
    progress = _progress(estimator, validated=settings.early_stopping)
    rows = placed(data, objective)
    descend(objective, rows, settings, descent, progress, generator, once=incremental, score=score)
    take(estimator, progress.best if settings.early_stopping else objective.parameters)
    record(estimator, progress)
    if progress.losses:  # none where it was interrupted at once
        estimator.loss_ = progress.losses[-1]


def _split(estimator: Any, data: Data, settings: Settings, generator: np.random.RandomState) -> tuple[Data, Data]:
    """The rows to train on, and those held out, of each class in proportion."""
    features, targets, weights = data
    stratify = targets if is_classifier(estimator) and targets.shape[1] == 1 else None
    parts = train_test_split(
        np.arange(len(targets)), random_state=generator, test_size=settings.validation_fraction, stratify=stratify
    )
    if len(parts[1]) < 2:
        raise UsageError("The validation set is too small: pass more rows, or a larger validation_fraction.")
    kept, held_out = ((features[part], targets[part], None if weights is None else weights[part]) for part in parts)
    return kept, held_out


def _scorer(estimator: Any, objective: Objective, held_out: Data) -> Callable[[], float]:
    """A function that scores the network on the held-out rows as it is then: NaN if it has diverged."""
    features, targets, weights = held_out
    classifies = is_classifier(estimator)
    expected = decoded(estimator, targets) if classifies else targets
    measure = accuracy_score if classifies else r2_score

    def score() -> float:
        found = objective.forward.answers(features, objective.dtype)
        found = decoded(estimator, found) if classifies else found
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            return np.nan
        return measure(expected, found, sample_weight=weights)

    return score


# An estimator's state, in attributes.


def take(estimator: Any, parameters: Parameters) -> None:
    estimator.coefs_, estimator.intercepts_ = list(parameters.weights), list(parameters.biases)


def parameters_of(estimator: Any) -> Parameters:
    return Parameters(tuple(estimator.coefs_), tuple(estimator.intercepts_))


def _progress(estimator: Any, validated: bool) -> Progress:
    best = parameters_of(estimator)
    if hasattr(estimator, "_best_coefs"):
        best = Parameters(tuple(estimator._best_coefs), tuple(estimator._best_intercepts))
    progress = Progress.new(best, validated)
    for name, attribute in Progress.ATTRIBUTES.items():
        if hasattr(estimator, attribute):
            setattr(progress, name, getattr(estimator, attribute))
    return progress


def record(estimator: Any, progress: Progress) -> None:
    estimator._best_coefs, estimator._best_intercepts = list(progress.best.weights), list(progress.best.biases)
    for name, attribute in Progress.ATTRIBUTES.items():
        setattr(estimator, attribute, getattr(progress, name))


# Answers.


def objective_of(estimator: Any, settings: Settings, backend: Backend, parameters: Parameters) -> Objective:
    """What the estimator's network of these parameters minimises."""
    output = output_of(estimator)
    return Objective(parameters, backend, settings.activation, output, settings.alpha, settings.optimizer)


def forward_of(estimator: Any, activation: str, backend: Backend, dtype: str) -> Forward:
    """The estimator's network of that dtype, only to answer."""
    weights, biases = (
        [backend.asarray(np.ascontiguousarray(array, dtype)) for array in arrays]
        for arrays in (estimator.coefs_, estimator.intercepts_)
    )
    return Forward(backend, weights, biases, activation, output_of(estimator))


def output_of(estimator: Any) -> str:
    """The output's activation, by our name."""
    return OUTPUTS.get(estimator.out_activation_, estimator.out_activation_)


def placed(data: Data, objective: Objective) -> Rows:
    """Data where the objective is, and of its dtype."""
    features, targets, weights = data
    backend, dtype = objective.backend, objective.dtype
    weights = None if weights is None else weights.astype(dtype)
    return Rows(
        backend,
        inputs_of(backend, features, dtype),
        backend.asarray(np.ascontiguousarray(targets, dtype)),
        None if weights is None else backend.asarray(weights),
        weights,
    )


def decoded(estimator: Any, found: NDArray[Any]) -> NDArray[Any]:
    """The classes that answers (n, outputs), or targets, stand for."""
    return estimator._label_binarizer.inverse_transform(found.ravel() if found.shape[1] == 1 else found)
