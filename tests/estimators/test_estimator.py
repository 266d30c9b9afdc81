"""MLPClassifier as scikit-learn's users use it."""

import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier
from fastmlp.backends import open_backend, probe
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import BackendError, UsageError
from fastmlp.estimators import by_preset
from fastmlp.estimators.rows import Rows
from fastmlp.kernels import EpochKind
from fastmlp.network.parameters import initial_parameters
from fastmlp.training.loop import DivergedError, train
from fastmlp.training.recipe import PRESETS
from fastmlp.training.samples import Samples

Arrays = tuple[np.ndarray, np.ndarray]

# Many trainings here are too short, or too slow, to learn anything.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def digits() -> Arrays:
    features, labels = load_digits(return_X_y=True)
    return features / 16, labels


def quick(**parameters: Any) -> MLPClassifier:
    return MLPClassifier(**{"backend": "numpy", "max_iter": 5, **parameters})


def assert_same_weights(a: MLPClassifier, b: MLPClassifier) -> None:
    for x, y in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_], strict=True):
        np.testing.assert_array_equal(x, y)


# Learning.


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "cupy"])
def test_learns_digits_on_every_backend(name: str, digits: Arrays) -> None:
    if not probe(name).usable:
        pytest.skip(probe(name).reason)
    X, y = digits
    model = MLPClassifier(backend=name, max_iter=20).fit(X[:1200], y[:1200])
    assert model.score(X[1200:], y[1200:]) > 0.9
    assert open_backend(name).name == model.backend_.partition(":")[0]
    assert len(model.loss_curve_) == model.n_iter_ == 20
    assert model.loss_ == model.loss_curve_[-1] < 0.1 * model.loss_curve_[0]
    assert [w.shape for w in model.coefs_] == [(64, 256), (256, 10)]
    assert [b.shape for b in model.intercepts_] == [(256,), (10,)]


def test_the_way_that_was_measured_to_be_fastest_is_told(monkeypatch: pytest.MonkeyPatch, digits: Arrays) -> None:
    class Ranked(NumpyBackend):
        def fastest(self, kind: EpochKind) -> NumpyBackend:
            chosen = NumpyBackend()
            chosen.way = f"the way for {kind.sizes[-1]} classes"
            return chosen

    monkeypatch.setattr(by_preset, "backend_for", lambda *_: Ranked())
    assert quick(max_iter=1).fit(*digits).backend_ == "numpy, the way for 10 classes"


@pytest.mark.parametrize(
    ("load", "least"),
    [(load_iris, 0.93), (load_wine, 0.96), (load_breast_cancer, 0.96)],
    ids=["iris", "wine", "cancer"],
)
def test_defaults_train_well_on_data_of_any_scale(load: Any, least: float) -> None:
    X, y = load(return_X_y=True)
    shift, scale = np.linspace(-50, 50, X.shape[1]), np.logspace(-3, 3, X.shape[1])
    accuracy = cross_val_score(MLPClassifier(), shift + scale * X, y, cv=5).mean()
    assert accuracy > least


