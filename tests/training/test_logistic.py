"""Logistic regression: scikit-learn's minima, at any strength, on every backend."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from fastmlp.backends import Backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.network import descent
from fastmlp.network import logistic as objective_module
from fastmlp.network.logistic import Diagonal, LogisticObjective
from fastmlp.network.parameters import Parameters
from fastmlp.training.logistic import fit_logistic
from tests.backends.test_array_api import StrictBackend

STRENGTHS = (1e-6, 1e-2, 1.0, 1e2, 1e6)
NUMPY = NumpyBackend()
Data = tuple[np.ndarray, np.ndarray]


def draw(rows: int, width: int, classes: int, noise: float = 2.0, seed: int = 0) -> Data:
    """Features of different scales, and labels that a linear classifier guesses well, but for noise."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, width)) * np.exp(rng.standard_normal(width)) + rng.standard_normal(width)
    logits = features @ rng.standard_normal((width, classes)) + noise * rng.standard_normal((rows, classes))
    labels = logits.argmax(axis=1)
    labels[:classes] = np.arange(classes)
    return features, labels


def objective(data: Data, parameters: Parameters, strength: float, weights: np.ndarray | None = None) -> float:
    """That of scikit-learn's guide: C times the sum of losses plus half the squares, of one weight for two classes."""
    features, labels = data
    [weight], [bias] = parameters.weights, parameters.biases
    logits = features @ weight + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    counted = losses.sum() if weights is None else weights @ losses
    return float(strength * counted + np.sum(weight**2) * (1.0 if weight.shape[1] == 2 else 0.5))


def peer(data: Data, strength: float, weights: np.ndarray | None = None) -> tuple[Parameters, LogisticRegression]:
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    centre = data[0].mean(axis=0)  # the same objective, better conditioned
    model.fit(data[0] - centre, data[1], sample_weight=weights)
    model.intercept_ = model.intercept_ - model.coef_ @ centre
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] == 1:
        weight, bias = np.hstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Parameters((weight,), (bias,)), model


def assert_minimum(data: Data, parameters: Parameters, strength: float, weights: np.ndarray | None = None) -> None:
    reference, model = peer(data, strength, weights)
    got, best = (objective(data, each, strength, weights) for each in (parameters, reference))
    assert abs(got - best) <= 1e-8 * best
    predicted = (data[0] @ parameters.weights[0] + parameters.biases[0]).argmax(axis=1)
    probabilities = np.sort(model.predict_proba(data[0]), axis=1)
    clear = probabilities[:, -1] - probabilities[:, -2] > 1e-3  # at small C, all classes are nearly as probable
    np.testing.assert_array_equal(predicted[clear], model.predict(data[0])[clear])


