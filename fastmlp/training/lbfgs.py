"""L-BFGS: SciPy's minimiser on our objective and its gradient."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from fastmlp.common.blas import limited
from fastmlp.common.sharing import Shared
from fastmlp.network.inputs import Rows
from fastmlp.network.objective import Objective
from fastmlp.training.as_sklearn import Settings

Vector = NDArray[np.float64]


def minimize(objective: Objective, rows: Rows, settings: Settings) -> tuple[float, int]:
    """Train until the gradient is below tol, or for max_iter iterations or max_fun evaluations; loss and iterations.

    Issues a ConvergenceWarning where one of the latter ends it.
    """
    from scipy import optimize

    options = {"maxfun": settings.max_fun, "maxiter": settings.max_iter, "gtol": settings.tol}
    start = _packed(objective, [objective.weights.slots[0, ...], objective.biases.slots[0, ...]])
    with one_pool(objective, rows):
        result = optimize.minimize(
            partial(value_and_gradient, objective, rows), start, method="L-BFGS-B", jac=True, options=options
        )
    _load(objective, result.x)
    if result.status != 0:
        warnings.warn(
            f"lbfgs failed to converge after {result.nit} iterations ({result.message}): raise max_iter or "
            "max_fun, or scale the features.",
            ConvergenceWarning,
            stacklevel=5,
        )
    return float(result.fun), min(int(result.nit), settings.max_iter)


@contextmanager
def one_pool(objective: Objective, rows: Rows) -> Iterator[None]:
    """SciPy's own BLAS on one thread, NumPy's as steps of all rows have it.

    The threads of either spin for work between two calls: where both have several, each call takes several times as
    long.
    """
    with objective.threading(rows.inputs.rows), _SCIPYS_ON_ONE_THREAD.held():
        yield


@cache
def _scipys_blas() -> ThreadpoolController:
    """The BLAS library that SciPy brings for itself, or none."""
    from scipy import linalg  # noqa: F401  (loads it)

    pools = ThreadpoolController()
    own = [pool.filepath for pool in pools.lib_controllers if "scipy.libs" in pool.filepath]
    return pools.select(filepath=own)


_SCIPYS_ON_ONE_THREAD = Shared(lambda: limited(_scipys_blas(), 1))


def value_and_gradient(objective: Objective, rows: Rows, packed: Vector) -> tuple[float, Vector]:
    """The objective at the weights of every layer and then the biases, one after another, and its gradient (n,)."""
    _load(objective, packed)
    loss = objective.backend.empty((1,), objective.dtype)
    objective.gradients(rows, loss)
    gradient = _packed(objective, [objective.weights.gradient, objective.biases.gradient])
    return float(objective.backend.to_numpy(loss)[0]), gradient


def _packed(objective: Objective, arrays: list[Any]) -> Vector:
    return np.concatenate([objective.backend.to_numpy(array) for array in arrays]).astype(np.float64)


def _load(objective: Objective, packed: Vector) -> None:
    weights, biases = objective.weights.slots, objective.biases.slots
    parts = np.split(packed.astype(objective.dtype), [weights.shape[1]])
    for slots, part in zip((weights, biases), parts, strict=True):
        slots[0, ...] = objective.backend.asarray(part)