def test_the_papers_preset_is_the_papers_training(digits: Arrays) -> None:
    """Spelled out as in the docstring, and by its name alone: the same bits as the trainer."""
    X, y = digits[0].astype("f4"), digits[1]
    backend = open_backend("numpy")
    recipe = PRESETS["paper"].changed(epochs=3)
    network = recipe.network(initial_parameters((64, 64, 10), "paper", 0), backend)
    train(network, Samples.place(backend, X, y, "float32"), recipe, 0)
    spelled_out = MLPClassifier(
        hidden_layer_sizes=(64,), preset="paper", backend="numpy", max_iter=3, batch_size=64, learning_rate_init=0.01,
        init="paper", shuffle=True, random_state=0, dtype="float32",
    ).fit(X, y)  # fmt: skip
    named = MLPClassifier(preset="paper", backend="numpy", max_iter=3).fit(X, y)
    assert_same_weights(named, spelled_out)
    for got, expected in zip(named.coefs_, network.parameters.weights, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_paper_init_is_the_papers_draw(digits: Arrays) -> None:
    model = quick(preset="paper", max_iter=1, learning_rate_init=1e-12).fit(*digits)
    legacy = np.random.RandomState(0)
    for weight in model.coefs_:
        np.testing.assert_allclose(weight, legacy.randn(*weight.shape) / 1000, rtol=1e-6, atol=1e-9)


def test_schedules(digits: Arrays) -> None:
    X, y = digits
    step = quick(preset="paper", max_iter=101, batch_size=1797).fit(X, y)
    assert step.history_["learning_rate"][99:] == pytest.approx([0.01, 0.001])
    constant = quick(learning_rate="constant", learning_rate_init=0.003).fit(X, y)
    assert constant.history_["learning_rate"] == [0.003] * 5


def test_coefs_are_the_network_for_features_as_they_come() -> None:
    X, y = load_wine(return_X_y=True)
    model = quick(hidden_layer_sizes=(8,), dtype="float64").fit(X, y)
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    logits = hidden @ model.coefs_[1] + model.intercepts_[1]
    shifted = logits - logits.max(axis=1, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_log_proba(X), expected, rtol=1e-9, atol=1e-12)
    scaled = quick(hidden_layer_sizes=(8,), dtype="float64", standardize=False)
    Z = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(scaled.fit(Z, y).predict_proba(Z), model.predict_proba(X), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_alpha_shrinks_the_weights_as_documented(solver: str, digits: Arrays) -> None:
    """Zero features: the loss has no gradient in the first weights, and only the decay moves them."""
    y = digits[1]
    X = np.zeros((len(y), 3))
    model = quick(
        solver=solver, alpha=6.4, batch_size=64, learning_rate="constant", learning_rate_init=0.5, max_iter=2,
        init="he", standardize=False, dtype="float64", hidden_layer_sizes=(4,),
    ).fit(X, y)  # fmt: skip
    steps = 2 * -(-len(y) // 64)
    first = initial_parameters((3, 4, 10), "he", 0, "float64").weights[0]
    np.testing.assert_allclose(model.coefs_[0], first * (1 - 0.5 * 6.4 / 64) ** steps, rtol=1e-9)


@pytest.mark.parametrize("sizes", [(), (8,), (16, 8), (5, 4, 3), 7, [6]])
def test_any_number_of_hidden_layers(sizes: Any, digits: Arrays) -> None:
    model = quick(hidden_layer_sizes=sizes, max_iter=2).fit(*digits)
    assert len(model.coefs_) == len(np.atleast_1d(sizes)) + 1


# Labels and probabilities.


def test_probabilities_and_predictions_belong_together(digits: Arrays) -> None:
    X, y = digits
    model = quick().fit(X, y)
    probabilities = model.predict_proba(X[:50])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(X[:50]))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X[:50])), probabilities, rtol=1e-5, atol=1e-7)
    assert np.isfinite(model.predict_log_proba(1e4 * X[:50])).all()


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]),
        np.array([f"n{i}" for i in range(10)], dtype=object),
        10 * np.arange(10) - 7,
        np.arange(10) % 2 == 0,
        np.arange(10.0) % 3,
    ],
    ids=["strings", "objects", "sparse", "booleans", "whole floats"],
)
def test_labels_of_any_kind(labels: np.ndarray, digits: Arrays) -> None:
    X, y = digits
    model = quick().fit(X, labels[y])
    assert list(model.classes_) == sorted(set(labels.tolist()))
    assert set(model.predict(X).tolist()) <= set(labels.tolist())
    assert model.score(X, labels[y]) > 0.8


# Weights.


