"""scikit-learn's classes, trained by ours once it is installed: who has them, what travels, what is refused."""

import logging
import multiprocessing
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor, _base
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron as Base
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp.accel
from fastmlp import MLPClassifier as OwnClassifier
from fastmlp.accel import refusal
from fastmlp.common.errors import UsageError

X, Y = make_classification(60, 5, random_state=0)
SHORT: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
SOLVERS = ("adam", "sgd", "lbfgs")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OWN = dict(vars(Base))  # scikit-learn's methods, before anything is installed


@pytest.fixture(autouse=True)
def leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(refusal, "_said", set())
    yield
    fastmlp.accel.uninstall()
    assert {name: vars(Base)[name] for name in OWN} == OWN


@pytest.fixture
def installed() -> None:
    fastmlp.accel.install("numpy")


@pytest.fixture
def is_ours(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[Any], bool]]:
    """Whether fastmlp trained an estimator that has been fitted since the last call: is_ours(model.fit(X, y))."""
    seen: list[logging.LogRecord] = []

    def found(estimator: Any) -> bool:
        new = [record for record in caplog.records if record not in seen]
        seen.extend(new)
        return any(f"{type(estimator).__name__} trained by fastmlp" in record.getMessage() for record in new)

    with caplog.at_level(logging.INFO, "fastmlp.accel"):
        yield found


# Installing.


def test_the_classes_stay_scikit_learns(is_ours: Any, installed: None) -> None:
    assert fastmlp.accel.is_installed()
    assert MLPClassifier is vars(__import__("sklearn.neural_network").neural_network)["MLPClassifier"]
    assert repr(MLPClassifier(alpha=1)) == "MLPClassifier(alpha=1)"
    assert is_ours(MLPClassifier(**SHORT).fit(X, Y))
    assert is_ours(MLPRegressor(**SHORT).fit(X, Y))


def test_uninstalled_scikit_learn_trains_again(is_ours: Any, installed: None) -> None:
    model = MLPClassifier(**SHORT).fit(X, Y)
    assert is_ours(model)
    fastmlp.accel.uninstall()
    fastmlp.accel.uninstall()
    assert not fastmlp.accel.is_installed()
    assert not is_ours(model.fit(X, Y))
    assert not is_ours(MLPClassifier(**SHORT).fit(X, Y))


