"""NumPy: the reference engine. BLAS writes products directly to their destination."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache, cached_property
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from fastmlp.backends.base import Array, Availability, Backend
from fastmlp.common.sharing import Shared
from fastmlp.ops.network import NetworkOps


class NumpyOps(NetworkOps):
    """Products, gathered rows and activations are written directly to their destination."""

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        np.matmul(a, b, out=out)

    def gather(self, source: Array, index: Array, out: Array) -> None:
        # mode="clip" lets NumPy write to out without a temporary buffer; the trainer has checked the indices
        np.take(source, index, axis=0, out=out, mode="clip")

    def logistic(self, z: Array, out: Array) -> None:
        from scipy.special import expit  # later than the backend, for it loads slowly

        expit(z, out=out)

    def tanh(self, z: Array, out: Array) -> None:
        np.tanh(z, out=out)


class NumpyBackend(Backend):
    name = "numpy"
    xp = xp
    one_thread_per_op = True

    @cached_property
    def network_ops(self) -> NetworkOps:
        return NumpyOps(self.xp)

    @classmethod
    def probe(cls) -> Availability:
        return Availability(usable=True, details={"numpy": np.__version__})

    def asarray(self, array: NDArray[Any]) -> Array:
        return np.asarray(array)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        return np.asarray(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return np.empty(shape, dtype)

    def set_threads(self, threads: int) -> None:
        super().set_threads(threads)
        blas().limit(limits=threads)

    def one_thread(self) -> AbstractContextManager[Any]:
        return _ONE_THREAD.held()


@cache
def blas() -> ThreadpoolController:
    """The BLAS library that NumPy uses."""
    return ThreadpoolController().select(user_api="blas")


_ONE_THREAD = Shared(lambda: blas().limit(limits=1))
