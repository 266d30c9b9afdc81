"""MLPClassifier as scikit-learn's users use it."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier
from fastmlp.backends import probe
from fastmlp.errors import BackendError, UsageError
from fastmlp.training import DivergedError

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits() -> Arrays:
    features, labels = load_digits(return_X_y=True)
    return features / 16, labels


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "cupy"])
def test_learns_digits_on_every_backend(name: str, digits: Arrays) -> None:
    if not probe(name).usable:
        pytest.skip(probe(name).reason)
    X, y = digits
    model = MLPClassifier(backend=name, max_iter=20, learning_rate_init=0.1).fit(X[:1200], y[:1200])
    assert model.score(X[1200:], y[1200:]) > 0.88
    assert model.backend_ == name
    assert len(model.loss_curve_) == model.n_iter_ == 20
    assert model.loss_curve_[-1] < 0.2 * model.loss_curve_[0]
    assert [w.shape for w in model.coefs_] == [(64, 64), (64, 10)]
    assert [b.shape for b in model.intercepts_] == [(64,), (10,)]


def test_probabilities_and_predictions_belong_together(digits: Arrays) -> None:
    X, y = digits
    model = MLPClassifier(max_iter=5).fit(X, y)
    probabilities = model.predict_proba(X[:50])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(X[:50]))


def test_labels_of_any_kind(digits: Arrays) -> None:
    X, y = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    by_name = MLPClassifier(max_iter=3).fit(X, names[y])
    assert set(by_name.predict(X[:20])) <= set(names)
    assert list(by_name.classes_) == sorted(names)
    sparse = MLPClassifier(max_iter=3).fit(X, y * 10 - 7)
    assert set(sparse.predict(X[:20])) <= set(range(-7, 90, 10))


def test_paper_init_is_the_papers_draw(digits: Arrays) -> None:
    X, y = digits
    model = MLPClassifier(init="paper", max_iter=1, learning_rate_init=1e-12, random_state=0).fit(X, y)
    legacy = np.random.RandomState(0)
    for weight in model.coefs_:
        np.testing.assert_allclose(weight, legacy.randn(*weight.shape) / 1000, rtol=1e-6, atol=1e-9)


def test_step_schedule(digits: Arrays) -> None:
    X, y = digits
    model = MLPClassifier(max_iter=101, learning_rate="step", batch_size=1797).fit(X, y)
    assert model.history_["learning_rate"][99:] == pytest.approx([0.01, 0.001])


def test_same_state_same_bits_clone_and_pickle(digits: Arrays) -> None:
    X, y = digits
    model = MLPClassifier(max_iter=3, random_state=7).fit(X, y)
    twin = clone(model).fit(X, y)
    for a, b in zip(model.coefs_, twin.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    thawed = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(thawed.predict_proba(X), model.predict_proba(X))


def test_sits_in_a_pipeline(digits: Arrays) -> None:
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=20, learning_rate_init=0.1))
    assert cross_val_score(pipeline, X[:600], y[:600], cv=3).mean() > 0.8


@pytest.mark.parametrize("sizes", [(), (8,), (16, 8), (5, 4, 3)])
def test_any_number_of_hidden_layers(sizes: tuple[int, ...], digits: Arrays) -> None:
    X, y = digits
    model = MLPClassifier(sizes, max_iter=2).fit(X, y)
    assert len(model.coefs_) == len(sizes) + 1


@pytest.mark.parametrize(
    "wrong",
    [{"learning_rate": "fast"}, {"init": "zeros"}, {"max_iter": 0}, {"dtype": "float16"}, {"hidden_layer_sizes": (0,)}],
)
def test_impossible_parameters(wrong: dict[str, Any], digits: Arrays) -> None:
    assert issubclass(UsageError, ValueError)  # as scikit-learn's users expect
    with pytest.raises(UsageError):
        MLPClassifier(**wrong).fit(*digits)


def test_a_backend_that_is_not_there(digits: Arrays) -> None:
    with pytest.raises(UsageError, match="no backend 'jax'"):
        MLPClassifier(backend="jax").fit(*digits)
    if not probe("cupy").usable:
        with pytest.raises(BackendError, match="cupy cannot run here"):
            MLPClassifier(backend="cupy").fit(*digits)


def test_divergence_is_an_error_not_a_model(digits: Arrays) -> None:
    X, y = digits
    with pytest.raises(DivergedError):
        MLPClassifier(max_iter=5, learning_rate_init=1e4).fit(1e4 * X, y)
