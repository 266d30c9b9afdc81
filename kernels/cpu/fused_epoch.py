"""The fused epoch as Python calls it: lay out the networks, distribute them over threads, and write them back.

A single network is split between the threads: each takes a part of its hidden units. Of several networks, each thread
trains whole ones, one after another: then no thread waits for another, and a network stays in its core's cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.kernels import EpochTask

from .optimizers import rule_of
from .pace import pace_of
from .records import Buffers, Epoch, Floats, Share, Team, Updates, Weights
from .team import dismiss, new_team
from .tile import LINE
from .train_epoch import CHUNK, evaluate_part, train_parts
from .workers import Call, workers

FLOPS_PER_PART = 1_000_000  # of a step's two large products: about 10 us, enough to be worth a meeting
TOTALS = 8  # float64 per thread for its two totals: a cache line of its own


def fused_epoch(
    tasks: Sequence[EpochTask], features: Floats, labels: NDArray[np.int64], threads: int
) -> list[tuple[float, int]]:
    """Train each network in place; returns its summed loss and its hits over the epoch.

    features (n, d) of the networks' dtype, contiguous; labels int64 (n,), each below the number of classes. The
    networks have the same shape, batch size and optimizer. Raises UsageError for a row or a class out of range, which
    compiled code would read from elsewhere.
    """
    parts = max(1, threads // len(tasks))
    jobs = [_Job(task, features, labels, parts) for task in tasks]
    teams = [job.new_team() for job in jobs]
    calls = [call for job, team in zip(jobs, teams, strict=True) for call in job.training(team)]
    workers(threads).run(calls, give_up=partial(_dismiss_all, teams))
    for job in jobs:
        job.write_back()
    return [job.sums() for job in jobs]


def fused_evaluation(
    tasks: Sequence[EpochTask], features: Floats, labels: NDArray[np.int64], threads: int
) -> list[tuple[float, int]]:
    """Each network's summed loss and hits over the rows of its order; otherwise as `fused_epoch`."""
    jobs = [_Job(task, features, labels, parts=1, pieces=threads) for task in tasks]
    workers(threads).run([call for job in jobs for call in job.evaluation()])
    return [job.sums() for job in jobs]


