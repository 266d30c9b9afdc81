"""preset="sklearn" and MLPRegressor train as scikit-learn does: the same numbers, but for rounding."""

import pickle
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.fixes import CSC_CONTAINERS, CSR_CONTAINERS

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.backends import probe
from fastmlp.common.errors import UsageError
from fastmlp.network.evaluation import ROWS
from tests.estimators import differences
from tests.estimators.differences import CASES, Case

TOLERANCE = 1e-6
# L-BFGS magnifies roundings from iteration to iteration, in scikit-learn as here: with other last bits in X, its own
# coefficients may differ by more.
TIMES_ITS_OWN = 10
DIGITS, CLASSES = load_digits(return_X_y=True)
X, Y = DIGITS[:120] / 16, CLASSES[:120]
WEIGHTS = np.random.default_rng(0).uniform(0.2, 3, len(Y))
KINDS = pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (partial(MLPClassifier, preset="sklearn", backend="numpy"), neural_network.MLPClassifier),
        (partial(MLPRegressor, backend="numpy"), neural_network.MLPRegressor),
    ],
    ids=["classifier", "regressor"],
)


@pytest.fixture(autouse=True)
def may_end_early() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("backend", differences.BACKENDS)
def test_every_solver_activation_and_rate(backend: str, case: Case) -> None:
    if not probe(backend).usable:
        pytest.skip(f"{backend} cannot run here")
    ours, theirs = differences.ours(case, backend), differences.theirs(case)
    own = TIMES_ITS_OWN * differences.sensitivity(case) if case.solver == "lbfgs" and backend != "numpy" else 0
    assert ours.n_iter_ == theirs.n_iter_
    assert differences.of_coefficients(ours, theirs) <= max(TOLERANCE, own)
    assert differences.of_losses(ours, theirs) <= max(TOLERANCE, own)


# Everything else that changes a training, on NumPy.

PLAIN: dict[str, Any] = {"hidden_layer_sizes": (9,), "max_iter": 12, "random_state": 0, "batch_size": 30}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {"hidden_layer_sizes": (100,), "batch_size": "auto"},
    "one number of units": {"hidden_layer_sizes": 7},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "in order": {"shuffle": False},
    "no momentum": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.01},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.01},
    "all momentum": {"solver": "sgd", "momentum": 1, "learning_rate_init": 1e-5},
    "other power": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2, "learning_rate_init": 0.1},
    "adaptive till the end": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10, "n_iter_no_change": 1,
                              "max_iter": 60, "learning_rate_init": 1e-3},
    "other moments": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "penalty": {"alpha": 5.0},
    "stops": {"tol": 0.5, "n_iter_no_change": 2, "max_iter": 100},
    "never stops": {"tol": 1e9, "n_iter_no_change": np.inf},
    "held out": {"early_stopping": True, "validation_fraction": 0.3, "learning_rate_init": 0.02, "max_iter": 40},
    "held out, adaptive": {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 0.1,
                           "n_iter_no_change": 2, "learning_rate_init": 0.01, "max_iter": 50},
    "few evaluations": {"solver": "lbfgs", "max_fun": 9},
    "to a gradient": {"solver": "lbfgs", "tol": 0.05, "max_iter": 500},
}  # fmt: skip
ATTRIBUTES = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")
NUMBERS = (
    "loss_",
    "loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
    "_no_improvement_count",
)


def assert_same(ours: Any, theirs: Any, rtol: float = 1e-9) -> None:
    """All that scikit-learn's fit leaves."""
    for name in (name for name in (*ATTRIBUTES, *NUMBERS) if hasattr(theirs, name)):
        mine, its = getattr(ours, name), getattr(theirs, name)
        if name in ATTRIBUTES or its is None:
            assert mine == its, name
        else:
            np.testing.assert_allclose(mine, its, rtol=rtol, err_msg=name)
            assert type(mine) is type(its) or isinstance(mine, float), name
    for mine, its in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        assert mine.dtype == its.dtype
        np.testing.assert_allclose(mine, its, rtol=0, atol=rtol * np.abs(its).max())
    assert not [name for name in vars(theirs) if name.endswith("_") and not hasattr(ours, name)]


