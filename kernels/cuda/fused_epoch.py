"""The fused epoch as Python calls it: networks with one hidden layer or none, each trained by a cluster or a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import BackendError, UsageError
from fastmlp.kernels import EpochTask

from .driver import Array, Driver, LaunchRefusedError
from .layout import ALIGNMENT, LAYOUTS, MOST_SLOTS, WARPS, Layout, Shape, candidates

TOGETHER = "networks that began together"  # in the memory of each
KINDS = 3  # of messages, see exchange.cuh
TASK = np.dtype(
    [
        ("slots", np.uint64, (MOST_SLOTS, 4)),
        ("order", np.uint64),
        ("coefficients", np.uint64),
        ("mean", np.uint64),
        ("weights", np.uint64),
        ("rows", np.int64),
        ("scale", np.float64),
        ("smoothing", np.float64),
    ]
)  # `Task` of train_epoch.cu

Place = Callable[[NDArray[Any]], Array]  # a host array to the device


class FusedEpoch:
    """Trains networks on a driver's device; place copies a host array there, layouts are those to choose from."""

    def __init__(self, driver: Driver, place: Place, layouts: Sequence[Layout] = LAYOUTS) -> None:
        self._driver, self._place, self.layouts = driver, place, layouts
        self._refused: set[tuple[Layout, Shape]] = set()

    def train(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        """Train each network in place; returns its summed loss and its hits over the epoch.

        features float32 (n, d), labels int64 (n,), on the device and each below the number of classes. All
        networks have the same shape and batch size. Raises UsageError for a row out of range or features with gaps,
        BackendError if the device can run none of the layouts.
        """
        if not features.flags.c_contiguous:
            raise UsageError("A fused epoch takes features without gaps between rows: copy them first.")
        if self._driver.address(features) % ALIGNMENT:
            features = features.copy()  # which is aligned, as loads of four numbers need it
        for order in _orders(tasks).values():
            if not (order.min() >= 0 and order.max() < len(features)):
                raise UsageError(f"The order of the rows must name rows 0 .. {len(features) - 1}, and no other.")
        shape = _shape(tasks[0])
        refusals = []
        for layout in self._layouts(shape, _together(tasks)):
            try:
                return self._train(layout, shape, tasks, features, labels)
            except LaunchRefusedError as refused:
                self._refused.add((layout, shape))
                refusals.append(str(refused))
        reasons = "; ".join(refusals) or "too little shared memory"
        raise BackendError(
            f"{self._driver.device.name} runs no fused epoch of {shape} ({reasons}): choose --backend numba."
        )

    def _layouts(self, shape: Shape, tasks: int) -> list[Layout]:
        """The layouts to try, without those that the device has refused before, although they should fit."""
        layouts = candidates(shape, self._driver.device, tasks, self.layouts)
        return [layout for layout in layouts if (layout, shape) not in self._refused]

    def _train(
        self, layout: Layout, shape: Shape, tasks: Sequence[EpochTask], features: Array, labels: Array
    ) -> list[tuple[float, int]]:
        results: list[tuple[float, int]] = []
        together = self._tasks_at_once(layout, shape)
        for start in range(0, len(tasks), together):
            results += self._launch(layout, shape, tasks[start : start + together], features, labels)
        return results

    def _tasks_at_once(self, layout: Layout, shape: Shape) -> int:
        """How many tasks one launch may have: any number of clusters, but all blocks of a grid have to run at once."""
        if layout.cluster:
            return 2**16
        running = self._driver.blocks_at_once(layout.program(shape), layout.threads)
        if running < layout.blocks:
            raise LaunchRefusedError(f"{running} blocks run at once, and not {layout.blocks}")
        return running // layout.blocks

    def _launch(
        self, layout: Layout, shape: Shape, tasks: Sequence[EpochTask], features: Array, labels: Array
    ) -> list[tuple[float, int]]:
        blocks = layout.blocks * len(tasks)
        table, placed = self._table(tasks)
        losses, hits = self._place(np.zeros((blocks, WARPS))), self._place(np.zeros((blocks, WARPS), np.int64))
        inboxes = 0 if layout.cluster else blocks * layout.inbox(shape)
        messages = self._place(np.zeros(max(inboxes, 1), np.float32)), self._place(np.zeros(blocks * KINDS, np.uint32))
        launch = self._driver.load(layout.program(shape))
        launch((blocks,), (layout.threads,), (features, labels, table, losses, hits, *messages))
        losses, hits = self._driver.to_host(losses), self._driver.to_host(hits)
        del placed  # the kernel reads it until here
        of_tasks = zip(losses.reshape(len(tasks), -1), hits.reshape(len(tasks), -1), strict=True)
        return [(float(loss.sum()), int(hit.sum())) for loss, hit in of_tasks]

    def _table(self, tasks: Sequence[EpochTask]) -> tuple[Array, list[Array]]:
        """The tasks as the kernel reads them, and the arrays they point to, which must live as long."""
        table = np.zeros(len(tasks), TASK)
        orders = {key: self._place(order) for key, order in _orders(tasks).items()}
        placed = list(orders.values())
        for row, task in zip(table, tasks, strict=True):
            order = orders[id(task.order)]
            coefficients = self._place(task.coefficients.astype(np.float32))
            placed.append(coefficients)
            for slot, layers in enumerate(task.slots):
                addresses = [self._driver.address(array) for layer in layers for array in layer]
                row["slots"][slot, : len(addresses)] = addresses
            row["order"], row["coefficients"] = self._driver.address(order), self._driver.address(coefficients)
            row["mean"] = 0 if task.mean is None else self._driver.address(task.mean)
            row["weights"] = 0 if task.row_weights is None else self._driver.address(task.row_weights)
            row["rows"], row["scale"], row["smoothing"] = len(task.order), task.scale, task.smoothing
        return self._place(table.view(np.uint8)), placed


def _orders(tasks: Sequence[EpochTask]) -> dict[int, NDArray[np.int64]]:
    """Each once, by its id: networks of one seed share theirs."""
    return {id(task.order): task.order for task in tasks}


def _together(tasks: Sequence[EpochTask]) -> int:
    """How many began together: so no network's bits depend on which others have ended since."""
    return max(task.memory.setdefault(TOGETHER, len(tasks)) for task in tasks)


def _shape(task: EpochTask) -> Shape:
    weighted, smoothed = task.row_weights is not None, task.smoothing > 0
    return Shape.of(task.sizes, task.batch_size, task.rule, task.mean is not None, weighted, smoothed)
