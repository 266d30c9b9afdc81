"""fastmlp.accel.together: unchanged searches and ensembles, whose fits run side by side and end as they do in turn."""

import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn import config_context, get_config, neural_network
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  (makes HalvingGridSearchCV importable)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import parallel as sklearn_parallel
from threadpoolctl import threadpool_info

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.accel import install, together, uninstall
from fastmlp.backends import open_backend, probe
from fastmlp.backends.numpy import blas
from fastmlp.estimators.arrays import backend_for, beside_others

DIGITS, CLASSES = load_digits(return_X_y=True)
X, Y = DIGITS[:150] / 16, CLASSES[:150] % 3
GRID = {"alpha": [1e-4, 1.0], "learning_rate_init": [0.001, 0.01, 0.1]}
PLAIN: dict[str, Any] = {"preset": "sklearn", "hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0}
TWO = 2
ENDLESS: dict[str, Any] = {"max_iter": 10**9, "n_iter_no_change": 10**9}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def mlp(backend: str = "numpy", **changes: Any) -> MLPClassifier:
    return MLPClassifier(**{**PLAIN, "backend": backend, **changes})


@pytest.fixture(autouse=True)
def two_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, whatever the machine has."""
    monkeypatch.setattr("fastmlp.accel.side_by_side.available_cores", lambda: TWO)


def in_turn_and_together(run: Callable[[], Any]) -> tuple[Any, Any]:
    in_turn = run()
    with together():
        return in_turn, run()


# The same results.


def scores(search: Any) -> np.ndarray:
    """Of every setting, and all weights of the best one."""
    columns = [values for name, values in search.cv_results_.items() if "test_score" in name]
    return np.concatenate([*map(np.ravel, columns), *map(np.ravel, search.best_estimator_.coefs_)])


def weights(networks: Any) -> np.ndarray:
    return np.concatenate([coef.ravel() for network in networks for coef in network.coefs_])


RUNS: dict[str, Callable[[Any], np.ndarray]] = {
    "GridSearchCV": lambda mlp: scores(GridSearchCV(mlp, GRID, cv=3).fit(X, Y)),
    "RandomizedSearchCV": lambda mlp: scores(
        RandomizedSearchCV(mlp, GRID, n_iter=3, cv=3, random_state=0).fit(X, Y)
    ),
    "HalvingGridSearchCV": lambda mlp: scores(
        HalvingGridSearchCV(mlp, GRID, cv=3, random_state=0).fit(X, Y)
    ),
    "cross_validate": lambda mlp: cross_validate(mlp, X, Y, cv=3)["test_score"],
    "cross_val_predict": lambda mlp: cross_val_predict(mlp, X, Y, cv=3, method="predict_proba"),
    "learning_curve": lambda mlp: learning_curve(mlp, X, Y, cv=3)[2],
    "BaggingClassifier": lambda mlp: weights(
        BaggingClassifier(mlp, n_estimators=4, random_state=0).fit(X, Y).estimators_
    ),
    "OneVsRestClassifier": lambda mlp: weights(OneVsRestClassifier(mlp).fit(X, Y).estimators_),
    "MultiOutputClassifier": lambda mlp: weights(
        MultiOutputClassifier(mlp).fit(X, np.stack([Y, Y == 1], axis=1).astype(int)).estimators_
    ),
    "VotingClassifier": lambda mlp: VotingClassifier(
        [("a", mlp), ("b", make_pipeline(StandardScaler(), mlp))], voting="soft"
    ).fit(X, Y).predict_proba(X),
    "StackingClassifier": lambda mlp: StackingClassifier(
        [("a", mlp), ("b", LogisticRegression())], mlp, cv=3
    ).fit(X, Y).predict_proba(X),
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_whatever_runs_parallel_ends_the_same(run: Callable[[Any], np.ndarray]) -> None:
    in_turn, side_by_side = in_turn_and_together(lambda: run(mlp()))
    assert np.array_equal(in_turn, side_by_side)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("preset", ["sklearn", "tabular", "paper"])
def test_on_every_backend_and_with_every_training(backend: str, preset: str) -> None:
    if not probe(backend).usable:
        pytest.skip(f"{backend} cannot run here")
    model = mlp(backend, preset=preset)
    in_turn, side_by_side = in_turn_and_together(lambda: RUNS["GridSearchCV"](model))
    assert np.array_equal(in_turn, side_by_side)


def test_a_network_that_several_threads_would_share_ends_as_on_one() -> None:
    model = mlp("numba", preset="tabular", hidden_layer_sizes=(64,), batch_size=400)
    with beside_others(lambda backend: None):
        on_one_thread = cross_val_predict(model, DIGITS, CLASSES, cv=3, method="predict_proba")
    with together():
        side_by_side = cross_val_predict(model, DIGITS, CLASSES, cv=3, method="predict_proba")
    assert np.array_equal(on_one_thread, side_by_side)


def test_so_do_regressors() -> None:
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=4, random_state=0, backend="numpy")
    in_turn, side_by_side = in_turn_and_together(lambda: cross_val_predict(model, X, DIGITS[:150, 20]))
    assert np.array_equal(in_turn, side_by_side)


def test_there_are_as_many_jobs_as_cores() -> None:
    with together():
        assert sorted(Parallel()(delayed(meet)(MEETING) for _ in range(TWO))) == [0, 1]


MEETING = threading.Barrier(TWO, timeout=60)


def meet(barrier: threading.Barrier) -> int:
    return barrier.wait()


def test_compiled_fits_of_several_threads_do_not_queue() -> None:
    """Two networks' epochs that end only together."""
    from fastmlp.kernels.cpu.workers import workers

    with together():
        found = Parallel()(delayed(workers(1).run)([MEETING.wait]) for _ in range(TWO))
    assert sorted(found) == [[0], [1]]


# Threads.


class Telling(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier that tells on how many threads ours would compute there."""

    told: list[tuple[int, int]] = []  # noqa: RUF012  (clones tell in the same list)

    def __init__(self, backend: str = "numpy", threads: int | None = None) -> None:
        self.backend, self.threads = backend, threads

    def fit(self, X: Any, y: Any) -> "Telling":
        self.classes_ = np.unique(y)
        backend = backend_for(self.backend, None, self.threads)
        self.told.append((backend.threads, max(pool["num_threads"] for pool in blas().info())))
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.zeros(len(X), int)


@pytest.fixture
def told() -> Iterator[list[tuple[int, int]]]:
    Telling.told.clear()
    with blas().limit(limits=3):
        yield Telling.told


@pytest.mark.parametrize(("threads", "expected"), [(None, 1), (2, 2)])
def test_a_job_computes_on_one_thread_unless_told_otherwise(
    threads: int | None, expected: int, told: list[tuple[int, int]]
) -> None:
    before = threadpool_info()
    with together():
        GridSearchCV(Telling(threads=threads), {}, cv=3, refit=False).fit(X, Y)
        assert threadpool_info() == before, "BLAS has its threads back once the search has ended"
    assert told == [(expected, 1)] * 3


def test_what_runs_outside_of_jobs_keeps_all_threads(told: list[tuple[int, int]]) -> None:
    with together():
        search = GridSearchCV(Telling(), {}, cv=3).fit(X, Y)
    assert isinstance(search.best_estimator_, Telling)
    assert told[-1] == (open_backend("numpy").threads, 3)


# Errors and warnings.


@pytest.fixture
def unfiltered() -> Iterator[list[warnings.WarningMessage]]:
    """The warnings shown where nobody has set filters."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        warnings.simplefilter("ignore", ResourceWarning)  # scikit-learn does not like to have no filter at all
        yield shown


def shown_by(run: Callable[[], Any], shown: list[warnings.WarningMessage]) -> list[tuple[str, str]]:
    shown.clear()
    run()
    return sorted((one.category.__name__, str(one.message).split("\n")[0]) for one in shown)


def test_every_fit_warns_as_in_turn(unfiltered: list[warnings.WarningMessage]) -> None:
    def run() -> None:
        GridSearchCV(mlp(), GRID, cv=4, refit=False).fit(X, Y)

    in_turn = shown_by(lambda: GridSearchCV(mlp(), GRID, cv=4, refit=False).fit(X, Y), unfiltered)
    with together():
        side_by_side = shown_by(run, unfiltered)
    assert len(in_turn) == 6 * 4
    assert side_by_side == in_turn


def test_filters_of_warnings_hold_in_jobs_and_stay(unfiltered: list[warnings.WarningMessage]) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    before = list(warnings.filters)
    with together():
        assert not shown_by(lambda: GridSearchCV(mlp(), GRID, cv=4).fit(X, Y), unfiltered)
    assert warnings.filters == before


def test_no_job_resets_filters_that_other_jobs_heed(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn does, for the whole process, as its processes need it."""
    search = GridSearchCV(mlp(), GRID, cv=4)
    reset: list[str] = []
    monkeypatch.setattr(warnings, "resetwarnings", lambda: reset.append("reset"))
    with together():
        search.fit(X, Y)
    assert not reset
    with parallel_config("threading", n_jobs=2):
        search.fit(X, Y)
    assert reset, "scikit-learn resets filters no more: neither need we prevent it"


def test_jobs_have_the_callers_configuration() -> None:
    with together(), config_context(assume_finite=True):
        found = sklearn_parallel.Parallel()(sklearn_parallel.delayed(get_config)() for _ in range(4))
    assert [one["assume_finite"] for one in found] == [True] * 4


def test_a_failed_fit_has_the_error_score(unfiltered: list[warnings.WarningMessage]) -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)
    grid = {"alpha": [0.1, -1.0], "learning_rate_init": [0.01]}
    found: list[Any] = []
    in_turn = shown_by(lambda: found.append(GridSearchCV(mlp(), grid, cv=3).fit(X, Y)), unfiltered)
    with together():
        warned = shown_by(lambda: found.append(GridSearchCV(mlp(), grid, cv=3).fit(X, Y)), unfiltered)
    first, second = (search.cv_results_["mean_test_score"] for search in found)
    assert np.isnan(second).tolist() == [False, True]
    assert np.array_equal(first, second, equal_nan=True)
    assert warned == in_turn
    assert FitFailedWarning.__name__ in {category for category, _ in warned}


def test_an_error_is_raised_and_ends_the_other_fits() -> None:
    with together(), pytest.raises(ValueError, match="alpha"):
        GridSearchCV(mlp(**ENDLESS), {"alpha": [0.1, -1.0]}, cv=2, error_score="raise", n_jobs=3).fit(X, Y)
    assert_all_jobs_have_ended()


@pytest.mark.usefixtures("heed_interrupts")
def test_an_interrupt_ends_all() -> None:
    threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    with together(), pytest.raises(KeyboardInterrupt):
        GridSearchCV(mlp(**ENDLESS), GRID, cv=2).fit(X, Y)
    assert_all_jobs_have_ended()


def assert_all_jobs_have_ended() -> None:
    """Within a minute, on a busy machine."""
    end = time.monotonic() + 60
    while any(is_fitting(thread) for thread in threading.enumerate()):
        assert time.monotonic() < end, "a fit goes on"
        time.sleep(0.01)


def is_fitting(thread: threading.Thread) -> bool:
    return getattr(getattr(thread, "_target", None), "__name__", "") == "worker"  # of a pool


# Strangers, and contexts within and beside others.


def told_by(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastmlp.accel"]


@pytest.mark.parametrize("alphas", [[0.1, 1.0], [0.1, -1.0]])  # of which a negative one ends the other fits
def test_no_thread_is_left_with_an_exception_to_come(alphas: list[float]) -> None:
    """CPython 3.11 looks for one for ever in a thread that is profiled."""
    settings: dict[str, Any] = ENDLESS if min(alphas) < 0 else {}
    with together(), suppress(ValueError):
        GridSearchCV(mlp(**settings), {"alpha": alphas}, cv=2, error_score="raise", n_jobs=3).fit(X, Y)
    assert_all_jobs_have_ended()
    thread = threading.Thread(target=call_profiled, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def call_profiled() -> None:
    sys.setprofile(lambda *_: None)
    assert mlp().preset == "sklearn"


def test_an_estimator_of_others_runs_too_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    grid = [{"mlp": [mlp(), LogisticRegression()]}]
    pipeline = make_pipeline(StandardScaler(), mlp())
    pipeline.steps[-1] = ("mlp", pipeline[-1])
    with caplog.at_level(logging.WARNING), together():
        search = GridSearchCV(pipeline, grid, cv=3).fit(X, Y)
        cross_validate(LogisticRegression(), X, Y, cv=2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    (said,) = told_by(caplog)
    assert "5 of 8 jobs computed nothing by fastmlp" in said


def test_scikit_learns_own_is_ours_once_it_is_accelerated(caplog: pytest.LogCaptureFixture) -> None:
    theirs = neural_network.MLPClassifier((8,), max_iter=4, random_state=0)
    install("numpy")
    try:
        with caplog.at_level(logging.WARNING):
            in_turn, side_by_side = in_turn_and_together(lambda: RUNS["GridSearchCV"](theirs))
    finally:
        uninstall()
    assert np.array_equal(in_turn, side_by_side)
    assert not told_by(caplog)


def test_nothing_is_said_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), together():
        cross_validate(mlp(), X, Y, cv=2)
    assert not told_by(caplog)


def test_parallel_within_a_job_does_not_wait_for_ever() -> None:
    bagging = BaggingClassifier(mlp(), n_estimators=3, random_state=0)
    in_turn = cross_val_predict(bagging, X, Y, cv=4)
    with together():
        side_by_side = cross_val_predict(bagging.set_params(n_jobs=TWO), X, Y, cv=4)
    assert np.array_equal(in_turn, side_by_side)


@contextmanager
def twice() -> Iterator[None]:
    with together(), together():
        yield


def fit_within(context: Callable[[], Any]) -> np.ndarray:
    with context():
        return RUNS["cross_val_predict"](mlp())


@pytest.mark.parametrize("context", [together, twice])
def test_a_second_entry_is_harmless(context: Callable[[], Any], told: list[tuple[int, int]]) -> None:
    """Within a context, and within one of its jobs."""
    expected = RUNS["cross_val_predict"](mlp())
    with context():
        found = [RUNS["cross_val_predict"](mlp()), *Parallel()(delayed(fit_within)(context) for _ in range(3))]
    assert all(np.array_equal(one, expected) for one in found)
    assert {pool["num_threads"] for pool in blas().info()} == {3}


def test_contexts_in_several_threads_do_not_disturb_each_other(told: list[tuple[int, int]]) -> None:
    expected, before = RUNS["cross_val_predict"](mlp()), list(warnings.filters)
    found: list[np.ndarray] = []

    def search() -> None:
        found.extend(fit_within(together) for _ in range(3))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    assert all(np.array_equal(one, expected) for one in found)
    assert {pool["num_threads"] for pool in blas().info()} == {3}
    assert warnings.filters == before
