"""The fused epoch as Python calls it: lay out the networks, distribute them over threads, and write them back.

A single network is split between the threads, see `train_epoch`. Of several networks, each thread trains whole ones,
one after another: then no thread waits for another, and a network stays in its core's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.kernels import EpochTask

from .optimizers import any_rule_of
from .pace import pace_of
from .records import Buffers, Epoch, Floats, Output, Team, Updates
from .storage import Parts, zeros
from .team import dismiss, new_team
from .tile import LINE
from .train_epoch import evaluate_pieces, train_parts
from .workers import Call, workers

Labels = NDArray[np.int64] | Floats  # labels (n,), or targets (n, outputs): see `EpochTask`

FLOPS_PER_PART = 1_000_000  # of a step's large products: about 10 us, enough to be worth a meeting
PIECE = 512  # rows that are computed at once: more would leave the nearer caches
EVALUATED = 256  # the same, where nothing is kept of a piece
TOTALS = 8  # float64 per thread for its two totals: a cache line of its own


def fused_epoch(tasks: Sequence[EpochTask], features: Floats, labels: Labels, threads: int) -> list[tuple[float, int]]:
    """Train each network in place; returns its summed loss and its hits over the epoch.

    features (n, d) of the networks' dtype, contiguous; labels int64 (n,), each below the number of classes, or targets
    (n, outputs), of which there are no hits. The networks have the same shape, batch size and optimizer. Raises
    UsageError for a row or a class out of range, which compiled code would read from elsewhere.
    """
    networks = [_Training(task, features, labels, max(1, threads // len(tasks))) for task in tasks]

    def give_up() -> None:
        for network in networks:
            network.dismiss()

    workers(threads).run([call for network in networks for call in network.calls()], give_up)
    return [network.finish() for network in networks]


def fused_evaluation(
    tasks: Sequence[EpochTask], features: Floats, labels: Labels, threads: int
) -> list[tuple[float, int]]:
    """Each network's summed loss and hits over the rows of its order; otherwise as `fused_epoch`."""
    networks = [_Evaluation(task, features, labels, threads) for task in tasks]
    workers(threads).run([call for network in networks for call in network.calls()])
    return [_sums(network.totals) for network in networks]


class _Training:
    """One task, in up to `most` parts."""

    def __init__(self, task: EpochTask, features: Floats, labels: Labels, most: int) -> None:
        _check_indices(task, features, labels)
        self.task = task
        pieces = _pieces(len(task.order), task.batch_size, PIECE)
        rows = int(pieces[:, 2].max())
        self.parts = Parts.of(task, parts_of(task, most), rows, several=rows < min(task.batch_size, len(task.order)))
        count = len(self.parts.layers)
        self.epoch = _epoch(task, features, labels, pieces, task.row_weights, task.smoothing)
        self.team = Team(self.parts.exchange, new_team(count), pace_of(count, *task.sizes, task.batch_size))
        self.totals = np.zeros((count, TOTALS))

    def calls(self) -> list[Call]:
        """One for each thread of the team."""
        penalties = np.empty(0) if self.task.penalties is None else self.task.penalties
        updates = Updates(any_rule_of(self.task.rule), self.task.coefficients, penalties)
        common = self.parts.network, self.epoch, updates, self.team, self.parts.own_buffers, self.totals
        return [partial(train_parts, *common, home) for home in range(len(self.totals))]

    def dismiss(self) -> None:
        dismiss(self.team.counters)

    def finish(self) -> tuple[float, int]:
        """Write the weights back; the summed loss and the hits."""
        self.parts.write_back(self.task)
        return _sums(self.totals)


