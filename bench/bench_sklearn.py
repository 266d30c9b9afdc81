"""scikit-learn's MLPClassifier and MLPRegressor, and ours that train as they do, for as many epochs.

Fits as scikit-learn's users make them, float64 and float32; searches and cross-validations, all of their fits.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from . import ours
from .contenders import Contender
from .imitating import DATA, SEARCHES, Fitting, Searching, draw_fitting, draw_searching
from .peers import sklearn_mlp

FITS = [*product(DATA, ("float64", "float32"), ("adam",)), ("digits", "float64", "lbfgs")]
SEARCHED = {"digits": 20, "100,000 x 100": 2}  # data, and the epochs of each fit


@pytest.fixture(scope="module", params=FITS, ids=", ".join)
def fitting(request: pytest.FixtureRequest, threads: int, smoke: bool) -> Fitting:
    name, dtype, solver = request.param
    return draw_fitting(name, dtype, threads, smoke, solver)


@pytest.fixture(scope="module", params=list(product(SEARCHES, SEARCHED)), ids=", ".join)
def searching(request: pytest.FixtureRequest, threads: int, smoke: bool) -> Searching:
    kind, name = request.param
    return draw_searching(name, kind, threads, smoke, epochs=SEARCHED[name])


@pytest.mark.contenders(
    Contender("scikit-learn", "peer", sklearn_mlp.fit),
    *ours.contenders(ours.fit_as_sklearn, ("numba", "numpy", "torch")),
)
def bench_fit(measure: Callable[[Any], None], fitting: Fitting) -> None:
    measure(fitting)


@pytest.mark.contenders(
    Contender("scikit-learn", "peer", sklearn_mlp.search),
    Contender("scikit-learn, n_jobs", "peer", sklearn_mlp.search_in_processes, slow=True),
    *ours.searching(),
)
def bench_search(measure: Callable[[Any], None], searching: Searching) -> None:
    measure(searching)
