"""scikit-learn's own MLPs: one fit, or all those of a search, in turn or in as many processes as there are cores."""

from __future__ import annotations

from contextlib import nullcontext

from ..contenders import Bound
from ..imitating import Fitting, Searching, fitted_by, searched_by


def fit(problem: Fitting) -> Bound:
    return fitted_by(problem, problem.theirs)


def search(problem: Searching) -> Bound:
    """One training after another, as by default."""
    return searched_by(problem, problem.theirs, nullcontext)


def search_in_processes(problem: Searching) -> Bound:
    """With n_jobs, in processes of one thread each, which stay from call to call."""
    from joblib import parallel_config

    return searched_by(
        problem,
        problem.theirs,
        lambda: parallel_config("loky", n_jobs=problem.threads, inner_max_num_threads=1),
    )