class _Job:
    """One task in the storage that `train_epoch` describes.

    For training its hidden units are split into up to `parts` parts, for evaluation its rows into `pieces`.
    """

    def __init__(
        self, task: EpochTask, features: Floats, labels: NDArray[np.int64], parts: int, pieces: int = 1
    ) -> None:
        _check_indices(task, features, labels)
        self.task, self.line, self.pieces = task, _line(features), pieces
        inputs, hidden, classes = task.sizes
        panels = -(-hidden // self.line)
        worth = 4 * task.batch_size * inputs * hidden // FLOPS_PER_PART
        self.parts = max(1, min(parts, panels, worth))
        self.bounds = _split(panels, self.parts, self.line)
        self.weights = _pack(task, self.bounds)
        self.padded = -(-task.batch_size // self.line) * self.line
        self.totals = np.zeros((max(self.parts, pieces), TOTALS))
        self.epoch = Epoch(
            features=_read_only(features),
            rows=_positions(task, inputs),
            labels=labels[task.order],
            batch_size=task.batch_size,
            inputs=inputs,
            classes=classes,
            mean=np.empty(0, features.dtype) if task.mean is None else task.mean,
            scale=task.scale,
        )

    def new_team(self) -> Team:
        exchange = _zeros((2, self.parts, self.epoch.classes * self.padded), self.weights.w1.dtype)
        pace = pace_of(self.parts, *self.task.sizes, self.task.batch_size)
        return Team(self.parts, exchange, new_team(self.parts), pace)

    def training(self, team: Team) -> list[Call]:
        """A call for each thread of the team."""
        shares = self._shares()
        updates = Updates(rule_of(self.task.rule), self.task.coefficients)
        common = self.weights, self.epoch, updates, team, np.array(shares), self._buffers(shares), self.totals
        return [partial(train_parts, *common, home) for home in range(self.parts)]

    def evaluation(self) -> list[Call]:
        (whole,) = self._shares()
        rows = _split(len(self.epoch.labels), self.pieces)
        buffers = zip(*self._buffers([whole] * self.pieces), strict=True)
        return [
            partial(evaluate_part, self.weights, self.epoch, whole, Buffers._make(own), *piece, totals)
            for own, piece, totals in zip(buffers, pairwise(rows), self.totals, strict=True)
        ]

    def _shares(self) -> list[Share]:
        return [
            Share(part, first, stop - first, self.line, self.padded)
            for part, (first, stop) in enumerate(pairwise(self.bounds))
        ]

    def _buffers(self, shares: Sequence[Share]) -> Buffers:
        """Those of each share, along a leading axis."""
        dtype, m, c = self.weights.w1.dtype, self.padded, self.epoch.classes
        h, by_class = max(share.units for share in shares), np.arange(c)
        sizes = (m * h, h * m, m * h, c * m, m, m, m, max(CHUNK * self.line, c * h), h, max(h, c))
        floats = [_zeros((len(shares), -(-size // self.line) * self.line), dtype) for size in sizes]
        by_hidden = np.array([by_class * share.units + c * share.first for share in shares])
        return Buffers._make([*floats, by_hidden, np.array([by_class * m] * len(shares))])

    def write_back(self) -> None:
        _unpack(self.weights, self.task, self.bounds)

    def sums(self) -> tuple[float, int]:
        loss, hits = self.totals.sum(axis=0)[:2]
        return float(loss), int(hits)


def _dismiss_all(teams: Sequence[Team]) -> None:
    for team in teams:
        dismiss(team.counters)


# What compiled code relies on.


def _check_indices(task: EpochTask, features: Floats, labels: NDArray[np.int64]) -> None:
    classes = task.sizes[2]
    if not (labels.min() >= 0 and labels.max() < classes):
        raise UsageError(f"Labels must lie in 0 .. {classes - 1}, not in {labels.min()} .. {labels.max()}.")
    if not (task.order.min() >= 0 and task.order.max() < len(features)):
        raise UsageError(f"The order of the rows must name rows 0 .. {len(features) - 1}, and no other.")


def _read_only(features: Floats) -> Floats:
    """Flat, without gaps, and read-only: Numba would compile for each kind, and the tiles read on from an address."""
    flat = np.ascontiguousarray(features).reshape(-1).view()
    flat.flags.writeable = False
    return flat


def _positions(task: EpochTask, inputs: int) -> NDArray[np.int64]:
    """Where each sample's features start; wrapped around, because the batch after the last is looked up too."""
    return np.resize(task.order, len(task.order) + 2 * task.batch_size) * inputs


def _split(count: int, parts: int, unit: int = 1) -> list[int]:
    """Where each part starts and the last one ends, in units."""
    return [count * part // parts * unit for part in range(parts + 1)]


# Storage.


def _line(array: Floats) -> int:
    """How many numbers a cache line holds."""
    return LINE // array.itemsize


def _pack(task: EpochTask, bounds: Sequence[int]) -> Weights:
    """The task's slots as `train_epoch` stores them; bounds are those of each part's hidden units."""
    inputs, _, classes = task.sizes
    slots, dtype = len(task.slots), task.slots[0][0][0].dtype
    units, parts = bounds[-1], len(bounds) - 1
    weights = Weights(
        _zeros((slots, units * inputs), dtype),
        _zeros((slots, units), dtype),
        _zeros((slots, classes * units), dtype),
        _zeros((slots, parts * classes), dtype),
    )
    for slot, ((w1, b1), (w2, b2)) in enumerate(task.slots):
        _panels(weights, slot, inputs)[:] = _fill_up(w1, units).reshape(inputs, -1, _line(w1)).transpose(1, 0, 2)
        weights.b1[slot] = _fill_up(b1, units)
        for part, columns in _parts_of_w2(weights, slot, classes, bounds):
            part[:] = _fill_up(w2.T, units)[:, columns]
        weights.b2[slot].reshape(parts, classes)[:] = b2
    return weights


def _unpack(weights: Weights, task: EpochTask, bounds: Sequence[int]) -> None:
    inputs, hidden, classes = task.sizes
    for slot, ((w1, b1), (w2, b2)) in enumerate(task.slots):
        w1[:] = _panels(weights, slot, inputs).transpose(1, 0, 2).reshape(inputs, -1)[:, :hidden]
        b1[:] = weights.b1[slot, :hidden]
        w2[:] = np.concatenate([part for part, _ in _parts_of_w2(weights, slot, classes, bounds)], axis=1)[:, :hidden].T
        b2[:] = weights.b2[slot, :classes]


def _panels(weights: Weights, slot: int, inputs: int) -> Floats:
    """W1 (panels, inputs, line)."""
    return weights.w1[slot].reshape(-1, inputs, _line(weights.w1))


def _parts_of_w2(weights: Weights, slot: int, classes: int, bounds: Sequence[int]) -> list[tuple[Floats, slice]]:
    """Each part's share of W2' (classes, units), and its columns."""
    return [
        (weights.w2[slot, classes * first : classes * stop].reshape(classes, -1), slice(first, stop))
        for first, stop in pairwise(bounds)
    ]


def _fill_up(array: Floats, units: int) -> Floats:
    """With zeros for the units that fill up the last panel, along the last axis."""
    filled = np.zeros((*array.shape[:-1], units), array.dtype)
    filled[..., : array.shape[-1]] = array
    return filled


def _zeros(shape: tuple[int, ...], dtype: Any) -> Floats:
    """Zeros that start at a cache line, so that no two threads write to one."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + LINE, np.uint8)
    offset = -memory.ctypes.data % LINE
    return memory[offset : offset + size].view(dtype).reshape(shape)
