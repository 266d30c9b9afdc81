"""The network's ops as launches: arrays of one float type, contiguous unless said otherwise, on the driver's device.

An op allocates nothing and does not wait, so that it can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastmlp.common.errors import UsageError
from fastmlp.ops.network import NetworkOps, Optimizer

from .driver import WARP, Array, Driver, Launch, Program, round_up
from .sources import define, define_optimizer, optimizers

REAL = {"float32": "float", "float64": "double"}
ELEMENT = {**REAL, "int64": "int64"}
THREADS = 64  # per block of an elementwise kernel: few, so that even small arrays spread over the multiprocessors
EACH = 8  # numbers per thread, as in each.cuh
SUM_THREADS = 128  # per block that sums 32 columns
MOST_THREADS = 512  # per block of softmax_xent.cu
FEW_CLASSES = 16  # up to which one thread handles a whole row of logits


class Finish(IntEnum):
    """What matmul.cu does with a product before it stores it."""

    NOTHING = 0
    BIAS = 1
    BIAS_RELU = 2
    ACTIVE = 3
    COLUMN_SUMS = 4


@dataclass(frozen=True)
class Tiling:
    """How matmul.cu tiles a product: TILE numbers per side, PACKS loads of each input in flight, threads per block."""

    tile: int
    packs: int
    threads: int

    @property
    def shared_memory(self) -> int:
        return 2 * self.packs * 16 * self.threads

    @property
    def constants(self) -> dict[str, int]:
        return {"TILE": self.tile, "PACKS": self.packs}

    def __str__(self) -> str:
        return f"{self.tile} by {self.threads} threads"

    def tiles(self, m: int, n: int) -> int:
        return -(-m // self.tile) * -(-n // self.tile)


LARGE, MEDIUM = Tiling(64, 4, 256), Tiling(32, 8, 128)
SMALL, SMALL_OF_LONG_SUMS = Tiling(16, 8, 32), Tiling(16, 8, 128)
LONG_SUM = 128  # of products: beyond it, a small tile is worth four times the threads
TILINGS = (LARGE, MEDIUM, SMALL, SMALL_OF_LONG_SUMS)

Coefficients = Any  # of a step: a tuple of numbers, or a float64 array on the device


class CudaOps(NetworkOps):
    """One launch per op; place copies a host array to the driver's device; tiling is that of all products, if given."""

    def __init__(self, xp: Any, driver: Driver, place: Callable[[Any], Array], tiling: Tiling | None = None) -> None:
        super().__init__(xp)
        self._given_tiling = tiling
        self.optimizers = optimizers()
        self._driver = driver
        self._load = cache(self._new_launch)
        self._place_row = lru_cache(maxsize=64)(lambda row: place(np.array(row, np.float64)))

    def _new_launch(self, file: str, kernel: str, shared_memory: int = 0, **constants: str | int) -> Launch:
        return self._driver.load(Program(file, kernel, define(**constants), shared_memory))

    def _row(self, coefficients: Coefficients) -> Array:
        """A step's coefficients on the device; those of a recorded step are there already."""
        return self._place_row(coefficients) if isinstance(coefficients, tuple) else coefficients

    # Rows.

    def gather(self, source: Array, index: Array, out: Array) -> None:
        if out.size:
            rows, width = out.shape[0], out.size // out.shape[0]
            pack = 16 // out.dtype.itemsize
            moves = out.size if width % pack else out.size // pack
            launch = self._load("gather.cu", "gather", ELEMENT=ELEMENT[out.dtype.name])
            _launch_each(launch, moves, source, index, out, np.int64(rows), np.int64(width))

    def standardize(self, features: Array, mean: Array, scale: float, out: Array) -> None:
        multiplier = features.dtype.type(scale)
        self._elementwise("standardize", features, mean, multiplier, out, np.int64(out.size), np.int64(out.shape[1]))

    def add_bias(self, z: Array, bias: Array, out: Array) -> None:
        self._elementwise("add_bias", z, bias, out, np.int64(out.size), np.int64(out.shape[1]))

    def bias_relu(self, z: Array, bias: Array, out: Array) -> None:
        self._elementwise("bias_relu", z, bias, out, np.int64(out.size), np.int64(out.shape[1]))

    def relu_backward(self, gradient: Array, activation: Array, out: Array) -> None:
        self._elementwise("relu_backward", gradient, activation, out, np.int64(out.size))

    def _elementwise(self, kernel: str, *arguments: Any) -> None:
        first = arguments[0]
        if first.size:
            launch = self._load("dense.cu", kernel, REAL=REAL[first.dtype.name])
            _launch_each(launch, first.size, *arguments)

    def column_sum(self, values: Array, out: Array) -> None:
        rows, columns = values.shape
        if columns:
            shared = SUM_THREADS * values.dtype.itemsize
            launch = self._load("dense.cu", "column_sum", shared, REAL=REAL[values.dtype.name])
            sizes = (np.int64(rows), np.int64(columns))
            launch((-(-columns // WARP),), (SUM_THREADS,), contiguous(values, out, *sizes))

    # Products.

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        self._product(a, b, out, Finish.NOTHING)

    def dense(self, a: Array, weight: Array, bias: Array, out: Array) -> None:
        self._product(a, weight, out, Finish.BIAS, given=bias)

    def dense_relu(self, a: Array, weight: Array, bias: Array, out: Array) -> None:
        self._product(a, weight, out, Finish.BIAS_RELU, given=bias)

    def dense_backward(self, delta: Array, weight: Array, activation: Array, out: Array) -> None:
        self._product(delta, weight, out, Finish.ACTIVE, given=activation)

    def dense_gradients(self, inputs: Array, delta: Array, weight_gradient: Array, bias_gradient: Array) -> None:
        self._product(inputs, delta, weight_gradient, Finish.COLUMN_SUMS, column_sums=bias_gradient)

    def _product(
        self,
        a: Array,
        b: Array,
        out: Array,
        finish: Finish,
        given: Array | None = None,
        column_sums: Array | None = None,
    ) -> None:
        (m, n), k = out.shape, a.shape[1]
        rows = m + (finish == Finish.COLUMN_SUMS)
        if not rows * n:
            return
        tiling = self._given_tiling or self._best_tiling(rows, n, k)
        (a, a_transposed), (b, b_transposed) = _stored(a), _stored(b)
        given, column_sums = (out if array is None else array for array in (given, column_sums))  # any valid pointer
        real = REAL[out.dtype.name]
        launch = self._load("matmul.cu", "matmul", tiling.shared_memory, REAL=real, **tiling.constants)
        sizes = (np.int64(m), np.int64(k), np.int64(n))
        how = (np.bool_(a_transposed), np.bool_(b_transposed), np.int32(finish))
        arguments = contiguous(a, b, given, out, column_sums, *sizes, *how)
        launch((tiling.tiles(rows, n),), (tiling.threads,), arguments)

    def _best_tiling(self, m: int, n: int, k: int) -> Tiling:
        """The largest tiles that leave no more than half of the device idle."""
        for tiling in (LARGE, MEDIUM):
            if 2 * tiling.tiles(m, n) >= self._driver.device.multiprocessors:
                return tiling
        return SMALL_OF_LONG_SUMS if k > LONG_SUM else SMALL

    # The loss.

    def softmax_xent(self, logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        self._softmax_xent("softmax_xent", logits, labels, gradient, loss, hits)

    def weighted_softmax_xent(
        self, logits: Array, labels: Array, weights: Array, gradient: Array, loss: Array, hits: Array
    ) -> None:
        self._softmax_xent("weighted_softmax_xent", logits, labels, weights, gradient, loss, hits)

    def _softmax_xent(self, kernel: str, logits: Array, *arrays: Array) -> None:
        rows, classes = logits.shape
        lanes = 1 if classes <= FEW_CLASSES else WARP
        threads = min(max(round_up(rows * lanes, WARP), WARP), MOST_THREADS)
        shared = 2 * (-(-threads // lanes * 8 // 16) * 16)
        launch = self._load("softmax_xent.cu", kernel, shared, REAL=REAL[logits.dtype.name])
        launch((1,), (threads,), contiguous(logits, *arrays, np.int64(rows), np.int32(classes), np.int32(lanes)))

    # The optimizer's step.

    def update(
        self, optimizer: Optimizer, slots: Array, gradient: Array, coefficients: Coefficients, decays: bool, out: Array
    ) -> None:
        count = slots.shape[1]
        if optimizer.name not in self.optimizers:
            super().update(optimizer, slots, gradient, coefficients, decays, out)
        elif count:
            launch = self._load("update.cu", "update", REAL=REAL[slots.dtype.name], **define_optimizer(optimizer))
            row = self._row(coefficients)
            _launch_each(launch, count, slots, gradient, row, np.bool_(decays), out, np.int64(count))


def _launch_each(launch: Launch, count: int, *arguments: Any) -> None:
    """Launch enough threads for `count` numbers, EACH of them per thread."""
    launch((-(-count // (THREADS * EACH)),), (THREADS,), contiguous(*arguments))


def _stored(matrix: Array) -> tuple[Array, bool]:
    """The matrix as stored, row by row, and whether the argument is its transposed view."""
    transposed = not matrix.flags.c_contiguous
    return (matrix.T if transposed else matrix), transposed


def contiguous(*arguments: Any) -> tuple[Any, ...]:
    """The arguments; UsageError if one is an array with gaps, which kernels would ignore."""
    for argument in arguments:
        if hasattr(argument, "flags") and not argument.flags.c_contiguous:
            raise UsageError("CUDA kernels take contiguous arrays: copy the array first.")
    return arguments
