"""partial_fit standardises by the statistics of all rows so far, however few come first, and keeps its answers."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine

from fastmlp import MLPClassifier
from fastmlp.network.scaling import Moments

NOTHING = 1e-300  # a learning rate at which nothing is learned


def streamed(X: np.ndarray, y: np.ndarray, first: int, epochs: int = 4, **options: Any) -> MLPClassifier:
    """A classifier that has seen so many rows at first, and then 50 at a time."""
    model = MLPClassifier(backend="numpy", **options)
    model.partial_fit(X[:first], y[:first], classes=np.unique(y))
    for start in [*range(first, len(y), 50), *[s for _ in range(epochs - 1) for s in range(0, len(y), 50)]]:
        model.partial_fit(X[start : start + 50], y[start : start + 50])
    return model


@pytest.mark.parametrize("first", [1, 2, 5, 30])
@pytest.mark.parametrize(("load", "accuracy"), [(load_digits, 0.96), (load_wine, 0.93)])
def test_few_rows_first_cost_no_accuracy(first: int, load: Any, accuracy: float) -> None:
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X, y, train = X[order], y[order], int(0.7 * len(y))
    assert streamed(X[:train], y[:train], first).score(X[train:], y[train:]) > accuracy


@pytest.mark.parametrize("preset", ["tabular", "fast"])
def test_the_statistics_are_those_of_all_rows(preset: str) -> None:
    X, y = load_wine(return_X_y=True)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model = MLPClassifier(backend="numpy", preset=preset)
    for part in np.split(np.arange(len(y)), [1, 3, 60, 61]):
        model.partial_fit(X[part], y[part], classes=[0, 1, 2], sample_weight=weights[part])
    expected = Moments.of(X, weights).scaling(each=preset == "tabular")
    scaling = model._fit.parameters.scaling
    assert scaling is not None
    np.testing.assert_allclose(scaling.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(scaling.scale, expected.scale, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:The features have spreads")
@pytest.mark.parametrize("solver", ["adam", "sgd", "momentum"])
@pytest.mark.parametrize("preset", ["tabular", "fast"])
def test_answers_do_not_jump_as_the_statistics_move(preset: str, solver: str) -> None:
    X, y = load_wine(return_X_y=True)
    X[:60, 2] = 7.0  # constant in the first call
    options: dict[str, Any] = {"preset": preset, "solver": solver, "dtype": "float64"}
    model = MLPClassifier(backend="numpy", **options).partial_fit(X[:60], y[:60], classes=[0, 1, 2])
    before = model.predict_proba(X[:60])
    model.set_params(learning_rate_init=NOTHING).partial_fit(1000 + 5 * X[60:], y[60:])
    np.testing.assert_allclose(model.predict_proba(X[:60]), before, rtol=1e-6, atol=1e-9)


def test_after_a_fit_it_goes_on_from_its_statistics() -> None:
    X, y = load_wine(return_X_y=True)
    model = MLPClassifier(backend="numpy", max_iter=5).fit(X[:100], y[:100] % 2)
    model.partial_fit(X[100:], y[100:] % 2)
    scaling = model._fit.parameters.scaling
    assert scaling is not None
    np.testing.assert_allclose(scaling.mean, X.mean(axis=0))
    np.testing.assert_allclose(scaling.scale, 1 / X.std(axis=0))
