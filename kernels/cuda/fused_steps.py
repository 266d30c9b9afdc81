"""Training steps in few launches: of L layers, 2 L - 1 if there are few classes, and 2 L + 1 otherwise.

A launch of a small product takes as long as its longest chain of terms, whatever it computes, so each does all that
its inputs allow: a layer with its ReLU, and the first one with the gathering of its rows; the last layer with softmax,
loss and two layers' deltas; all gradients with the optimizer's step. And each does it for all networks that are trained
together. No sum's order depends on how many these are, so that each has the same bits as alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import EpochTask

from .dense import REAL, contiguous
from .driver import WARP, Array, Driver, Launch, Program, round_up
from .sources import define, define_optimizer, optimizers

WARPS = 8
THREADS = WARP * WARPS
TILES = {"float32": (32, 16, 8), "float64": (16, 8)}  # numbers per side of product.cuh's
PACKS = 4  # as there
MOST_SLOTS = 4  # as in descend.cu
FEW_CLASSES = 32  # a lane each
MOST_WORK = 2**32  # multiply-adds of a layer and a batch: of more, the larger tiles of products alone are worth more
HEAD_MEMORY = 48 * 1024  # bytes of shared memory that every block may take
LAYER = np.dtype(
    [
        ("weights", np.uint64, MOST_SLOTS),
        ("biases", np.uint64, MOST_SLOTS),
        ("inputs", np.uint64),
        ("delta", np.uint64),
        ("k", np.int32),
        ("n", np.int32),
        ("tiles_in_row", np.int32),
        ("first_block", np.uint32),
    ]
)  # `Layer` of networks.cuh
NETWORK = np.dtype(
    [("mean", np.uint64), ("scale", np.float64), ("smoothing", np.float64), ("order", np.int64)]
)  # there

Place = Callable[[NDArray[Any]], Array]  # a host array to the device
Empty = Callable[[tuple[int, ...], str], Array]  # an array there
Data = tuple[Array, Array, Array | None]  # features, labels and weights of all rows


def fuses_steps(task: EpochTask, most_work: float) -> bool:
    """Whether such steps are fused, if those are whose layers have so many multiply-adds at most."""
    known = task.rule.name in optimizers() and len(task.rule.moments) < MOST_SLOTS
    return known and task.batch_size * max(k * n for k, n in pairwise(task.sizes)) <= most_work


@dataclass(frozen=True)
class Batch:
    """The rows of a batch: which of the data, each network's own of orders int64 (orders * rows,)."""

    data: Data
    orders: Array
    rows: int


