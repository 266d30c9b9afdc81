"""How far our training by scikit-learn's rules is from scikit-learn's own, case by case.

    python -m tests.estimators.differences

writes the table of docs/scikit-learn.md.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits, make_regression
from sklearn.exceptions import ConvergenceWarning

from fastmlp import MLPClassifier, MLPRegressor

EPOCHS = 50
BACKENDS = ("numpy", "numba", "torch")
TASKS = ("classes", "two classes", "labels", "numbers", "counts")
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
SOLVERS = (("sgd", "constant"), ("sgd", "invscaling"), ("sgd", "adaptive"), ("adam", "constant"), ("lbfgs", "constant"))


@dataclass(frozen=True)
class Case:
    """A training in float64 that ends before it has converged, or by its stopping rule."""

    task: str
    activation: str
    solver: str
    rate: str

    def __str__(self) -> str:
        return f"{self.task}, {self.activation}, {self.solver}, {self.rate}"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "hidden_layer_sizes": (12, 7),
            "activation": self.activation,
            "solver": self.solver,
            "learning_rate": self.rate,
            "learning_rate_init": 0.02 if self.solver == "sgd" else 0.005,
            "batch_size": 32,
            "max_iter": EPOCHS,
            "n_iter_no_change": 3,
            "tol": 1e-3,
            "random_state": 5,
        }


CASES = [Case(task, activation, *solver) for task, activation, solver in product(TASKS, ACTIVATIONS, SOLVERS)]


@cache
def data(task: str) -> tuple[np.ndarray, np.ndarray]:
    if task in ("numbers", "counts"):
        X, y = make_regression(n_samples=150, n_features=6, n_targets=2, noise=3, random_state=1)
        y = y / y.std(axis=0)
        return X, y if task == "numbers" else np.random.default_rng(0).poisson(np.exp(y[:, 0] / 2))
    X, y = load_digits(return_X_y=True)
    X, y = X[:150] / 16, y[:150]
    targets = {"classes": y, "two classes": y % 2, "labels": np.stack([y % 2, y > 4, y % 3 == 0], axis=1).astype(int)}
    return X, targets[task]


def ours(case: Case, backend: str) -> Any:
    classifier = partial(MLPClassifier, preset="sklearn")
    return _fitted(_kind(case, classifier, MLPRegressor)(backend=backend, **case.settings), case)


@cache
def theirs(case: Case) -> Any:
    return _of_sklearn(case)


@cache
def sensitivity(case: Case) -> float:
    """The difference that scikit-learn makes of features whose last bit changes here and there."""
    flips = np.random.default_rng(0).choice([-1, 0, 1], data(case.task)[0].shape)
    return of_coefficients(_of_sklearn(case, 1 + flips * np.finfo(float).eps), theirs(case))


def _of_sklearn(case: Case, factors: Any = 1.0) -> Any:
    kind = _kind(case, neural_network.MLPClassifier, neural_network.MLPRegressor)
    return _fitted(kind(**case.settings), case, factors)


def _kind(case: Case, classifier: Any, regressor: Any) -> Any:
    losses = {"numbers": "squared_error", "counts": "poisson"}
    return partial(regressor, loss=losses[case.task]) if case.task in losses else classifier


def _fitted(model: Any, case: Case, factors: Any = 1.0) -> Any:
    X, y = data(case.task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X * factors, y)


def of_coefficients(model: Any, other: Any) -> float:
    """The largest difference of any layer's coefficients, over the largest coefficient there."""
    arrays = zip(model.coefs_ + model.intercepts_, other.coefs_ + other.intercepts_, strict=True)
    return max(float(np.abs(mine - its).max() / np.abs(its).max()) for mine, its in arrays)


def of_losses(model: Any, other: Any) -> float:
    """The largest relative difference of the losses of an epoch; of the last one, where only that is kept."""
    mine, its = (np.array(getattr(fit, "loss_curve_", [fit.loss_])) for fit in (model, other))
    return float(np.abs(mine / its - 1).max())


def table() -> Iterator[str]:
    """Lines of Markdown: for each solver and backend the largest differences over tasks and activations."""
    yield (
        "| solver, learning rate | " + " | ".join(f"{name} | losses" for name in BACKENDS) + " | scikit-learn itself |"
    )
    yield "|---|" + "---:|" * (2 * len(BACKENDS) + 1)
    for solver, rate in SOLVERS:
        cases, cells = [case for case in CASES if (case.solver, case.rate) == (solver, rate)], []
        for backend in BACKENDS:
            pairs = [(ours(case, backend), theirs(case)) for case in cases]
            assert all(mine.n_iter_ == its.n_iter_ for mine, its in pairs)
            cells += [f"{max(of(*pair) for pair in pairs):.1g}" for of in (of_coefficients, of_losses)]
        cells.append(f"{max(map(sensitivity, cases)):.1g}")
        yield f"| {solver}, {rate} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
