"""NumPy: the reference engine. BLAS writes products directly to their destination."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache, cached_property
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from fastmlp.backends.base import Array, Availability, Backend
from fastmlp.common.blas import limit, limited
from fastmlp.common.sharing import Shared
from fastmlp.ops.network import NetworkOps, Optimizer
from fastmlp.ops.patches import PatchOps

BLOCK = 2**14  # parameters that several passes take one after another: they stay in a core's cache from pass to pass
FEW_COLUMNS = 64  # up to which a reduction of rows takes longer than to transpose them and reduce columns


class NumpyOps(NetworkOps):
    """Everything is written directly to its destination: fresh memory costs more than the arithmetic on it."""

    optimizers = frozenset({"adam"})

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        # a column times a row sums nothing up, and BLAS takes twice as long for it
        multiply = np.multiply if a.shape[1] == 1 else np.matmul
        multiply(a, b, out=out)

    def gather(self, source: Array, index: Array, out: Array) -> None:
        # mode="clip" lets NumPy write to out without a temporary buffer; the trainer has checked the indices
        np.take(source, index, axis=0, out=out, mode="clip")

    def add_bias(self, z: Array, bias: Array, out: Array) -> None:
        np.add(z, bias, out=out)

    def bias_relu(self, z: Array, bias: Array, out: Array) -> None:
        np.add(z, bias, out=out)
        out.clip(0, np.inf, out=out)  # faster than NumPy's maximum of an array and a number

    def relu_backward(self, gradient: Array, activation: Array, out: Array) -> None:
        np.multiply(gradient, activation > 0, out=out)

    def column_sum(self, values: Array, out: Array) -> None:
        np.add.reduce(values, axis=0, out=out)

    def logistic(self, z: Array, out: Array) -> None:
        from scipy.special import expit  # later than the backend, for it loads slowly

        expit(z, out=out)

    def tanh(self, z: Array, out: Array) -> None:
        np.tanh(z, out=out)

    def exponential(self, z: Array, out: Array) -> None:
        np.exp(z, out=out)

    def softmax(self, logits: Array, out: Array) -> None:
        np.subtract(logits, _row_maxima(logits), out=out)
        np.exp(out, out=out)
        np.divide(out, np.add.reduce(out, axis=1, keepdims=True), out=out)

    def squared_error(self, predictions: Array, targets: Array, losses: Array) -> None:
        np.subtract(predictions, targets, out=losses)
        np.multiply(losses, losses, out=losses)
        np.divide(losses, 2, out=losses)

    def log_loss(self, probabilities: Array, targets: Array, least: float, losses: Array) -> None:
        np.clip(probabilities, least, 1 - least, out=losses)
        np.log(losses, out=losses)
        np.multiply(losses, targets, out=losses)
        np.negative(losses, out=losses)

    def binary_log_loss(self, probabilities: Array, targets: Array, least: float, losses: Array) -> None:
        np.clip(probabilities, least, 1 - least, out=losses)
        no = np.log(1 - losses)
        np.log(losses, out=losses)
        np.multiply(losses, targets, out=losses)
        np.add(losses, (1 - targets) * no, out=losses)
        np.negative(losses, out=losses)

    def residual(self, predictions: Array, targets: Array, out: Array) -> None:
        np.subtract(predictions, targets, out=out)

    def penalized_mean(self, sums: Array, values: Array, alpha: float, total: float, out: Array) -> None:
        for part in _blocks(len(sums)):
            np.add(sums[part], alpha * values[part], out=out[part])
            np.divide(out[part], total, out=out[part])

    def update(
        self, optimizer: Optimizer, slots: Array, gradient: Array, coefficients: Any, decays: bool, out: Array
    ) -> None:
        step = _adam_step if optimizer.name == "adam" else super().update
        for part in _blocks(len(gradient)):
            step(optimizer, slots[:, part], gradient[part], coefficients, decays, out[:, part])


class NumpyPatchOps(PatchOps):
    """Sums over no rows but their own."""

    def cluster_sums(self, values: Array, nearest: Array, out: Array) -> None:
        order = np.argsort(nearest, kind="stable")
        ends = np.cumsum(np.bincount(nearest, minlength=len(out)))
        out[...] = 0
        for total, first, last in zip(out, (0, *ends), ends, strict=False):
            if first < last:  # unlike reduce, reduceat sums pairwise
                total[:] = np.add.reduceat(values[order[first:last]], [0], axis=0)[0]


def _row_maxima(values: Array) -> Array:
    """The largest number of each row: (m, 1)."""
    if values.shape[1] > FEW_COLUMNS:
        return np.maximum.reduce(values, axis=1, keepdims=True)
    return np.maximum.reduce(np.ascontiguousarray(values.T), axis=0)[:, None]


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, count, BLOCK))


def _adam_step(
    optimizer: Optimizer, slots: Array, gradient: Array, coefficients: Sequence[float], decays: bool, out: Array
) -> None:
    """`Adam.step`, operation by operation."""
    (value, first, second), (new_value, new_first, new_second) = slots, out
    beta_1, beta_2, epsilon = (optimizer.constants[name] for name in ("beta_1", "beta_2", "epsilon"))
    kept, step_size, correction = coefficients
    change, size = np.multiply(gradient, 1 - beta_1), np.multiply(gradient, gradient)
    np.add(np.multiply(first, beta_1, out=new_first), change, out=new_first)
    np.multiply(size, 1 - beta_2, out=size)
    np.add(np.multiply(second, beta_2, out=new_second), size, out=new_second)
    np.sqrt(new_second, out=size)
    if correction != 1:
        np.multiply(size, correction, out=size)
    np.add(size, epsilon, out=size)
    np.divide(np.multiply(new_first, step_size, out=change), size, out=change)
    if decays and kept != 1:
        value = np.multiply(value, kept, out=new_value)
    np.subtract(value, change, out=new_value)


class NumpyBackend(Backend):
    name = "numpy"
    xp = xp
    one_thread_per_op = True

    @cached_property
    def network_ops(self) -> NetworkOps:
        return NumpyOps(self.xp)

    @cached_property
    def patch_ops(self) -> PatchOps:
        return NumpyPatchOps(self.xp)

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
        limit(blas(), threads)

    def one_thread(self) -> AbstractContextManager[Any]:
        return _ONE_THREAD.held()


@cache
def blas() -> ThreadpoolController:
    """The BLAS library that NumPy uses."""
    return ThreadpoolController().select(user_api="blas")


_ONE_THREAD = Shared(lambda: limited(blas(), 1))
