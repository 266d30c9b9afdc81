"""Training steps in few launches: of L layers, 2 L - 1 if there are few classes, and 2 L + 1 otherwise.

A launch of a small product takes as long as its longest chain of terms, whatever it computes, so each does all that
its inputs allow: a layer with its ReLU, and the first one with the gathering of its rows; the last layer with softmax,
loss and two layers' deltas; all gradients with the optimizer's step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
FEW_ROWS, MANY_ROWS = 256, 2**30  # of a batch: estimated to be faster than op by op; that can be fused at all
HEAD_MEMORY = 48 * 1024  # bytes of shared memory that every block may take
LAYER = np.dtype(
    [
        ("weights", np.uint64, MOST_SLOTS),
        ("biases", np.uint64, MOST_SLOTS),
        ("inputs", np.uint64),
        ("delta", np.uint64),
        ("k", np.int32),
        ("n", np.int32),
        ("blocks_in_row", np.int32),
        ("first_block", np.uint32),
    ]
)  # `Layer` of descend.cu

Place = Callable[[NDArray[Any]], Array]  # a host array to the device
Empty = Callable[[tuple[int, ...], str], Array]  # an array there
Data = tuple[Array, Array, Array | None]  # features, labels and weights of all rows


def fuses_steps(task: EpochTask, most_rows: int) -> bool:
    """Whether such steps are fused, if those of so many rows at most are to be."""
    known = task.rule.name in optimizers() and len(task.rule.moments) < MOST_SLOTS
    return known and task.batch_size <= most_rows


@dataclass(frozen=True)
class Batch:
    """The rows of a batch: which of the data, order int64 (m,)."""

    data: Data
    order: Array

    @property
    def rows(self) -> int:
        return int(self.order.shape[0])


class FusedSteps:
    """The steps of the task's network; of the task, its order, coefficients and row weights are not read.

    It launches, and neither allocates nor waits, so it can be recorded. place and empty make arrays on the device.
    """

    def __init__(self, driver: Driver, place: Place, empty: Empty, task: EpochTask) -> None:
        self._driver, self._task, self._layers = driver, task, task.slots[0]
        self._sizes, self._dtype = task.sizes, task.slots[0][0][0].dtype
        rows, widths, name = task.batch_size, task.sizes[1:], self._dtype.name
        self._activations, self._deltas = ([empty((rows, width), name) for width in widths] for _ in range(2))
        self._losses, self._hits = empty((rows,), name), empty((rows,), "int32")
        self._mean = self._layers[0][1] if task.mean is None else task.mean  # any valid address, if there is none
        self._tile = self._best_tile(list(pairwise(self._sizes)))
        self._table, self._blocks = self._placed_table(place)

    def __call__(self, data: Data, order: Array, coefficients: Sequence[Array], losses: Array, hits: Array) -> None:
        """A step per batch of the order, by its row of coefficients, on the device; its loss and hits."""
        contiguous(*(array for array in data if array is not None))
        size = self._task.batch_size
        for step, row in enumerate(coefficients):
            batch = Batch(data, order[step * size : (step + 1) * size])
            self._forward(batch)
            self._backward(batch)
            self._descend(batch, row, losses[step : step + 1], hits[step : step + 1])

    @property
    def _last(self) -> int:
        return len(self._layers) - 1

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
            self._layer(batch, layer, self._activations[layer], relu=True)
        if self._has_head:
            self._head(batch)
        else:
            self._layer(batch, self._last, self._deltas[-1], relu=False)
            self._softmax_rows(batch)

    def _layer(self, batch: Batch, layer: int, out: Array, *, relu: bool) -> None:
        (weights, bias), m = self._layers[layer], batch.rows
        k, n = weights.shape
        sizes = np.int32(m), np.int32(k), np.int32(n), np.bool_(relu)
        if layer == 0:
            self._product("gather_forward", m, n, *self._rows_of(batch), weights, bias, out, *sizes)
        else:
            self._product("forward", m, n, self._activations[layer - 1], weights, bias, out, *sizes)

    def _rows_of(self, batch: Batch) -> tuple[Any, ...]:
        """features, order, mean, scale, centred."""
        task = self._task
        return batch.data[0], batch.order, self._mean, self._real(task.scale), np.bool_(task.mean is not None)

    def _head(self, batch: Batch) -> None:
        k, classes = self._layers[-1][0].shape
        outputs = self._deltas[-1], self._deltas[-2], self._losses, self._hits
        sizes = np.int32(batch.rows), np.int32(k), np.int32(classes)
        arguments = (self._activations[-2], *self._layers[-1], *self._targets(batch), *outputs, *sizes)
        self._on_rows("head", batch, self._head_memory, arguments)

    def _softmax_rows(self, batch: Batch) -> None:
        sizes = np.int32(batch.rows), np.int32(self._sizes[-1])
        arguments = (self._deltas[-1], *self._targets(batch), self._losses, self._hits, *sizes)
        self._on_rows("softmax_rows", batch, 0, arguments)

    def _targets(self, batch: Batch) -> tuple[Any, ...]:
        """labels, order, weights, weighted, smoothing."""
        _, labels, weights = batch.data
        given = self._losses if weights is None else weights  # any valid address, if there are none
        return labels, batch.order, given, np.bool_(weights is not None), self._real(self._task.smoothing)

    # Backward.

    def _backward(self, batch: Batch) -> None:
        """The deltas of all layers before the last, and before the one that the head has filled."""
        for layer in range(self._last - self._has_head, 0, -1):
            weights, _ = self._layers[layer]
            (n, k), m = weights.shape, batch.rows
            arrays = self._deltas[layer], weights, self._activations[layer - 1], self._deltas[layer - 1]
            self._product("backward", m, n, *arrays, np.int32(m), np.int32(k), np.int32(n))

    def _descend(self, batch: Batch, coefficients: Array, loss: Array, hits: Array) -> None:
        options = define_optimizer(self._task.rule)
        launch = self._load("descend.cu", "descend", _memory(self._tile), TILE=self._tile, **options)
        table = self._table, np.int32(len(self._layers)), coefficients
        outputs = self._losses, self._hits, loss, hits, np.int32(batch.rows)
        launch((self._blocks + 1,), (THREADS,), (*self._rows_of(batch), *table, *outputs))

    def _placed_table(self, place: Place) -> tuple[Array, int]:
        """Every layer as descend.cu reads it, and how many blocks they have."""
        table, address = np.zeros(len(self._layers), LAYER), self._driver.address
        blocks = 0
        for layer, row in enumerate(table):
            for slot, layers in enumerate(self._task.slots):
                row["weights"][slot], row["biases"][slot] = map(address, layers[layer])
            row["inputs"] = address(self._activations[layer - 1]) if layer else 0
            row["delta"] = address(self._deltas[layer])
            row["k"], row["n"] = k, n = self._sizes[layer : layer + 2]
            row["first_block"], row["blocks_in_row"] = blocks, -(-n // self._tile)
            blocks += _tiles(k, n, self._tile)
        return place(table.view(np.uint8)), blocks

    # Launches.

    def _product(self, kernel: str, m: int, n: int, *arguments: Any) -> None:
        tile = self._best_tile([(m, n)])
        launch = self._load("layers.cu", kernel, _memory(tile), TILE=tile)
        launch((_tiles(m, n, tile),), (THREADS,), arguments)

    def _best_tile(self, products: Sequence[tuple[int, int]]) -> int:
        """The largest of which those products (m, n) have enough to leave no more than half of the device idle."""
        enough, tiles = self._driver.device.multiprocessors / 2, TILES[self._dtype.name]
        fitting = (tile for tile in tiles if sum(_tiles(m, n, tile) for m, n in products) >= enough)
        return next(fitting, tiles[-1])

    def _on_rows(self, kernel: str, batch: Batch, shared_memory: int, arguments: tuple[Any, ...]) -> None:
        launch = self._load("head.cu", kernel, shared_memory)
        launch((-(-batch.rows // WARPS),), (THREADS,), arguments)

    def _load(self, file: str, kernel: str, shared_memory: int, **constants: str | int) -> Launch:
        options = define(REAL=REAL[self._dtype.name], **constants)
        return self._driver.load(Program(file, kernel, options, shared_memory))

    def _real(self, number: float) -> Any:
        return self._dtype.type(number)


def _memory(tile: int) -> int:
    """Bytes of shared memory of a block that has such a tile: product.cuh's WARPS * OF_WARP numbers."""
    of_side = PACKS * 32 * 16 + 16 * tile
    return 2 * WARPS * of_side


def _tiles(m: int, n: int, tile: int) -> int:
    return -(-m // tile) * -(-n // tile)
