"""Numba: NumPy's arrays, with compiled kernels for every op that is not a matrix product."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp.backends.base import Array, Availability
from fastmlp.backends.numpy import NumpyBackend, NumpyOps, NumpyPatchOps
from fastmlp.common.errors import first_line
from fastmlp.kernels import EpochKind, EpochTask
from fastmlp.kernels.cpu import augment, dense, optimizers, parallel, patches
from fastmlp.kernels.cpu.fused_epoch import fused_epoch, fused_evaluation
from fastmlp.kernels.cpu.jit import cache_folder, is_compiled
from fastmlp.kernels.cpu.softmax_xent import softmax_xent
from fastmlp.ops.network import NetworkOps, Optimizer
from fastmlp.ops.patches import PatchOps

# Measured, on one core with AVX-512: from here on BLAS, with its blocking for caches, catches up with the fused epoch.
MOST_WEIGHTS = 2**21
WIDE_UNITS, WIDE_ROWS = 512, 256  # of a hidden layer, and of a batch


class NumbaOps(NumpyOps):
    """A kernel for every op that is not a product."""

    optimizers = optimizers.NAMES

    standardize = staticmethod(dense.standardize)
    add_bias = staticmethod(dense.add_bias)
    bias_relu = staticmethod(dense.bias_relu)
    relu_backward = staticmethod(dense.relu_backward)
    column_sum = staticmethod(dense.column_sum)
    softmax_xent = staticmethod(softmax_xent)

    def update(
        self, optimizer: Optimizer, slots: Array, gradient: Array, coefficients: Any, decays: bool, out: Array
    ) -> None:
        if optimizer.name in self.optimizers:
            dense.update(optimizers.rule_of(optimizer), slots, gradient, coefficients, decays, out)
        else:
            super().update(optimizer, slots, gradient, coefficients, decays, out)


class NumbaPatchOps(NumpyPatchOps):
    """A kernel for every op of features."""

    extract_patches = staticmethod(patches.extract_patches)
    add_squares = staticmethod(patches.add_squares)
    triangle_pool = staticmethod(patches.triangle_pool)


class NumbaBackend(NumpyBackend):
    name = "numba"
    fuses_evaluation = True
    fills_host = True
    image_kernels = augment.KERNELS

    @cached_property
    def network_ops(self) -> NetworkOps:
        return NumbaOps(self.xp)

    @cached_property
    def patch_ops(self) -> PatchOps:
        return NumbaPatchOps(self.xp)

    @classmethod
    def probe(cls) -> Availability:
        try:
            _compile_and_run()
        except Exception as error:  # noqa: BLE001  (Numba, llvmlite and LLVM each raise their own)
            fix = "Reinstall both: pip install --force-reinstall numba llvmlite."
            return Availability(False, f"Numba cannot compile here ({first_line(error)}).", fix)
        versions = {name: version(name) for name in ("numba", "llvmlite", "numpy")}
        return Availability(True, details={**versions, "cache": cache_folder(dense.column_sum)})

    def set_threads(self, threads: int) -> None:
        super().set_threads(threads)
        parallel.set_threads(threads)

    def least_alike(self, threads: int) -> int:
        return threads  # fewer may have several each

    def epoch_ways(self) -> Iterator[NumbaBackend]:
        """By some threads, fewer and more than there may be cores."""
        for threads in (1, 2, 4):
            confined = copy(self)
            confined.threads, confined.way = threads, f"{threads} threads"
            yield confined

    def fused_epoch_refusal(self, kind: EpochKind) -> str:
        sizes, optimizer = kind.sizes, kind.optimizer
        if not is_compiled(dense.add_bias):
            return "NUMBA_DISABLE_JIT is set, and numba's fused epoch only runs compiled"
        if not hasattr(time, "clock_gettime"):
            return "numba's fused epoch needs a POSIX system"
        if optimizer.name not in optimizers.NAMES:
            return f"numba's fused epoch has no step of {optimizer.name}"
        if sum(inputs * units for inputs, units in pairwise(sizes)) > MOST_WEIGHTS:
            return f"BLAS multiplies as fast as numba's fused epoch for more than {MOST_WEIGHTS:,} weights"
        if max(sizes[1:-1], default=0) > WIDE_UNITS and kind.batch_size > WIDE_ROWS:
            return (
                f"BLAS multiplies faster than numba's fused epoch for batches of more than {WIDE_ROWS} rows "
                f"and more than {WIDE_UNITS} hidden units"
            )
        return ""

    def fused_epoch(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        return fused_epoch(tasks, features, labels, self.threads)

    def fused_evaluation(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        return fused_evaluation(tasks, features, labels, self.threads)


def _compile_and_run() -> None:
    ones, sums = np.ones((2, 2), np.float32), np.zeros(2, np.float32)
    dense.column_sum(ones, sums)  # the kernel that compiles fastest
    if sums.tolist() != [2.0, 2.0]:
        raise RuntimeError("a sum of ones came out wrong")