def test_class_weights_multiply_sample_weights(digits: Arrays) -> None:
    X, y = digits
    by_class = quick(class_weight={3: 5.0}).fit(X, y)
    by_row = quick().fit(X, y, sample_weight=np.where(y == 3, 5.0, 1.0))
    assert_same_weights(by_class, by_row)
    both = quick(class_weight={3: 2.0}).fit(X, y, sample_weight=np.where(y == 3, 5.0, 2.0))
    assert_same_weights(both, by_row)


def test_balanced_classes_weigh_the_same() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [380, 20])
    X = rng.standard_normal((400, 3)) + 0.8 * y[:, None]
    recall = [
        (quick(class_weight=weight, max_iter=20).fit(X, y).predict(X[y == 1]) == 1).mean()
        for weight in (None, "balanced")
    ]
    assert recall[1] > recall[0] + 0.2


def test_equal_weights_and_rows_without_weight_change_nothing(digits: Arrays) -> None:
    X, y = digits
    some = y != 4
    part = quick().fit(X[some], y[some])
    assert_same_weights(quick().fit(X[some], y[some], sample_weight=np.full(some.sum(), 0.1)), part)
    weighted = quick().fit(X, y, sample_weight=3.0 * some)
    np.testing.assert_array_equal(weighted.classes_, np.arange(10))
    np.testing.assert_allclose(weighted.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    assert not (weighted.predict(X[some]) == 4).any()


# Several fits.


def test_partial_fit_continues(digits: Arrays) -> None:
    X, y = digits
    model = quick()
    for epoch in range(1, 11):
        for part in (slice(0, 800), slice(800, 1600)):
            model.partial_fit(X[part], y[part], classes=np.arange(10))
        assert model.n_iter_ == len(model.loss_curve_) == 2 * epoch
    assert model.score(X[1600:], y[1600:]) > 0.85
    assert model.history_["learning_rate"] == [0.005] * 20


def test_partial_fit_is_the_same_after_pickling(digits: Arrays) -> None:
    """Weights, Adam's moments and its step count are all pickled."""
    X, y = digits
    model = quick().fit(X, y)
    thawed = pickle.loads(pickle.dumps(model))
    assert_same_weights(thawed.partial_fit(X, y), model.partial_fit(X, y))
    assert model.n_iter_ == 6


def test_partial_fit_of_classes_not_yet_seen(digits: Arrays) -> None:
    X, y = digits
    model = quick().partial_fit(X[y < 5], y[y < 5], classes=range(10))
    np.testing.assert_array_equal(model.classes_, np.arange(10))
    with pytest.raises(UsageError, match="needs classes"):
        quick().partial_fit(X, y)
    with pytest.raises(UsageError, match="not among the classes"):
        quick().partial_fit(X, y, classes=range(9))
    with pytest.raises(UsageError, match="features, hidden layers, classes, solver"):
        model.partial_fit(X, y, classes=range(11))
    with pytest.raises(UsageError, match="sees only part of the data"):
        quick(class_weight="balanced").partial_fit(X, y, classes=range(10))


def test_warm_start_continues_and_fit_starts_over(digits: Arrays) -> None:
    X, y = digits
    warm = quick(warm_start=True).fit(X, y)
    first = warm.loss_curve_[0]
    assert warm.fit(X, y).loss_curve_[0] < 0.1 * first
    assert warm.n_iter_ == 5
    cold = quick().fit(X, y)
    assert_same_weights(clone(cold).fit(X, y), cold.fit(X, y))
    with pytest.raises(UsageError, match="need the features, hidden layers"):
        warm.fit(X[:, :9], y)


@pytest.mark.parametrize("preset", ["tabular", "paper"])
def test_warm_start_resumes_where_it_stopped(preset: str, digits: Arrays) -> None:
    X, y = digits
    options: dict[str, Any] = {"preset": preset, "learning_rate": "constant", "shuffle": False}
    warm = quick(warm_start=True, max_iter=2, **options).fit(X, y).fit(X, y)
    assert_same_weights(warm, quick(max_iter=4, **options).fit(X, y))


def test_early_stopping_keeps_the_best_epoch(digits: Arrays) -> None:
    X, y = digits
    model = quick(early_stopping=True, max_iter=60, n_iter_no_change=3, tol=0.001, learning_rate="constant").fit(X, y)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ < 60
    assert model.best_validation_score_ == max(scores) > 0.9
    assert max(scores[-4:]) < max(scores) + 0.001  # it has not risen for over 3 epochs
    shorter = quick(early_stopping=True, max_iter=int(np.argmax(scores)) + 1, learning_rate="constant").fit(X, y)
    assert_same_weights(model, shorter)


def test_early_stopping_weighs_the_held_out_rows(digits: Arrays) -> None:
    """Two halves that contradict each other: the one with the weight is right."""
    X, y = np.concatenate([digits[0]] * 2), np.concatenate([digits[1], 9 - digits[1]])
    weights = np.repeat([1.0, 1e-6], len(digits[1]))
    model = quick(early_stopping=True).fit(X, y, sample_weight=weights)
    assert model.best_validation_score_ > 0.8


# In scikit-learn's company.


def test_same_state_same_bits_clone_and_pickle(digits: Arrays) -> None:
    X, y = digits
    model = MLPClassifier(max_iter=3, random_state=7).fit(X, y)
    assert_same_weights(clone(model).fit(X, y), model)
    thawed = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(thawed.predict_proba(X), model.predict_proba(X))


def test_random_states(digits: Arrays) -> None:
    X, y = digits
    drawn = [quick(random_state=np.random.RandomState(3)).fit(X, y) for _ in range(2)]
    assert_same_weights(*drawn)
    free = [quick(random_state=None).fit(X, y) for _ in range(2)]
    assert not np.array_equal(free[0].coefs_[0], free[1].coefs_[0])


def test_sits_in_a_pipeline(digits: Arrays) -> None:
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), quick(max_iter=20)).set_output(transform="default")
    assert cross_val_score(pipeline, X[:600], y[:600], cv=3).mean() > 0.8


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_grid_search_in_two_processes_and_joblib(digits: Arrays, tmp_path: Any) -> None:
    X, y = digits[0][:300], digits[1][:300]
    search = GridSearchCV(quick(), {"alpha": [0.0, 10.0], "hidden_layer_sizes": [(8,)]}, n_jobs=2, cv=2).fit(X, y)
    serial = GridSearchCV(quick(), {"alpha": [0.0, 10.0], "hidden_layer_sizes": [(8,)]}, cv=2).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])
    path = tmp_path / "model.joblib"
    joblib.dump(search.best_estimator_, path)
    np.testing.assert_array_equal(joblib.load(path).predict(X), search.predict(X))


