"""Numba: NumPy's arrays, with compiled kernels for every op that is not a matrix product."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar

import numpy as np
from numba import config

from fastmlp.backends.base import Array, Availability, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import first_line
from fastmlp.kernels import Head
from fastmlp.kernels.cpu import augment, parallel
from fastmlp.kernels.cpu.dense import (
    adam_update,
    add_bias,
    bias_relu,
    column_sum,
    relu_backward,
    sgd_update,
    standardize,
)
from fastmlp.kernels.cpu.fused_epoch import fused_epoch, fused_evaluation
from fastmlp.kernels.cpu.jit import cache_folder
from fastmlp.kernels.cpu.patches import add_squares, extract_patches, triangle_pool
from fastmlp.kernels.cpu.softmax_xent import softmax_xent

DENSE = (standardize, add_bias, bias_relu, relu_backward, column_sum, softmax_xent, sgd_update, adam_update)
PATCHES = (extract_patches, add_squares, triangle_pool)
BATCH_ROWS = 1024  # measured: in larger batches BLAS, which cuts them into blocks, catches up with the fused epoch


class NumbaBackend(NumpyBackend):
    name = "numba"
    fuses_evaluation = True
    kernels: ClassVar[Mapping[str, Kernel]] = {
        **NumpyBackend.kernels,
        **{kernel.__name__: kernel for kernel in (*DENSE, *PATCHES)},
    }
    image_kernels = augment.KERNELS

    @classmethod
    def probe(cls) -> Availability:
        try:
            _compile_and_run()
        except Exception as error:  # noqa: BLE001  (Numba, llvmlite and LLVM each raise their own)
            mend = "Reinstall both: pip install --force-reinstall numba llvmlite."
            return Availability(False, f"Numba cannot compile here ({first_line(error)}).", mend)
        versions = {name: version(name) for name in ("numba", "llvmlite", "numpy")}
        return Availability(True, details={**versions, "cache": cache_folder(add_bias)})

    def set_threads(self, threads: int) -> None:
        super().set_threads(threads)
        parallel.set_threads(threads)

    def fused_epoch_refusal(self, sizes: Sequence[int], dtype: str, batch_size: int) -> str:
        if config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT is set, and numba's fused epoch runs compiled only"
        if not hasattr(os, "sched_yield"):
            return "numba's fused epoch needs a POSIX system"
        if len(sizes) != 3:
            return "numba's fused epoch is for one hidden layer"
        if batch_size > BATCH_ROWS:
            return f"numba's fused epoch is for batches of up to {BATCH_ROWS} rows"
        return ""

    def fused_epoch(self, heads: Sequence[Head], features: Array, labels: Array) -> list[tuple[float, int]]:
        return fused_epoch(heads, features, labels, self.threads)

    def fused_evaluation(self, heads: Sequence[Head], features: Array, labels: Array) -> list[tuple[float, int]]:
        return fused_evaluation(heads, features, labels, self.threads)


def _compile_and_run() -> None:
    ones = np.ones((1, 2), np.float32)
    add_bias(ones, ones[0], ones)
    if ones.tolist() != [[2.0, 2.0]]:
        raise RuntimeError("a sum of ones came out wrong")
