"""An epoch of an objective: in one call of a kernel where the backend has one, else step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.kernels import EpochKind, EpochTask
from fastmlp.network.buffers import slots_of
from fastmlp.network.inputs import DenseInputs, Index, Rows
from fastmlp.network.objective import NO_WEIGHT, Objective


def train_epoch(
    objective: Objective, rows: Rows, order: Index, batch_size: int, coefficients: NDArray[np.float64]
) -> float:
    """One step per batch of the rows in that order, each by the optimizer's coefficients; the mean of their losses.

    Raises UsageError for a batch whose weights sum to 0.
    """
    if isinstance(rows.inputs, DenseInputs) and not refusal(objective, batch_size, rows.weights is not None):
        return _in_one_call(objective, rows, order, batch_size, coefficients)
    return _step_by_step(objective, rows, order, batch_size, coefficients)


def refusal(objective: Objective, batch_size: int, weighted: bool) -> str:
    """Why the backend cannot train it a whole epoch in one call, on dense rows; empty if it can."""
    kind = EpochKind(
        tuple(objective.sizes),
        objective.dtype,
        batch_size,
        objective.optimizer,
        weighted,
        activation=objective.activation,
        output=objective.output,
        penalized=objective.alpha > 0,
    )
    return objective.backend.fused_epoch_refusal(kind)


def _step_by_step(
    objective: Objective, rows: Rows, order: Index, batch_size: int, coefficients: NDArray[np.float64]
) -> float:
    backend, sizes = objective.backend, _batch_sizes(len(order), batch_size)
    losses = backend.empty((len(sizes),), objective.dtype)
    with objective.threading(batch_size):
        steps = zip(rows.batches(order, batch_size), map(tuple, coefficients.tolist()), strict=True)
        for step, (batch, row) in enumerate(steps):
            objective.gradients(batch, losses[step : step + 1])
            objective.update(row)
    of_rows = (loss * size for loss, size in zip(backend.to_numpy(losses).tolist(), sizes.tolist(), strict=True))
    return float(sum(of_rows) / len(order))


def _in_one_call(
    objective: Objective, rows: Rows, order: Index, batch_size: int, coefficients: NDArray[np.float64]
) -> float:
    backend, sizes = objective.backend, _batch_sizes(len(order), batch_size)
    weights, penalties = None, np.full(len(sizes), objective.alpha)
    if rows.host_weights is not None:
        shares = sizes / _totals(rows.host_weights[order], batch_size)
        weights = backend.asarray(_of_mean_1(rows.host_weights, order, batch_size, shares))
        penalties *= shares
    task = EpochTask(
        slots_of(objective.weights, objective.biases),
        objective.optimizer,
        order,
        batch_size,
        coefficients,
        row_weights=weights,
        activation=objective.activation,
        output=objective.output,
        least=objective.least,
        penalties=penalties if objective.alpha > 0 else None,
        memory=objective.memory,
    )
    assert isinstance(rows.inputs, DenseInputs)
    targets = rows.labels if objective.output == "softmax" else rows.targets
    [(loss, _)] = backend.fused_epoch([task], rows.inputs.features, targets)
    return loss / len(order)


def _batch_sizes(rows: int, batch_size: int) -> NDArray[np.int64]:
    return np.minimum(batch_size, rows - np.arange(0, rows, batch_size))


def _totals(weights: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """The sum over each batch."""
    totals = np.add.reduceat(weights, np.arange(0, len(weights), batch_size))
    if not totals.all():
        raise UsageError(NO_WEIGHT)
    return totals


def _of_mean_1(weights: NDArray[Any], order: Index, batch_size: int, shares: NDArray[Any]) -> NDArray[Any]:
    """The weights (n,) times the share of their batch: the kernel divides sums by rows, not by weights."""
    of_mean_1 = np.zeros_like(weights)
    of_mean_1[order] = weights[order] * np.repeat(shares, batch_size)[: len(order)]
    return of_mean_1
