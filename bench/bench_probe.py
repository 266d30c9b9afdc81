"""Probe protocols: all their trainings in one run, against one after another in PyTorch and scikit-learn.

By default on few rows; FASTMLP_BENCH_PROBE=50000x512x10, say, sets rows, features and classes. Of the peers one
training of all is timed, that of the chosen setting on all rows, and taken for each of the others: their names say so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fastmlp.backends.base import Backend

from . import ours
from .contenders import Bound, Contender
from .peers import sklearn_probe, torch_probe
from .probing import TRAININGS, Probing, draw_probing, found


def probing(backend: Backend, problem: Probing) -> Bound:
    last: dict[str, Any] = {}

    def run() -> None:
        last.update(found(str(backend), problem))

    return Bound(run, lambda: last["chosen"]["test_accuracy"])


TRAINED = (
    *ours.contenders(probing, ("numba", "numpy")),
    Contender("PyTorch, DataLoader, one after another (one timed)", "peer", torch_probe.train, needs=("torch",)),
    Contender(
        "PyTorch, eager, one after another (one timed)", "peer", partial(torch_probe.train, loader=False),
        needs=("torch",),
    ),
)  # fmt: skip
FITTED = (
    *ours.contenders(probing, ("numba", "numpy")),
    Contender("scikit-learn, one after another (one timed)", "peer", sklearn_probe.fit),
)


@pytest.fixture(scope="module", params=[name for name in TRAININGS if name != "logistic"])
def problem(request: pytest.FixtureRequest, threads: int, smoke: bool) -> Probing:
    return draw_probing(request.param, threads, smoke)


@pytest.fixture(scope="module")
def logistic_problem(threads: int, smoke: bool) -> Probing:
    return draw_probing("logistic", threads, smoke)


@pytest.mark.contenders(*TRAINED)
def bench_probe(measure: Callable[[Probing], None], problem: Probing) -> None:
    measure(problem)


@pytest.mark.contenders(*FITTED)
def bench_logistic_probe(measure: Callable[[Probing], None], logistic_problem: Probing) -> None:
    measure(logistic_problem)