class _Evaluation:
    """One task, its rows distributed over the threads."""

    def __init__(self, task: EpochTask, features: Floats, labels: Labels, threads: int) -> None:
        _check_indices(task, features, labels)
        self.pieces = _pieces(len(task.order), EVALUATED, EVALUATED)
        self.parts = Parts.of(task, 1, min(EVALUATED, len(task.order)))
        self.epoch = _epoch(task, features, labels, self.pieces, None, 0.0)
        self.totals = np.zeros((threads, TOTALS))

    def calls(self) -> list[Call]:
        buffers = zip(*self.parts.buffers(self.parts.layers * len(self.totals)), strict=True)
        bounds = pairwise(len(self.pieces) * thread // len(self.totals) for thread in range(len(self.totals) + 1))
        nothing = zeros((1, 1), self.parts.dtype)
        common = self.parts.network, self.epoch
        return [
            partial(evaluate_pieces, *common, Buffers._make(own), nothing, totals, 0, first, stop)
            for own, (first, stop), totals in zip(buffers, bounds, self.totals, strict=True)
        ]


def parts_of(task: EpochTask, most: int) -> int:
    """Of how many parts each has work that is worth meeting for."""
    line = LINE // task.slots[0][0][0].itemsize
    split = task.sizes[1] if len(task.sizes) > 2 else task.sizes[0]
    worth = 4 * task.batch_size * sum(k * n for k, n in pairwise(task.sizes)) // FLOPS_PER_PART
    return max(1, min(most, -(-split // line), worth))


def _sums(totals: Floats) -> tuple[float, int]:
    loss, hits = totals.sum(axis=0)[:2]
    return float(loss), int(hits)


# What compiled code relies on.


def _check_indices(task: EpochTask, features: Floats, labels: Labels) -> None:
    classes = task.sizes[-1]
    if task.output == "softmax" and not (labels.min() >= 0 and labels.max() < classes):
        raise UsageError(f"Labels must lie in 0 .. {classes - 1}, not in {labels.min()} .. {labels.max()}.")
    if task.output != "softmax" and labels.shape != (len(features), classes):
        raise UsageError(f"Targets must be ({len(features)}, {classes}), not {labels.shape}.")
    if not (task.order.min() >= 0 and task.order.max() < len(features)):
        raise UsageError(f"The order of the rows must name rows 0 .. {len(features) - 1}, and no other.")


def _epoch(
    task: EpochTask,
    features: Floats,
    labels: Labels,
    pieces: NDArray[np.int64],
    row_weights: Floats | None,
    smoothing: float,
) -> Epoch:
    empty, in_order = np.empty(0, features.dtype), labels[task.order]
    has_labels = task.output == "softmax"
    return Epoch(
        features=_read_only(features),
        rows=_positions(task, pieces[:, 2].max()),
        labels=in_order if has_labels else np.empty(0, np.int64),
        targets=empty if has_labels else in_order.reshape(-1),
        output=int(Output[task.output.upper()]),
        least=float(task.least),
        row_weights=empty if row_weights is None else row_weights[task.order],
        smoothing=float(smoothing),
        pieces=pieces,
        classes=task.sizes[-1],
        mean=empty if task.mean is None else task.mean,
        scale=task.scale,
    )


def _pieces(rows: int, batch_size: int, most: int) -> NDArray[np.int64]:
    """The fields of each `Piece` of an epoch, (pieces, 6)."""
    within = np.arange(0, min(batch_size, rows), most)
    first = np.repeat(np.arange(0, rows, batch_size), len(within))
    start = first + np.tile(within, len(first) // len(within))
    last = np.minimum(first + batch_size, rows)
    stop = np.minimum(start + most, last)
    fields = np.stack([first // batch_size, start, stop - start, last - first, start == first, stop == last], axis=1)
    return fields[start < last]


def _read_only(features: Floats) -> Floats:
    """Flat, without gaps, and read-only: Numba would compile for each kind, and the tiles read on from an address."""
    flat = np.ascontiguousarray(features).reshape(-1).view()
    flat.flags.writeable = False
    return flat


def _positions(task: EpochTask, ahead: int) -> NDArray[np.int64]:
    """Where each sample's features start; wrapped around, because the piece after the last is looked up too."""
    return np.resize(task.order, len(task.order) + 2 * ahead) * task.sizes[0]
