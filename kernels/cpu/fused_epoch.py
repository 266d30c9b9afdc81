"""The fused epoch as Python calls it: lay the networks out, share them between threads, and write them back.

One network is split between the threads, a part of its hidden units each. Of several, each thread trains whole ones,
one after the other: then nobody waits for anybody, and a network stays in its core's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.errors import UsageError
from fastmlp.kernels import Head

from .team import dismiss, new_team
from .tile import LINE
from .train_epoch import Epoch, Network, Share, Team, train_part

Floats = NDArray[Any]
TOTALS = 8  # float64 that a thread has for its two totals: a cache line of its own


def fused_epoch(
    heads: Sequence[Head], features: Floats, labels: NDArray[np.int64], threads: int
) -> list[tuple[float, int]]:
    """Train each head in place; the sum of the losses, and the hits, that it had on the way.

    features (n, d) of the heads' dtype, rows without gaps; labels int64 (n,), each below the number of classes. The
    heads have one shape and one batch size. Raises UsageError for a row or a class that is not there: compiled code
    would read elsewhere.
    """
    _check_indices(heads, features, labels)
    flat = features.reshape(-1).view()
    flat.flags.writeable = False  # one kind of array for the compiler, whether it may be written to or not
    panels = -(-heads[0].sizes[1] // _line(features))
    parts = max(1, min(threads // len(heads), panels))
    jobs = [_Job(head, flat, labels, panels, parts) for head in heads]
    _run(jobs, threads)
    return [job.finish() for job in jobs]


def _check_indices(heads: Sequence[Head], features: Floats, labels: NDArray[np.int64]) -> None:
    classes = heads[0].sizes[2]
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise UsageError(f"Labels must lie in 0 .. {classes - 1}, not in {labels.min()} .. {labels.max()}.")
    for head in heads:
        if not (head.order.min() >= 0 and head.order.max() < len(features)):
            raise UsageError(f"The order of the rows must name rows 0 .. {len(features) - 1}, and no other.")


class _Job:
    """One head's epoch in the storage that `train_epoch` describes, split into parts."""

    def __init__(self, head: Head, features: Floats, labels: NDArray[np.int64], panels: int, parts: int) -> None:
        self.head, self.line = head, _line(features)
        inputs, _, classes = head.sizes
        self.network = _pack(head, panels * self.line, parts)
        self.padded = -(-head.batch_size // self.line) * self.line
        # once around again, for the rows of the batch after the last are looked up too
        positions = np.resize(head.order, len(head.order) + 2 * head.batch_size) * inputs
        self.epoch = Epoch(
            features=features,
            rows=positions,
            labels=labels[head.order],
            batch_size=head.batch_size,
            inputs=inputs,
            classes=classes,
            coefficients=head.coefficients,
            adam=len(head.slots) > 1,
            mean=np.empty(0, features.dtype) if head.mean is None else head.mean,
            factor=head.factor,
        )
        self.team = Team(parts, _zeros((2, parts, classes * self.padded), features.dtype), new_team())
        self.totals = np.zeros((parts, TOTALS))
        self.bounds = [panels * part // parts * self.line for part in range(parts + 1)]

    def start(self, pool: ThreadPoolExecutor) -> list[Future[bool]]:
        shares = [
            Share(part, first, self.bounds[part + 1] - first, self.line, self.padded)
            for part, first in enumerate(self.bounds[:-1])
        ]
        return [
            pool.submit(train_part, self.network, self.epoch, self.team, share, self.totals[share.part])
            for share in shares
        ]

    def finish(self) -> tuple[float, int]:
        _unpack(self.network, self.head, self.line)
        loss, hits = self.totals.sum(axis=0)[:2]
        return float(loss), int(hits)


def _run(jobs: Sequence[_Job], threads: int) -> None:
    """All jobs on that many threads. If one cannot start or fails, the others are sent home, and wait for nobody."""
    with ThreadPoolExecutor(threads, thread_name_prefix="fastmlp-epoch") as pool:
        try:
            futures = [future for job in jobs for future in job.start(pool)]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            for job in jobs:
                dismiss(job.team.counters)
            raise


# Storage.


def _line(array: Floats) -> int:
    """How many numbers a cache line holds."""
    return LINE // array.itemsize


def _pack(head: Head, units: int, parts: int) -> Network:
    """The head's slots as `train_epoch` stores them, each unit's weights in its panel."""
    inputs, hidden, classes = head.sizes
    slots, dtype = len(head.slots), head.slots[0][0].dtype
    line = LINE // dtype.itemsize
    network = Network(
        _zeros((slots, units * inputs), dtype),
        _zeros((slots, units), dtype),
        _zeros((slots, classes * units), dtype),
        _zeros((slots, parts * classes), dtype),
    )
    for slot, (w1, b1, w2, b2) in enumerate(head.slots):
        padded = np.zeros((inputs, units), dtype)
        padded[:, :hidden] = w1
        network.w1[slot].reshape(-1, inputs, line)[:] = padded.reshape(inputs, -1, line).transpose(1, 0, 2)
        network.b1[slot, :hidden] = b1
        network.w2[slot].reshape(classes, units)[:, :hidden] = w2.T
        network.b2[slot].reshape(parts, classes)[:] = b2
    return network


def _unpack(network: Network, head: Head, line: int) -> None:
    inputs, hidden, classes = head.sizes
    for slot, (w1, b1, w2, b2) in enumerate(head.slots):
        panels = network.w1[slot].reshape(-1, inputs, line).transpose(1, 0, 2)
        w1[:] = panels.reshape(inputs, -1)[:, :hidden]
        b1[:] = network.b1[slot, :hidden]
        w2[:] = network.w2[slot].reshape(classes, -1)[:, :hidden].T
        b2[:] = network.b2[slot, :classes]


def _zeros(shape: tuple[int, ...], dtype: Any) -> Floats:
    """Zeros that start at a cache line, so that no two threads write to one."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)
