"""scikit-learn's own MLPs: one fit, or all those of a search, in turn or in as many processes as there are cores."""

from __future__ import annotations

from typing import Any

from ..contenders import Bound
from ..imitating import Fitting, Searching, few_epochs


def fit(problem: Fitting) -> Bound:
    model = problem.theirs(**problem.settings)

    def run() -> None:
        with few_epochs():
            model.fit(problem.X, problem.y)

    return Bound(run, lambda: model)


def search(problem: Searching) -> Bound:
    """One training after another, as by default."""
    found: list[Any] = []

    def run() -> None:
        found[:] = [problem.found(problem.theirs)]

    return Bound(run, lambda: found[0])


def search_in_processes(problem: Searching) -> Bound:
    """With n_jobs, in processes of one thread each, which stay from call to call."""
    from joblib import parallel_config

    one_by_one = search(problem)

    def run() -> None:
        with parallel_config("loky", n_jobs=problem.threads, inner_max_num_threads=1):
            one_by_one.run()

    return Bound(run, one_by_one.result)