KINDS: dict[str, Data] = {
    "tall": draw(400, 10, 3),
    "two classes": draw(200, 8, 2),
    "ten classes": draw(500, 12, 10),
    "a hundred classes": draw(300, 2, 100),
    "wide": draw(40, 120, 4),
    "separable": draw(150, 6, 3, noise=0.0),
    "unscaled": (draw(300, 6, 3)[0] * 10.0 ** np.arange(-3, 3) + 100, draw(300, 6, 3)[1]),
    "constant feature": (np.pad(draw(200, 4, 3)[0], ((0, 0), (0, 1)), constant_values=7), draw(200, 4, 3)[1]),
    "dependent features": (np.tile(draw(200, 4, 3)[0], 2), draw(200, 4, 3)[1]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*converge.*")
def test_the_minimum_is_scikit_learns_at_any_strength(kind: str) -> None:
    strengths = STRENGTHS[:: 2 if kind == "a hundred classes" else 1]  # of which the peer takes seconds
    fits = fit_logistic(NUMPY, *KINDS[kind], strengths, dtype="float64")
    assert all(fit.converged for fit in fits)
    for strength, fit in zip(strengths, fits, strict=True):
        assert_minimum(KINDS[kind], fit.parameters, strength)


def test_rows_are_weighted_as_scikit_learn_weights_them(rng: np.random.Generator) -> None:
    data = draw(200, 6, 3)
    weights = rng.choice([0.0, 0.5, 3.0], 200)
    [fit] = fit_logistic(NUMPY, *data, [0.5], weights=weights, dtype="float64")
    assert_minimum(data, fit.parameters, 0.5, weights)


def test_every_backend_finds_the_same_minima(backend: Backend) -> None:
    assert_all_minima(backend)


def test_the_array_api_standard_is_all_it_needs() -> None:
    assert_all_minima(StrictBackend())


def assert_all_minima(backend: Backend) -> None:
    data = draw(120, 6, 4)
    for strength, fit in zip(STRENGTHS, fit_logistic(backend, *data, STRENGTHS, dtype="float64"), strict=True):
        assert_minimum(data, fit.parameters, strength)


def test_one_strength_ends_where_it_ends_among_many() -> None:
    data, strengths = draw(200, 6, 3), np.geomspace(1e-3, 1e5, 21).tolist()
    for strength, fit in list(zip(strengths, fit_logistic(NUMPY, *data, strengths, dtype="float64"), strict=True))[::5]:
        [alone] = fit_logistic(NUMPY, *data, [strength], dtype="float64")
        assert objective(data, fit.parameters, strength) == pytest.approx(
            objective(data, alone.parameters, strength), rel=1e-8
        )


def test_strengths_come_back_in_the_order_given() -> None:
    given = [1.0, 1e-3, 1e2, 1e-3]
    assert [fit.strength for fit in fit_logistic(NUMPY, *draw(60, 4, 3), given)] == given


def test_parameters_have_the_dtype_asked_for() -> None:
    data = draw(150, 6, 3)
    exact, rounded = (fit_logistic(NUMPY, *data, [1.0], dtype=dtype)[0].parameters for dtype in ("float64", "float32"))
    assert (exact.dtype, rounded.dtype) == ("float64", "float32")
    np.testing.assert_array_equal(exact.weights[0].astype("float32"), rounded.weights[0])


def test_chunks_of_rows_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    data = draw(300, 6, 3)
    [whole] = fit_logistic(NUMPY, *data, [1.0], dtype="float64")
    monkeypatch.setattr(objective_module, "LEAST_ROWS", 7)
    monkeypatch.setattr(objective_module, "LOGITS", {"cpu": 1})
    [chunked] = fit_logistic(NUMPY, *data, [1.0], dtype="float64")
    assert chunked.loss == pytest.approx(whole.loss, rel=1e-9)


@pytest.mark.parametrize("precise", [True, False])
def test_gradients_and_curvatures_are_those_of_finite_differences(
    precise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = draw(50, 3, 4)
    at, shape, penalties = (
        LogisticObjective(NUMPY, features, labels, 4, np.full(50, 1 / 50)),
        (1, 4, 3),
        np.array([0.3]),
    )

    def loss(x: Any, precise: bool = True) -> Any:
        return at(x.reshape(shape), penalties, precise, curved=False)[0][0]

    def gradient(x: Any, precise: bool = precise) -> Any:
        return at(x.reshape(shape), penalties, precise, curved=False)[1].ravel()

    point = np.random.default_rng(1).standard_normal(12)
    assert check_grad(loss, gradient, point) < 1e-5
    steps = 1e-5 * np.eye(12)
    hessian = np.stack([(gradient(point + h, True) - gradient(point - h, True)) / 2e-5 for h in steps])
    curvatures: Any = at(point.reshape(shape), penalties, precise, curved=True)[2]
    monkeypatch.setattr(objective_module, "WHOLE", 0)
    diagonals: Any = at(point.reshape(shape), penalties, precise, curved=True)[2]
    change = np.array([[1.0], [2.0], [-4.0], [1.0]]) * np.ones((4, 3))  # in every column, of sum 0
    solved = curvatures[0].solve(change)
    np.testing.assert_allclose(solved.sum(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(hessian @ solved.ravel(), change.ravel(), rtol=1e-4, atol=1e-4)
    scaled = np.diag(hessian).reshape(4, 3) * diagonals[0].solve(change) - change
    np.testing.assert_allclose(diagonals[0].solve(change).sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled[:, :2], scaled[:1, :2] + np.zeros((4, 2)), rtol=1e-4, atol=1e-4)


def test_what_does_not_converge_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    fits = fit_logistic(NUMPY, *draw(100, 5, 3), [1.0, 1e4, 1e5], rounds=5)
    assert not any(fit.converged for fit in fits)
    err = capsys.readouterr().err
    assert "3 of 3 strengths did not converge in 5 rounds (C = 1, 10000, 100000)" in err
    assert err.count("converge") == 1


@pytest.mark.parametrize("strength", [0.0, -1.0, np.nan, np.inf])
def test_a_strength_that_is_not_positive_is_named(strength: float) -> None:
    with pytest.raises(UsageError, match=f"not {strength:g}"):
        fit_logistic(NUMPY, *draw(20, 3, 2), [1.0, strength])


@pytest.mark.parametrize(("labels", "said"), [([0] * 6, "one class"), ([0, 2] * 3, "Class 1 has no rows")])
def test_classes_without_rows_are_refused(labels: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit_logistic(NUMPY, np.eye(6), np.array(labels), [1.0])


def test_digits_are_classified_as_by_scikit_learn() -> None:
    features, labels = load_digits(return_X_y=True)
    data = features, labels
    [fit] = fit_logistic(NUMPY, *data, [0.01], dtype="float64")
    assert_minimum(data, fit.parameters, 0.01)


def test_a_step_that_overshoots_is_halved() -> None:
    class Steep(descent.Descent):
        def _newton_direction(self) -> Any:
            return 100 * super()._newton_direction()

    path = Steep(NUMPY.xp, np.zeros((2, 1)), 1.0)
    path.receive(1.0, np.array([[1.0], [-1.0]]), Diagonal(NUMPY.xp, np.ones((2, 1))))
    first = path.candidate
    path.receive(50.0, np.array([[-9.0], [9.0]]), None)
    np.testing.assert_allclose(path.candidate, first / 2)


def test_float32_that_sees_no_way_down_hands_over_to_float64() -> None:
    flat = np.zeros((2, 1))
    path = descent.Descent(NUMPY.xp, flat, 1.0)
    path.receive(1.0, np.array([[1.0], [-1.0]]), Diagonal(NUMPY.xp, np.ones((2, 1))))
    while not path.precise:
        assert path.rounds < 20
        path.receive(2.0, flat, None)
    np.testing.assert_array_equal(path.candidate, flat)