def test_calibrated(digits: Arrays) -> None:
    X, y = digits
    calibrated = CalibratedClassifierCV(quick(max_iter=20), cv=2).fit(X[:1200], y[:1200])
    assert calibrated.score(X[1200:], y[1200:]) > 0.85
    np.testing.assert_allclose(calibrated.predict_proba(X[:9]).sum(axis=1), 1, rtol=1e-5)


def test_sample_weight_is_routed(digits: Arrays) -> None:
    X, y = digits
    weights = np.where(y == 3, 50.0, 0.1)
    with config_context(enable_metadata_routing=True):
        model = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        routed = pipeline.fit(X, y, sample_weight=weights)[-1]
        scorer = get_scorer("accuracy").set_score_request(sample_weight=True)  # before 1.8 a Pipeline's own takes none
        result = cross_validate(pipeline, X, y, cv=3, scoring=scorer, params={"sample_weight": weights})
    Z = StandardScaler().fit_transform(X)
    assert_same_weights(routed, quick().fit(Z, y, sample_weight=weights))
    assert np.isfinite(result["test_score"]).all()


def test_pandas_frames(digits: Arrays) -> None:
    pandas = pytest.importorskip("pandas")
    check_frames(pandas.DataFrame(digits[0][:, :9], columns=list("abcdefghi")), pandas.Series(digits[1]), digits)


