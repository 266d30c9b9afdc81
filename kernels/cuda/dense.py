"""The MLP's ops as launches: each fits arrays of REAL, contiguous but where it says so, on the driver's device."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.errors import UsageError

from .driver import Array, Driver, Program
from .sources import define

REAL = {"float32": "float", "float64": "double"}
THREADS = 256


class Dense:
    """The ops, by the names and with the arguments of `fastmlp.mlp_ops`, less the namespace."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def add_bias(self, z: Array, bias: Array, out: Array) -> None:
        self._elementwise("add_bias", z, bias, out, np.int64(z.size), np.int32(z.shape[1]))

    def bias_relu(self, z: Array, bias: Array, out: Array) -> None:
        self._elementwise("bias_relu", z, bias, out, np.int64(z.size), np.int32(z.shape[1]))

    def _elementwise(self, kernel: str, *arguments: Any) -> None:
        """A thread for each number of the first array."""
        first = arguments[0]
        if first.size:
            program = Program("dense.cu", kernel, define(REAL=REAL[first.dtype.name]))
            self._driver.load(program)((-(-first.size // THREADS),), (THREADS,), _contiguous(arguments))


def _contiguous(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments; UsageError if an array among them has gaps, which a kernel does not see."""
    for argument in arguments:
        if hasattr(argument, "flags") and not argument.flags.c_contiguous:
            raise UsageError("CUDA kernels take contiguous arrays: copy the array first.")
    return arguments