@KINDS
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_every_option(ours: Any, theirs: Any, options: dict[str, Any], weights: Any) -> None:
    settings = {**PLAIN, **options}
    mine, its = (kind(**settings).fit(X, Y, sample_weight=weights) for kind in (ours, theirs))
    assert_same(mine, its)
    np.testing.assert_allclose(mine.predict(X), its.predict(X), rtol=1e-8)
    if hasattr(its, "predict_proba"):
        np.testing.assert_allclose(mine.predict_proba(X), its.predict_proba(X), rtol=1e-7)
        np.testing.assert_allclose(mine.predict_log_proba(X), its.predict_log_proba(X), rtol=1e-6, atol=1e-12)


@KINDS
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_warm_starts(ours: Any, theirs: Any, solver: str) -> None:
    mine, its = (kind(**PLAIN, solver=solver, warm_start=True) for kind in (ours, theirs))
    for _ in range(3):
        assert_same(mine.fit(X, Y), its.fit(X, Y))


@KINDS
@pytest.mark.parametrize("options", [{"solver": "sgd"}, {"solver": "adam"},
                                     {"solver": "sgd", "learning_rate": "adaptive", "tol": 9}], ids=str)  # fmt: skip
def test_partial_fits_on_parts_and_after_a_pickle(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    mine, its = (kind(**{**PLAIN, "n_iter_no_change": 3, **options}) for kind in (ours, theirs))
    first = {"classes": np.arange(10)} if hasattr(its, "predict_proba") else {}
    for start in (0, 40, 80, 0, 40, 80, 0, 40):
        part = X[start : start + 40], Y[start : start + 40]
        assert_same(mine.partial_fit(*part, **first), its.partial_fit(*part, **first))
        mine, first = pickle.loads(pickle.dumps(mine)), {}


@KINDS
def test_a_generator_is_left_where_scikit_learn_leaves_it(ours: Any, theirs: Any) -> None:
    left = []
    for kind in (ours, theirs):
        generator = np.random.RandomState(3)
        kind(**{**PLAIN, "random_state": generator, "early_stopping": True}).fit(X, Y)
        left.append(generator.randint(2**31, size=5).tolist())
    assert left[0] == left[1]


@KINDS
@pytest.mark.parametrize("container", [*CSR_CONTAINERS, *CSC_CONTAINERS])
@pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
def test_sparse_rows(ours: Any, theirs: Any, container: Any, options: dict[str, Any]) -> None:
    features = container(np.where(X > 0.6, X, 0))
    mine, its = (kind(**{**PLAIN, **options}).fit(features, Y) for kind in (ours, theirs))
    assert_same(mine, its)
    np.testing.assert_allclose(mine.predict(features), its.predict(features), rtol=1e-8)


@KINDS
@pytest.mark.parametrize("container", [np.asarray, *CSR_CONTAINERS, *CSC_CONTAINERS])
@pytest.mark.parametrize("rows", [1, ROWS, 2 * ROWS + 5])
def test_predictions_of_many_rows(ours: Any, theirs: Any, container: Any, rows: int) -> None:
    mine, its = (kind(**PLAIN).fit(X, Y) for kind in (ours, theirs))
    features = container(np.tile(X, (-(-rows // len(X)), 1))[:rows])
    np.testing.assert_allclose(mine.predict(features), its.predict(features), rtol=1e-12)


@pytest.mark.parametrize("backend", differences.BACKENDS)
def test_sparse_rows_on_every_backend(backend: str) -> None:
    if not probe(backend).usable:
        pytest.skip(f"{backend} cannot run here")
    features = CSR_CONTAINERS[0](np.where(X > 0.6, X, 0))
    mine = MLPClassifier(preset="sklearn", backend=backend, **PLAIN).fit(features, Y)
    assert_same(mine, neural_network.MLPClassifier(**PLAIN).fit(features, Y))


@KINDS
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_float32(ours: Any, theirs: Any, solver: str) -> None:
    """Of float32 features; scikit-learn computes a regressor's in float64 in part, so that digits differ."""
    mine, its = (kind(**PLAIN, solver=solver).fit(X.astype(np.float32), Y) for kind in (ours, theirs))
    assert_same(mine, its, rtol=1e-3 if solver == "lbfgs" else 1e-4)
    assert mine.predict(X.astype(np.float32)).dtype == its.predict(X.astype(np.float32)).dtype
    assert mine.predict(X).dtype == its.predict(X).dtype


@KINDS
@pytest.mark.parametrize("name", ["stops", "adaptive till the end", "held out", "held out, adaptive"])
def test_it_tells_the_same(ours: Any, theirs: Any, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for kind in (ours, theirs):
        kind(**{**PLAIN, **OPTIONS[name], "verbose": True}).fit(X, Y)
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "Iteration 1, loss = " in told[0]


def test_other_presets_tell_of_every_epoch_too(capsys: pytest.CaptureFixture[str]) -> None:
    model = MLPClassifier(backend="numpy", max_iter=3, verbose=True).fit(X, Y)
    lines = [f"Iteration {epoch}, loss = {loss:.8f}" for epoch, loss in enumerate(model.loss_curve_, start=1)]
    assert capsys.readouterr().out.splitlines() == lines


# What is ours.


def test_defaults_are_scikit_learns() -> None:
    theirs = neural_network.MLPRegressor().get_params()
    assert {name: MLPRegressor().get_params()[name] for name in theirs} == theirs
    settings = neural_network.MLPClassifier(random_state=0)
    assert_same(MLPClassifier(preset="sklearn", backend="numpy").fit(X, Y), settings.fit(X, Y))


@KINDS
def test_coefficients_that_a_user_sets_count(ours: Any, theirs: Any) -> None:
    mine, its = (kind(**PLAIN).fit(X, Y) for kind in (ours, theirs))
    for model in (mine, its):
        model.coefs_[0] = -model.coefs_[0]
    np.testing.assert_allclose(mine.predict(X), its.predict(X))
    assert_same(mine.partial_fit(X, Y), its.partial_fit(X, Y))


def test_another_preset_starts_anew() -> None:
    model = MLPClassifier(preset="sklearn", backend="numpy", warm_start=True, max_iter=2, random_state=0).fit(X, Y)
    model.set_params(preset="tabular").fit(X, Y)
    fresh = MLPClassifier(backend="numpy", max_iter=2).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), fresh.predict_proba(X))
    assert {name for name in vars(model) if name.endswith("_")} == {name for name in vars(fresh) if name.endswith("_")}
    model.set_params(preset="sklearn").fit(X, Y)
    assert_same(model, neural_network.MLPClassifier(max_iter=2, random_state=0).fit(X, Y))


def test_class_weights_multiply_sample_weights() -> None:
    shares = {label: 1.0 + label for label in range(10)}
    options: dict[str, Any] = {"preset": "sklearn", "backend": "numpy", **PLAIN}
    weighed = MLPClassifier(class_weight=shares, **options).fit(X, Y, sample_weight=WEIGHTS)
    assert_same(weighed, neural_network.MLPClassifier(**PLAIN).fit(X, Y, sample_weight=WEIGHTS * (1 + Y)))


def test_what_it_refuses() -> None:
    model = MLPClassifier(preset="sklearn", backend="numpy", **PLAIN)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X, Y, sample_weight=[1.0])
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(UsageError, match="partial_fit does not support early_stopping=True"):
        MLPRegressor(early_stopping=True).partial_fit(X, Y)
    with pytest.raises(UsageError, match="All rows of a batch have weight 0"):
        MLPRegressor(backend="numpy", batch_size=1).fit(X, Y, sample_weight=(Y > 0).astype(float))
    several = np.stack([Y > 3, Y % 2], axis=1).astype(int)
    with pytest.raises(UsageError, match=r"^class_weight must be None where rows have several labels"):
        MLPClassifier(preset="sklearn", class_weight="balanced", backend="numpy").fit(X, several)
    with pytest.raises(UsageError, match=r'A model folder holds no network of preset="sklearn"'):
        model.fit(X, Y).save("nowhere")
    assert not hasattr(MLPClassifier(preset="sklearn", solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(solver="lbfgs"), "partial_fit")


def test_an_interrupt_ends_the_training_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastmlp.training import as_sklearn

    def interrupted(*arguments: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(as_sklearn, "_watch", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPRegressor(backend="numpy", **PLAIN).fit(X, Y)
    assert len(model.loss_curve_) == model.n_iter_ == 1


@KINDS
@pytest.mark.parametrize("options", [{"max_iter": 2}, {"solver": "lbfgs", "max_iter": 2}], ids=str)
def test_the_warnings_kind_and_place(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    with pytest.warns(ConvergenceWarning) as caught:
        ours(**{**PLAIN, **options}).fit(X, Y)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="batch_size=500 is more than the 120 rows") as caught:
        ours(**{**PLAIN, "batch_size": 500, "n_iter_no_change": 1, "tol": 9}).fit(X, Y)
    assert [warning.filename for warning in caught] == [__file__]
