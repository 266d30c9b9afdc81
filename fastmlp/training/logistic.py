"""Logistic regression with an L2 penalty, to convergence, at many strengths of the penalty in one go.

The same objective as scikit-learn's LogisticRegression, C times the weighted sum of the losses plus half the sum of
squared weights, intercepts not penalised. Descents of several strengths run side by side: one pass over the rows
evaluates all of them, in products as wide as they need to be; one that is done makes room for the next, which starts
between the solutions of its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import UsageError
from fastmlp.common.progress import progress, warn
from fastmlp.network.descent import PAIRS, Descent
from fastmlp.network.logistic import Basis, LogisticObjective
from fastmlp.network.parameters import Parameters

ROUNDS = 1000  # passes over the rows that a strength may take
AT_ONCE = 8  # strengths: more make products no faster, and have fewer neighbours to start from
NEIGHBOURS = 4  # solutions that a strength starts from
STATE_BYTES = 2**30  # of descents that run at once


@dataclass(frozen=True)
class LogisticFit:
    """A head, for features as they come, and how it was found.

    strength: C, the inverse of the penalty's; loss: the weighted mean cross-entropy plus the penalty over C and the sum
    of weights; gradient_norm: of that loss; rounds: passes over the rows.
    """

    parameters: Parameters
    strength: float
    loss: float
    gradient_norm: float
    rounds: int
    converged: bool


def fit_logistic(
    backend: Backend,
    features: NDArray[Any],
    labels: NDArray[np.int64],
    strengths: Sequence[float],
    *,
    weights: NDArray[Any] | None = None,
    dtype: str = "float32",
    rounds: int = ROUNDS,
) -> list[LogisticFit]:
    """Fit a head at each strength, C in scikit-learn's terms, and return them in that order.

    features (n, d); labels int64 (n,), each of 0 .. classes - 1 at least once; weights (n,), from 0 on; dtype: of
    the parameters. The loss is within about 1e-8 of its minimum, relative. Strengths that do not get there in that many
    rounds are said in a warning, and not `converged`. Raises UsageError for a strength that is not positive, fewer than
    two classes, or a class without rows.
    """
    counted = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    classes, total = _check(labels, strengths, counted), float(counted.sum())
    penalties = {strength: _penalty(strength, total, classes) for strength in strengths}
    with backend.without_autograd():
        basis, objective = _placed(backend, features, labels, classes, counted / total)
        descents = _Path(backend, objective, penalties).descend(rounds)
        fits = {strength: _fit(backend, basis, strength, descents[strength], dtype) for strength in strengths}
    _warn_of_unfinished(list(fits.values()), rounds)
    return [fits[strength] for strength in strengths]


def _check(labels: NDArray[np.int64], strengths: Sequence[float], weights: NDArray[np.float64]) -> int:
    """The number of classes."""
    for strength in strengths:
        if not (math.isfinite(strength) and strength > 0):
            raise UsageError(f"Strengths must be positive numbers, not {strength:g}.")
    of_classes = np.bincount(labels, weights)
    if len(of_classes) < 2:
        raise UsageError("All rows are of one class: logistic regression needs two or more.")
    if not of_classes.all():
        raise UsageError(f"Class {int(of_classes.argmin())} has no rows: leave it out, or give rows of it.")
    return len(of_classes)


def _placed(
    backend: Backend, features: NDArray[Any], labels: NDArray[np.int64], classes: int, weights: NDArray[np.float64]
) -> tuple[Basis, LogisticObjective]:
    """The objective on the device; the features themselves do not stay there. weights (n,) of sum 1."""
    rows, shares = backend.asarray(np.asarray(features, np.float64)), backend.asarray(weights)
    basis = Basis.of(backend.xp, rows, shares)
    coordinates = basis.coordinates(backend.xp, rows)
    return basis, LogisticObjective(backend, coordinates, backend.asarray(labels.astype(np.int64)), classes, shares)


def _penalty(strength: float, total: float, classes: int) -> float:
    """For the mean loss; twice for two classes, whose weights are opposite, while scikit-learn has those of one."""
    return (2 if classes == 2 else 1) / (strength * total)


class _Path:
    """The strengths of one objective, from the ends inwards: each starts between those next to it that are done."""

    def __init__(self, backend: Backend, objective: LogisticObjective, penalties: dict[float, float]) -> None:
        self._backend, self._objective, self._penalties = backend, objective, penalties
        self._done: dict[float, Descent] = {}

    def descend(self, rounds: int) -> dict[float, Descent]:
        waiting, running = _coarse_to_fine(sorted(self._penalties)), dict[float, Descent]()
        with progress("Logistic regression", len(waiting), "strengths") as bar:
            while waiting or running:
                while waiting and len(running) < self._at_once():
                    strength = waiting.pop(0)
                    running[strength] = Descent(self._backend.xp, self._start(strength), self._penalties[strength])
                for precise in (False, True):
                    self._evaluate([descent for descent in running.values() if descent.precise == precise])
                ended = {c: d for c, d in running.items() if d.converged or d.rounds >= rounds}
                running = {c: d for c, d in running.items() if c not in ended}
                self._done |= ended
                bar.advance(len(ended))
        return self._done

    def _at_once(self) -> int:
        classes, width = self._objective.shape
        state = classes * width * 8 * (2 * PAIRS + 8)
        return max(1, min(AT_ONCE, STATE_BYTES // state))

    def _evaluate(self, descents: Sequence[Descent]) -> None:
        """Give each descent what it wants to know, all by one pass over the rows."""
        if not descents:
            return
        heads = self._backend.xp.stack([descent.candidate for descent in descents])
        penalties = self._backend.asarray(np.array([descent.penalty for descent in descents]))
        curved = any(descent.curved for descent in descents)
        losses, gradients, curvatures = self._objective(heads, penalties, descents[0].precise, curved)
        for place, descent in enumerate(descents):
            curvature = curvatures[place] if curvatures is not None and descent.curved else None
            descent.receive(float(losses[place]), gradients[place, ...], curvature)

    def _start(self, strength: float) -> Array:
        """Between the solutions at up to NEIGHBOURS strengths around, by a polynomial of the strengths' logarithms.

        A copy of the nearest solution where there is none on one side; zero where there are none at all.
        """
        near = sorted(self._done, key=lambda c: abs(math.log(c / strength)))
        below, above = ([c for c in near if (c < strength) == side][: NEIGHBOURS // 2] for side in (True, False))
        nodes = below + above if below and above else near[:1]
        head = self._backend.asarray(np.zeros(self._objective.shape))
        for node in nodes:
            others = [other for other in nodes if other != node]
            share = math.prod(math.log(strength / other) / math.log(node / other) for other in others)
            head = head + share * self._done[node].head
        return head


def _coarse_to_fine(strengths: Sequence[float]) -> list[float]:
    """Every 2**k-th of them first, then those in their middles, and so on."""
    step, order = 1 << (len(strengths) - 1).bit_length(), dict[float, None]()
    while step:
        order |= dict.fromkeys(strengths[::step])
        step //= 2
    return list(order)


def _fit(backend: Backend, basis: Basis, strength: float, descent: Descent, dtype: str) -> LogisticFit:
    weights, biases = (np.array(backend.to_numpy(array)) for array in basis.plain(backend.xp, descent.head))
    parameters = Parameters((np.ascontiguousarray(weights),), (biases,)).astype(dtype)
    return LogisticFit(parameters, strength, descent.loss, descent.gradient_norm, descent.rounds, descent.converged)


def _warn_of_unfinished(fits: Sequence[LogisticFit], rounds: int) -> None:
    unfinished = [f"{fit.strength:g}" for fit in fits if not fit.converged]
    if unfinished:
        warn(
            f"{len(unfinished)} of {len(fits)} strengths did not converge in {rounds:,} rounds (C = "
            f"{', '.join(unfinished)}): standardise the features, or leave those strengths out."
        )
