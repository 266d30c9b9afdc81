"""Numba: NumPy's arrays, with compiled kernels for every op that is not a matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from fastmlp.backends.base import Availability, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.errors import first_line
from fastmlp.kernels.cpu import parallel
from fastmlp.kernels.cpu.contrast import contrast
from fastmlp.kernels.cpu.crop import crop
from fastmlp.kernels.cpu.cutout import cutout
from fastmlp.kernels.cpu.dense import add_bias, bias_relu, column_sum, relu_backward, sgd_update
from fastmlp.kernels.cpu.hflip import hflip
from fastmlp.kernels.cpu.jit import cache_folder
from fastmlp.kernels.cpu.rotate import rotate
from fastmlp.kernels.cpu.rotate_by_shears import rotate_by_shears
from fastmlp.kernels.cpu.softmax_xent import softmax_xent

DENSE = (add_bias, bias_relu, relu_backward, column_sum, softmax_xent, sgd_update)
AUGMENTATIONS = (crop, rotate, rotate_by_shears, cutout, contrast, hflip)


class NumbaBackend(NumpyBackend):
    name = "numba"
    kernels: ClassVar[Mapping[str, Kernel]] = {
        **NumpyBackend.kernels,
        **{kernel.__name__: kernel for kernel in (*DENSE, *AUGMENTATIONS)},
    }

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


def _compile_and_run() -> None:
    ones = np.ones((1, 2), np.float32)
    add_bias(ones, ones[0], ones)
    if ones.tolist() != [[2.0, 2.0]]:
        raise RuntimeError("a sum of ones came out wrong")