def test_the_last_backend_counts(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("torch")
    backends = ("numpy", "torch", "numpy")
    with caplog.at_level(logging.INFO, "fastmlp.accel"):
        for backend in backends:
            fastmlp.accel.install(backend)
            MLPClassifier(**SHORT).fit(X, Y)
    assert [message.partition(", ")[2].partition(":")[0] for message in caplog.messages] == list(backends)


@pytest.mark.parametrize("name", ["nunpy", "", "numpy.linalg"])
def test_an_unknown_backend_changes_nothing(name: str) -> None:
    with pytest.raises(UsageError, match="There is no backend"):
        fastmlp.accel.install(name)
    assert not fastmlp.accel.is_installed()


def test_threads_may_install_while_others_fit() -> None:
    def change(times: int) -> None:
        for _ in range(times):
            fastmlp.accel.install("numpy")
            fastmlp.accel.uninstall()

    expected = MLPClassifier(**SHORT).fit(X, Y).coefs_[0]
    threads = [threading.Thread(target=change, args=(50,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    found = [MLPClassifier(**SHORT).fit(X, Y).coefs_[0] for _ in range(10)]
    for thread in threads:
        thread.join()
    for coefs in found:
        np.testing.assert_allclose(coefs, expected, rtol=1e-9)


# What is trained.


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_all_that_a_fit_leaves_is_as_without(kind: type, solver: str) -> None:
    def trained() -> dict[str, Any]:
        return vars(kind(**SHORT, solver=solver).fit(X, Y))

    theirs = trained()
    fastmlp.accel.install("numpy")
    ours = trained()
    assert ours.keys() == theirs.keys()
    assert all(isinstance(theirs[name], type(value)) for name, value in ours.items())
    for mine, its in zip(ours["coefs_"], theirs["coefs_"], strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-9)
    assert ours["loss_"] == pytest.approx(theirs["loss_"], rel=1e-9)
    assert ours["n_iter_"] == theirs["n_iter_"]


@pytest.mark.parametrize("setting", [{}, {"solver": "sgd", "learning_rate": "invscaling"}, {"beta_1": 0.5}])
def test_either_goes_on_with_what_the_other_began(setting: dict[str, Any]) -> None:
    """And with the constants of the first call, as scikit-learn does."""

    def after_calls(*ours: bool) -> Any:
        model = MLPClassifier(**SHORT, **setting)
        for call, mine in enumerate(ours):
            fastmlp.accel.install("numpy") if mine else fastmlp.accel.uninstall()
            model.partial_fit(X, Y, classes=[0, 1])
            model.set_params(learning_rate_init=0.1 * (call + 1), momentum=0.5, beta_1=0.8)
        return model

    expected = after_calls(False, False, False)
    for order in ((True, True, True), (True, False, True), (False, True, False)):
        found = after_calls(*order)
        np.testing.assert_allclose(found.coefs_[0], expected.coefs_[0], rtol=1e-9)
        assert vars(found._optimizer).keys() == vars(expected._optimizer).keys()
        assert found._optimizer.learning_rate == pytest.approx(expected._optimizer.learning_rate)


@pytest.mark.parametrize("solver", SOLVERS)
def test_filters_for_warnings_of_scikit_learn_still_hold(installed: None, solver: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="sklearn")
        MLPClassifier(**SHORT, solver=solver, batch_size=100).fit(X, Y)


@pytest.mark.parametrize(
    ("solver", "text"), [("adam", "Stochastic Optimizer: Maximum iterations (3) reached"), ("lbfgs", "lbfgs failed to")]
)
def test_warnings_begin_as_scikit_learns(installed: None, solver: str, text: str) -> None:
    with pytest.warns(ConvergenceWarning, match=re.escape(text)):
        MLPClassifier(**SHORT, solver=solver).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match=re.escape(text)):
        OwnClassifier(**SHORT, solver=solver, preset="sklearn", backend="numpy").fit(X, Y)


def test_partial_fit_with_early_stopping_is_scikit_learns_error(installed: None) -> None:
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        MLPClassifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1])


def test_an_interrupt_before_the_first_epoch_is_over(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastmlp.training.as_sklearn.train_epoch", interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier(**SHORT).fit(X, Y)
    assert model.n_iter_ == 0
    assert model.loss_curve_ == []


# What travels.


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_pickle_has_nothing_of_ours(is_ours: Any, installed: None, solver: str) -> None:
    model = MLPClassifier(**SHORT, solver=solver).fit(X, Y)
    data = pickle.dumps(model)
    assert is_ours(model)
    assert b"fastmlp" not in data
    fastmlp.accel.uninstall()
    loaded = pickle.loads(data)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert not is_ours(loaded.fit(X, Y))


def test_what_was_pickled_before_is_accelerated_after(is_ours: Any) -> None:
    data = pickle.dumps(MLPClassifier(**SHORT).fit(X, Y))
    fastmlp.accel.install("numpy")
    assert is_ours(pickle.loads(data).fit(X, Y))


def test_copies_in_searches_and_pipelines(is_ours: Any, installed: None) -> None:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(**SHORT)), {"mlpclassifier__alpha": [1, 2]}, cv=2
    )
    assert is_ours(clone(search).fit(X, Y).best_estimator_[-1])


def fitted(number: int) -> bool:
    """In a process that has imported nothing of ours by itself."""
    MLPClassifier(**SHORT).fit(X, Y)
    return fastmlp.accel.is_installed()


@pytest.fixture
def no_workers() -> Iterator[None]:
    """Before the test and after it."""
    get_reusable_executor(max_workers=1).shutdown(wait=True)
    yield
    get_reusable_executor(max_workers=1).shutdown(wait=True)


