"""Searches and cross-validations of scikit-learn whose fits run side by side in threads, each on one core.

Compiled kernels release Python's GIL, and a network that one core trains alone stays in its cache and waits for nobody:
two fits on two cores take less time than each of them in turn on both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def together() -> Iterator[None]:
    """A context in which scikit-learn trains folds, settings and ensembles side by side, one on each core.

    Code within it stays as it is: GridSearchCV and its kin, cross_validate, cross_val_predict, learning_curve,
    BaggingClassifier, OneVsRestClassifier, MultiOutputClassifier and whatever else runs joblib's Parallel does so in
    threads of this process, as many as there are cores (or as its own ``n_jobs`` says). In them, our estimators, and
    scikit-learn's MLPs once `install` has accelerated them, compute on one thread each, unless they name a number.

    Results come in their usual order, as do errors and ``error_score``; every fit's ConvergenceWarning is shown.
    Results are those of fits with ``threads=1``, to the last bit. Where a fit in turn would take several threads, it
    adds up in another order: it differs by rounding, 1e-6 relative in float32 and 1e-14 in float64 after an epoch.
    What runs outside of Parallel, such as a search's ``refit``, keeps all threads.

    An estimator that is not ours runs too, but its fits take turns while they hold Python's GIL. How many jobs computed
    nothing by fastmlp is said at the end, by the logger ``fastmlp.accel``. An interrupt (Ctrl-C) or an error ends the
    other fits at their next line of Python. Every fit that runs has its own copy of its rows.

    The context may be entered again within itself, and in several threads at once, each of which has its own workers:
    then there are more of them than cores. While jobs run, NumPy's BLAS has one thread in the whole process. Filters of
    warnings that the block changes are put back at its end.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.accel import together
    >>> search = GridSearchCV(MLPClassifier(max_iter=20), {"alpha": [0.1, 1.0]})
    >>> with together():
    ...     search = search.fit(*load_iris(return_X_y=True))
    >>> len(search.cv_results_["params"])
    2
    """
    from fastmlp.accel.side_by_side import side_by_side  # later than the accelerator, for scikit-learn loads slowly

    with side_by_side():
        yield
