"""PyTorch as an array engine, on the CPU, CUDA or MPS: manual backward, preallocated outputs, no autograd."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, lru_cache
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability, Backend
from fastmlp.common.errors import BackendError, first_line
from fastmlp.common.sharing import Shared
from fastmlp.ops.network import NetworkOps, Optimizer

ZERO = torch.zeros(())  # on the CPU, from where every device accepts a scalar
NO_CLASS = -1


class TorchOps(NetworkOps):
    """PyTorch's functions with preallocated outputs."""

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        torch.mm(a, b, out=out)

    def gather(self, source: Array, index: Array, out: Array) -> None:
        torch.index_select(source, 0, index, out=out)

    def standardize(self, features: Array, mean: Array, scale: float, out: Array) -> None:
        torch.sub(features, mean, out=out).mul_(scale)

    def add_bias(self, z: Array, bias: Array, out: Array) -> None:
        torch.add(z, bias, out=out)

    def bias_relu(self, z: Array, bias: Array, out: Array) -> None:
        torch.add(z, bias, out=out).relu_()

    def relu_backward(self, gradient: Array, activation: Array, out: Array) -> None:
        # as floats: a product with a bool tensor converts it first, which takes three times as long
        active = torch.gt(activation, ZERO, out=torch.empty_like(activation))
        torch.mul(gradient, active, out=out)

    def column_sum(self, values: Array, out: Array) -> None:
        torch.sum(values, 0, out=out)

    def logistic(self, z: Array, out: Array) -> None:
        torch.sigmoid(z, out=out)

    def tanh(self, z: Array, out: Array) -> None:
        torch.tanh(z, out=out)

    def exponential(self, z: Array, out: Array) -> None:
        torch.exp(z, out=out)

    def softmax(self, logits: Array, out: Array) -> None:
        # step by step, as below
        torch.sub(logits, torch.amax(logits, 1, keepdim=True), out=out).exp_()
        out.div_(out.sum(1, keepdim=True))

    def squared_error(self, predictions: Array, targets: Array, losses: Array) -> None:
        torch.sub(predictions, targets, out=losses).square_().div_(2)

    def log_loss(self, probabilities: Array, targets: Array, least: float, losses: Array) -> None:
        torch.clamp(probabilities, least, 1 - least, out=losses).log_().mul_(targets).neg_()

    def binary_log_loss(self, probabilities: Array, targets: Array, least: float, losses: Array) -> None:
        yes = torch.clamp(probabilities, least, 1 - least, out=losses)
        no = torch.rsub(yes, 1).log_().mul_(torch.rsub(targets, 1))
        yes.log_().mul_(targets).add_(no).neg_()

    def residual(self, predictions: Array, targets: Array, out: Array) -> None:
        torch.sub(predictions, targets, out=out)

    def penalized_mean(self, sums: Array, values: Array, alpha: float, total: float, out: Array) -> None:
        torch.add(sums, values, alpha=alpha, out=out).div_(total)

    def softmax_xent(self, logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        # step by step: torch's own softmax works row by row, which takes longer for rows of 10
        rows = labels.unsqueeze(1)
        minus_ones, count = _constants(labels.shape[0], logits.dtype, logits.device)
        best, predicted = torch.max(logits, 1, keepdim=True)  # of the logits: later rounding makes new ties
        predicted.masked_fill_(best != best, NO_CLASS)
        torch.sum(predicted.eq_(rows), 0, out=hits)
        torch.sub(logits, best, out=gradient)
        at_label = gradient.gather(1, rows)
        sums = gradient.exp_().sum(1, keepdim=True)
        torch.sum(sums.log().sub_(at_label), 0, out=loss)
        gradient.div_(sums).scatter_add_(1, rows, minus_ones).div_(count)

    optimizers = frozenset({"sgd", "adam"})

    def update(
        self, optimizer: Optimizer, slots: Array, gradient: Array, coefficients: Any, decays: bool, out: Array
    ) -> None:
        kept, *own = coefficients
        kept = kept if decays else 1.0
        if optimizer.name == "sgd":
            _sgd_step(slots, gradient, kept, own, out)
        elif optimizer.name == "adam":
            _adam_step(optimizer, slots, gradient, kept, own, out)
        else:
            super().update(optimizer, slots, gradient, coefficients, decays, out)


def _sgd_step(slots: Array, gradient: Array, kept: float, coefficients: Sequence[float], out: Array) -> None:
    value = slots[0] if kept == 1 else torch.mul(slots[0], kept, out=out[0])
    torch.sub(value, gradient, alpha=coefficients[0], out=out[0])


def _adam_step(
    optimizer: Optimizer, slots: Array, gradient: Array, kept: float, coefficients: Sequence[float], out: Array
) -> None:
    (value, first, second), (out_value, out_first, out_second) = slots, out
    beta_1, beta_2, epsilon = (optimizer.constants[name] for name in ("beta_1", "beta_2", "epsilon"))
    step_size, correction = coefficients
    torch.mul(first, beta_1, out=out_first).add_(gradient, alpha=1 - beta_1)
    torch.mul(second, beta_2, out=out_second).addcmul_(gradient, gradient, value=1 - beta_2)
    size = torch.sqrt(out_second).mul_(correction).add_(epsilon)
    value = value if kept == 1 else torch.mul(value, kept, out=out_value)
    torch.addcdiv(value, out_first, size, value=-step_size, out=out_value)


@lru_cache(maxsize=64)
def _constants(rows: int, dtype: torch.dtype, device: torch.device) -> tuple[Array, Array]:
    """-1 for each row (rows, 1), and the number of rows (): PyTorch converts a Python number at every call."""
    count = torch.tensor(max(rows, 1), dtype=dtype, device=device)
    return torch.full((rows, 1), -1.0, dtype=dtype, device=device), count


class TorchBackend(Backend):
    name = "torch"
    xp = xp

    @cached_property
    def network_ops(self) -> NetworkOps:
        return TorchOps(self.xp)

    def __init__(self, device: str | None = None) -> None:
        self.device = device or best_device()
        try:
            torch.ones(2, device=self.device).sum().item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise BackendError(
                f"Torch cannot use the device {self.device!r} here ({first_line(error)}): choose --backend torch:cpu."
            ) from None

    @classmethod
    def probe(cls) -> Availability:
        return Availability(usable=True, details={"torch": torch.__version__, "device": best_device()})

    def asarray(self, array: NDArray[Any]) -> Array:
        if not (array.flags.writeable and array.dtype.isnative and min(array.strides, default=0) >= 0):
            array = array.astype(array.dtype.newbyteorder("="), order="C")  # a copy: torch has no such tensors
        with torch.inference_mode(mode=False):  # with autograd on, nothing could write to an inference tensor
            return torch.as_tensor(array, device=self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        return np.asarray(array.detach().cpu())

    def set_threads(self, threads: int) -> None:
        super().set_threads(1 if _forked.is_set() else threads)
        torch.set_num_threads(self.threads)

    def without_autograd(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def split(self, array: Array, rows: int) -> Sequence[Array]:
        return array.split(rows)  # all in one call

    def one_thread(self) -> AbstractContextManager[Any]:
        return _ONE_THREAD.held()

    def synchronize(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        elif self.device == "mps":
            torch.mps.synchronize()


_forked = threading.Event()


def _compute_on_one_thread() -> None:
    """In a forked child: it has OpenMP's threads, but none that runs, and the first product to need one never ends."""
    _forked.set()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_on_one_thread)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_ONE_THREAD = Shared(_one_thread)


def best_device() -> str:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