class FusedSteps:
    """The steps of the tasks' networks, MOST_ACROSS at most, of one shape, optimizer and batch size, each of which
    takes its own of the orders; of a task, its order, coefficients and row weights are not read.

    It launches, and neither allocates nor waits, so it can be recorded. place and empty make arrays on the device.
    """

    def __init__(
        self, driver: Driver, place: Place, empty: Empty, tasks: Sequence[EpochTask], own: Sequence[int]
    ) -> None:
        self._driver, self._tasks, self._orders = driver, tasks, 1 + max(own)
        task = tasks[0]
        self._size, self._sizes, self._dtype = task.batch_size, task.sizes, task.slots[0][0][0].dtype
        count, name = len(tasks), self._dtype.name
        of_rows = count, task.batch_size
        self._activations, self._deltas = (
            [empty((*of_rows, width), name) for width in widths] for widths in (task.sizes[1:-1], task.sizes[1:])
        )
        self._losses, self._hits = empty(of_rows, name), empty(of_rows, "int32")
        self._tile = self._best_tile(list(pairwise(self._sizes)), _tiles_of_block)
        tables = self._networks(own), self._layers()
        self._tables = (*(place(table.view(np.uint8).ravel()) for table in tables), np.int32(self._last + 1))

    def __call__(self, data: Data, orders: Array, coefficients: Sequence[Array], losses: Array, hits: Array) -> None:
        """A step per row of coefficients (networks, 1 + k), on the device; its losses and hits (networks,).

        orders: batch by batch, the rows of each order.
        """
        contiguous(*(array for array in data if array is not None))
        size = self._size * self._orders
        for step, row in enumerate(coefficients):
            own = orders[step * size : (step + 1) * size]
            batch = Batch(data, own, own.shape[0] // self._orders)
            self._forward(batch)
            self._backward(batch)
            self._descend(batch, row, losses[step : step + 1], hits[step : step + 1])

    @property
    def _last(self) -> int:
        return len(self._sizes) - 2

    @property
    def _has_head(self) -> bool:
        """Whether the last layer, the loss and the deltas of its inputs are one launch."""
        return self._last > 0 and self._sizes[-1] <= FEW_CLASSES and self._head_memory <= HEAD_MEMORY

    @property
    def _head_memory(self) -> int:
        """Bytes, array by array as in head.cu."""
        units, classes = self._sizes[-2:]
        counts = units * (classes | 1), WARPS * units, WARPS * classes
        return sum(round_up(count * self._dtype.itemsize, 16) for count in counts)

    # Forward, and the loss.

    def _forward(self, batch: Batch) -> None:
        """The activations of every layer, and the last one's deltas."""
        for layer in range(self._last):
            self._layer(batch, layer, relu=True)
        if self._has_head:
            self._on_rows("head", batch, self._head_memory, np.int32(self._sizes[-2]))
        else:
            self._layer(batch, self._last, relu=False)
            self._on_rows("softmax_rows", batch, 0)

    def _layer(self, batch: Batch, layer: int, *, relu: bool) -> None:
        m, (k, n) = batch.rows, self._sizes[layer : layer + 2]
        sizes = np.int32(m), np.int32(k), np.int32(n), np.bool_(relu)
        _, table, layers = self._tables
        if layer == 0:
            self._product("gather_forward", m, n, batch.data[0], batch.orders, *self._tables, *sizes)
        else:
            self._product("forward", m, n, table, layers, np.int32(layer), *sizes)

    def _on_rows(self, kernel: str, batch: Batch, shared_memory: int, *sizes: Any) -> None:
        _, labels, weights = batch.data
        given = self._losses if weights is None else weights  # any valid address, if there are none
        rows = labels, batch.orders, given, np.bool_(weights is not None)
        sizes = np.int32(batch.rows), *sizes, np.int32(self._sizes[-1])
        launch = self._load("head.cu", kernel, shared_memory)
        blocks = -(-batch.rows // WARPS)
        launch(self._grid(blocks), (THREADS,), (*rows, *self._tables, self._losses, self._hits, *sizes))

    # Backward.

    def _backward(self, batch: Batch) -> None:
        """The deltas of all layers before the last, and before the one that the head has filled."""
        _, table, layers = self._tables
        for layer in range(self._last - self._has_head, 0, -1):
            m, (n, k) = batch.rows, self._sizes[layer : layer + 2]
            self._product("backward", m, n, table, layers, np.int32(layer), np.int32(m), np.int32(k), np.int32(n))

    def _descend(self, batch: Batch, coefficients: Array, loss: Array, hits: Array) -> None:
        options = define_optimizer(self._tasks[0].rule)
        launch = self._load("descend.cu", "descend", _memory(self._tile), TILE=self._tile, **options)
        inputs = batch.data[0], batch.orders, *self._tables, coefficients
        outputs = self._losses, self._hits, loss, hits, np.int32(batch.rows)
        launch(self._grid(self._blocks + 1), (THREADS,), (*inputs, *outputs))

    # What the kernels read of the networks.

    def _networks(self, own: Sequence[int]) -> NDArray[Any]:
        table = np.zeros(len(self._tasks), NETWORK)
        for row, task, order in zip(table, self._tasks, own, strict=True):
            mean = 0 if task.mean is None else self._driver.address(task.mean)
            row["mean"], row["scale"], row["smoothing"], row["order"] = mean, task.scale, task.smoothing, order
        return table

    def _layers(self) -> NDArray[Any]:
        table, address = np.zeros((len(self._tasks), self._last + 1), LAYER), self._driver.address
        for network, task in enumerate(self._tasks):
            for layer, row in enumerate(table[network]):
                for slot, layers in enumerate(task.slots):
                    row["weights"][slot], row["biases"][slot] = map(address, layers[layer])
                row["inputs"] = address(self._activations[layer - 1][network]) if layer else 0
                row["delta"] = address(self._deltas[layer][network])
        blocks = 0
        for layer, (k, n) in enumerate(pairwise(self._sizes)):
            column = table[:, layer]
            column["k"], column["n"] = k, n
            column["first_block"], column["tiles_in_row"] = blocks, -(-n // self._tile)
            blocks += self._blocks_of(k, n)
        return table

    @cached_property
    def _blocks(self) -> int:
        """Of all layers' weights."""
        return sum(self._blocks_of(k, n) for k, n in pairwise(self._sizes))

    def _blocks_of(self, k: int, n: int) -> int:
        return -(-_tiles(k, n, self._tile) // _tiles_of_block(self._tile))

    # Launches.

    def _product(self, kernel: str, m: int, n: int, *arguments: Any) -> None:
        tile = self._best_tile([(m, n)])
        launch = self._load("layers.cu", kernel, _memory(tile), TILE=tile)
        launch(self._grid(_tiles(m, n, tile)), (THREADS,), arguments)

    def _best_tile(self, products: Sequence[tuple[int, int]], in_block: Callable[[int], int] = lambda _: 1) -> int:
        """The largest of which those products (m, n) have enough to leave no more than half of the device idle.

        in_block: how many of that size a block has.
        """
        enough, tiles = self._driver.device.multiprocessors / 2, TILES[self._dtype.name]
        of_each = ((tile, sum(_tiles(m, n, tile) for m, n in products)) for tile in tiles)
        fitting = (tile for tile, count in of_each if count * len(self._tasks) >= enough * in_block(tile))
        return next(fitting, tiles[-1])

    def _grid(self, blocks: int) -> tuple[int, int]:
        return blocks, len(self._tasks)

    def _load(self, file: str, kernel: str, shared_memory: int, **constants: str | int) -> Launch:
        options = define(REAL=REAL[self._dtype.name], **constants)
        return self._driver.load(Program(file, kernel, options, shared_memory))


def _memory(tile: int) -> int:
    """Bytes of shared memory of a block that has such a tile: product.cuh's WARPS * OF_WARP numbers."""
    of_side = PACKS * 32 * 16 + 16 * tile
    return 2 * WARPS * of_side


def _tiles_of_block(tile: int) -> int:
    """Of descend.cu's, whose warps have a large tile each."""
    return WARPS if tile == TILES["float32"][0] else 1


def _tiles(m: int, n: int, tile: int) -> int:
    return -(-m // tile) * -(-n // tile)