def test_workers_of_joblib_inherit_it(no_workers: None) -> None:
    fastmlp.accel.install("numpy")
    assert Parallel(n_jobs=2)(delayed(fitted)(number) for number in range(2)) == [True, True]


def test_workers_of_multiprocessing_inherit_it(installed: None) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(fitted, range(1)) == [True]


def test_workers_that_run_already_are_told_of(no_workers: None, caplog: pytest.LogCaptureFixture) -> None:
    get_reusable_executor(max_workers=1)
    fastmlp.accel.install("numpy")
    assert "install before they start" in warned(caplog)[0]


# What is refused.


def overriding(name: str) -> type:
    """A user's class that has a method of its own, which does what scikit-learn's does."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(kind, self), name)(*args, **kwargs)

    kind = type("Own", (MLPClassifier,), {name: method})
    return kind


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("name", [name for name in refusal.CALLED if hasattr(MLPClassifier, name)])
def test_a_subclass_with_its_own_training_keeps_it(
    is_ours: Any, installed: None, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert not is_ours(overriding(name)(**SHORT).fit(X, Y))
    assert warned(caplog) == [f"fastmlp.accel: Own is trained by scikit-learn itself: it has {name} of its own."]


def test_a_subclass_with_other_methods_is_accelerated(is_ours: Any, installed: None) -> None:
    assert is_ours(overriding("_validate_input")(**SHORT).fit(X, Y))
    assert is_ours(overriding("_init_coef")(**SHORT).fit(X, Y))
    assert is_ours(overriding("_fit_stochastic")(**SHORT).fit(X, Y))


def test_a_method_put_into_one_estimator(is_ours: Any, installed: None, caplog: pytest.LogCaptureFixture) -> None:
    model = MLPClassifier(**SHORT)
    model._backprop = lambda *args: Base._backprop(model, *args)
    assert not is_ours(model.fit(X, Y))
    assert "_backprop" in warned(caplog)[0]


@pytest.mark.parametrize(
    ("table", "name", "words"),
    [
        ("ACTIVATIONS", "relu", "activation"),
        ("DERIVATIVES", "relu", "activation"),
        ("LOSS_FUNCTIONS", "log_loss", "loss"),
    ],
)
def test_functions_put_into_scikit_learns_tables(
    is_ours: Any,
    installed: None,
    table: str,
    name: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = getattr(_base, table)[name]
    monkeypatch.setitem(getattr(_base, table), name, partial(own))
    assert not is_ours(MLPClassifier(**SHORT).fit(X, Y))
    assert words in warned(caplog)[0]


def test_an_optimizer_of_another_solver(is_ours: Any, installed: None, caplog: pytest.LogCaptureFixture) -> None:
    model = MLPClassifier(**SHORT).partial_fit(X, Y, classes=[0, 1])
    assert is_ours(model)
    assert not is_ours(model.set_params(solver="sgd").partial_fit(X, Y))
    assert "optimizer" in warned(caplog)[0]


def test_numba_without_its_compiler(
    is_ours: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fastmlp.accel.install("numba")
    monkeypatch.setattr("fastmlp.kernels.cpu.jit.is_compiled", lambda kernel: False)
    assert not is_ours(MLPClassifier(**SHORT).fit(X, Y))
    assert "NUMBA_DISABLE_JIT" in warned(caplog)[0]


@pytest.mark.parametrize("name", ["_fit_stochastic", "_fit_lbfgs"])
def test_classes_built_otherwise(name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Base, name, lambda self, batches: None)
        fastmlp.accel.install("numpy")
        assert not fastmlp.accel.is_installed()
    assert "has MLPs that fastmlp does not know" in warned(caplog)[0]


def test_it_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for text in ("one", "two", "one"):
            refusal.say_once(text)
    assert warned(caplog) == ["fastmlp.accel: one", "fastmlp.accel: two"]