def test_polars_frames(digits: Arrays) -> None:
    polars = pytest.importorskip("polars")
    check_frames(polars.DataFrame(digits[0][:, :9], schema=list("abcdefghi")), polars.Series(digits[1]), digits)


def check_frames(X: Any, y: Any, digits: Arrays) -> None:
    model = quick().fit(X, y)
    assert list(model.feature_names_in_) == list("abcdefghi")
    plain = quick().fit(digits[0][:, :9], digits[1])
    assert_same_weights(model, plain)
    np.testing.assert_array_equal(model.predict(X), plain.predict(digits[0][:, :9]))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[list("ihgfedcba")])


# Mistakes.


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": "fast"}, {"init": "zeros"}, {"max_iter": 0}, {"dtype": "float16"},
        {"hidden_layer_sizes": (0,)}, {"hidden_layer_sizes": (2.5,)}, {"preset": "none"}, {"solver": "lbfgs"},
        {"alpha": -1.0}, {"batch_size": 0}, {"early_stopping": True, "validation_fraction": 1.5},
        {"class_weight": {3: -1.0}},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_parameters(wrong: dict[str, Any], digits: Arrays) -> None:
    assert issubclass(UsageError, ValueError)  # as scikit-learn's users expect
    with pytest.raises(UsageError):
        MLPClassifier(backend="numpy", **wrong).fit(*digits)


def test_mistakes_are_named_with_their_fix(digits: Arrays) -> None:
    X, y = digits
    with pytest.raises(UsageError, match=r"FeatureExtractor before the classifier .* or flatten them"):
        quick().fit(np.zeros((5, 3, 32, 32), np.uint8), y[:5])
    with pytest.raises(UsageError, match=r"one-hot rows, pass y.argmax\(axis=1\)"):
        quick().fit(X, np.eye(10)[y])
    with pytest.raises(ValueError, match="Unknown label type"):
        quick().fit(X, y + 0.5)
    with pytest.raises(UsageError, match=r"cannot hold out 0.1 of 5 rows .*early_stopping=False"):
        quick(early_stopping=True).fit(X[:5], y[:5])
    with pytest.raises(ValueError, match=r"[Ww]eights .*zero"):
        quick().fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(UsageError, match="All rows have weight 0"):
        quick(class_weight=dict.fromkeys(range(10), 0)).fit(X, y)
    with pytest.raises(UsageError, match="must not be negative"):
        quick().fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(X, y[:-1])
    with pytest.warns(DataConversionWarning, match="column-vector"):
        quick(max_iter=1).fit(X, y[:, None])


def test_a_backend_that_is_not_there(digits: Arrays) -> None:
    with pytest.raises(UsageError, match=r"backend must be .*, not 'jax'"):
        MLPClassifier(backend="jax").fit(*digits)
    if not probe("cupy").usable:
        with pytest.raises(BackendError, match="cupy cannot run here"):
            MLPClassifier(backend="cupy").fit(*digits)


def test_divergence_is_an_error_not_a_model(digits: Arrays) -> None:
    X, y = digits
    model = quick(preset="paper", learning_rate_init=1e4)
    with (
        pytest.warns(UserWarning, match=r"^The features are of the size of .*, and may not train well: standardise"),
        pytest.raises(DivergedError, match=r"lower the learning rate .* or scale the features"),
    ):
        model.fit(1e4 * X, y)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize(
    ("weights", "copies"),
    [([1, 1, 1], 3), ([1, 2, 4], 7), ([2, 4, 8], 7), ([5, 5, 5], 3), ([0.5, 1, 2], 3), ([1, 2, 1e-9], 3)],
)
def test_whole_weights_are_copies_of_rows_whatever_factor_they_share(weights: list[float], copies: int) -> None:
    assert Rows(np.zeros((3, 2)), np.zeros(3, np.int64), np.array(weights, float)).copies == copies
