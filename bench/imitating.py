"""The problems of training scikit-learn's MLPs: one of them, or all those of a search or a cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastmlp.testing.compare import assert_close
from fastmlp.testing.tolerances import EPOCH

from .contenders import Bound, Problem

# Of coefficients, over each layer's largest one; in float32, where a value near the kink of ReLU may fall on its other
# side, of the losses of the epochs.
COEFFICIENTS = 1e-6
GRID = {"alpha": [1e-5, 1e-4, 1e-3], "learning_rate_init": [0.001, 0.003]}
FOLDS = 5
LARGEST_BATCH = 200  # scikit-learn's own
SMOKE_ROWS = 420


class Data(NamedTuple):
    """X float64 (n, d), y (n,), what y is, and for how many epochs scikit-learn trains on them in about a second."""

    X: NDArray[Any]
    y: NDArray[Any]
    target: str
    epochs: int


def _digits(smoke: bool) -> Data:
    X, y = load_digits(return_X_y=True)
    rows = SMOKE_ROWS if smoke else len(X)
    return Data(X[:rows] / 16, y[:rows], "digits, 10 classes", 50)


def _classes(smoke: bool) -> Data:
    rows = SMOKE_ROWS if smoke else 20_000
    X, y = make_classification(rows, 768, n_informative=60, n_classes=20, n_clusters_per_class=1, random_state=0)
    return Data(X, y, "20 classes", 3)


def _two_classes(smoke: bool) -> Data:
    X, y = make_classification(SMOKE_ROWS if smoke else 100_000, 100, n_informative=30, random_state=0)
    return Data(X, y, "2 classes", 3)


def _numbers(smoke: bool) -> Data:
    X, y = make_regression(SMOKE_ROWS if smoke else 50_000, 50, noise=1, random_state=0)
    return Data(X, y / y.std(), "regression", 5)


DATA: Mapping[str, Callable[[bool], Data]] = {
    "digits": _digits,
    "20,000 x 768": _classes,
    "100,000 x 100": _two_classes,
    "50,000 x 50": _numbers,
}
Make = Callable[..., Any]  # an estimator, of scikit-learn's parameters


@dataclass(frozen=True, kw_only=True)
class Imitating(Problem):
    """An MLP with scikit-learn's defaults and these settings, trained on X (n, d) and y (n,) for so many epochs."""

    X: NDArray[Any]
    y: NDArray[Any]
    settings: Mapping[str, Any]

    @property
    def classifies(self) -> bool:
        return self.y.dtype.kind == "i"

    @property
    def theirs(self) -> Make:
        """scikit-learn's class."""
        return MLPClassifier if self.classifies else MLPRegressor


@dataclass(frozen=True, kw_only=True)
class Fitting(Imitating):
    """One fit."""

    @cached_property
    def reference(self) -> Any:
        """scikit-learn's network."""
        with few_epochs():
            return self.theirs(**self.settings).fit(self.X, self.y)

    def check(self, what: str, result: Any) -> None:
        """Check that a network has trained for as long, and its coefficients, or in float32 its losses."""
        reference = self.reference
        if result.n_iter_ != reference.n_iter_:
            raise AssertionError(f"{what}: {result.n_iter_} epochs, not {reference.n_iter_}")
        if self.X.dtype == np.float32:
            got, expected = np.array(result.loss_curve_), np.array(reference.loss_curve_)
            assert_close(f"{what}: losses", got, expected, EPOCH["float32"])
            return
        for kind in ("coefs_", "intercepts_"):
            for got, expected in zip(getattr(result, kind), getattr(reference, kind), strict=True):
                assert_close(f"{what}: {kind}", got, expected, COEFFICIENTS)


@dataclass(frozen=True, kw_only=True)
class Searching(Imitating):
    """The fits of GridSearchCV, or those of cross_val_predict. A result is what it says of the rows or settings."""

    search: Callable[[Searching, Make], NDArray[Any]]

    @cached_property
    def reference(self) -> NDArray[Any]:
        """The result by scikit-learn's network."""
        return self.found(self.theirs)

    def found(self, make: Make) -> NDArray[Any]:
        with few_epochs():
            return self.search(self, make)

    def check(self, what: str, result: NDArray[Any]) -> None:
        assert_close(what, result, self.reference, COEFFICIENTS)


def fitted_by(problem: Fitting, make: Make) -> Bound:
    """The fit by that class."""
    model = make(**problem.settings)

    def run() -> None:
        with few_epochs():
            model.fit(problem.X, problem.y)

    return Bound(run, lambda: model)


def searched_by(problem: Searching, make: Make, context: Callable[[], AbstractContextManager[Any]]) -> Bound:
    """The search by that class, each time within that context."""
    found: list[NDArray[Any]] = []

    def run() -> None:
        with context():
            found[:] = [problem.found(make)]

    return Bound(run, lambda: found[0])


@contextmanager
def few_epochs() -> Iterator[None]:
    """A context in which no estimator minds that it trains for fewer epochs than it would need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def grid_search(problem: Searching, make: Make) -> NDArray[Any]:
    """The scores (settings, folds) of a search, which fits the best setting once more."""
    search = GridSearchCV(make(**problem.settings), GRID, cv=FOLDS).fit(problem.X, problem.y)
    return np.array([search.cv_results_[f"split{fold}_test_score"] for fold in range(FOLDS)])


def predicted(problem: Searching, make: Make) -> NDArray[Any]:
    """Probabilities (n, classes) of rows by a network trained on the others."""
    return cross_val_predict(make(**problem.settings), problem.X, problem.y, cv=FOLDS, method="predict_proba")


SEARCHES = {
    "GridSearchCV": (grid_search, len(GRID["alpha"]) * len(GRID["learning_rate_init"]) * FOLDS + 1),
    "cross_val_predict": (predicted, FOLDS),
}


def draw_fitting(name: str, dtype: str, threads: int, smoke: bool, solver: str = "adam") -> Fitting:
    """A fit on those data, of equal epochs for all. With "lbfgs" those are iterations over all rows."""
    data = _drawn(name, smoke)
    targets = data.y if data.y.dtype.kind == "i" else data.y.astype(dtype)
    epochs = 2 if smoke else data.epochs
    steps = epochs if solver == "lbfgs" else epochs * -(-len(data.y) // LARGEST_BATCH)
    return Fitting(
        suite="sklearn",
        threads=threads,
        title=f"{_title(data)}, {solver}, {dtype}",
        unit="iteration" if solver == "lbfgs" else "step",
        units=steps,
        rounds=3,
        X=data.X.astype(dtype),
        y=targets,
        settings=_settings(epochs) | {"solver": solver},
    )


def draw_searching(name: str, kind: str, threads: int, smoke: bool, epochs: int) -> Searching:
    """A search, or predictions by cross-validation, on those data in float64."""
    data = _drawn(name, smoke)
    search, fits = SEARCHES[kind]
    return Searching(
        suite="sklearn",
        threads=threads,
        title=f"{kind}, {fits} fits, {_title(data)}, float64",
        unit="fit",
        units=fits,
        rounds=1,
        X=data.X,
        y=data.y,
        settings=_settings(2 if smoke else epochs),
        search=search,
    )


def _settings(epochs: int) -> dict[str, Any]:
    """Nothing but max_iter ends a training."""
    return {"max_iter": epochs, "tol": 0.0, "n_iter_no_change": 10_000, "random_state": 0}


@cache
def _drawn(name: str, smoke: bool) -> Data:
    return DATA[name](smoke)


def _title(data: Data) -> str:
    rows, features = data.X.shape
    return f"{rows:,} x {features}, {data.target}"
