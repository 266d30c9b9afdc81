"""scikit-learn's checks of its own MLPs while fastmlp trains them, in the dtypes of their data: float32 and float64."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp.accel

SHORT: dict[str, Any] = {"hidden_layer_sizes": (20,), "learning_rate_init": 0.02, "max_iter": 30}


@pytest.fixture(autouse=True)
def accelerated() -> Iterator[None]:
    fastmlp.accel.install("numpy")
    yield
    fastmlp.accel.uninstall()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([MLPClassifier(**SHORT), MLPRegressor(**SHORT)])
def test_sklearn_check(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)
