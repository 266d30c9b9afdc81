"""PyTorch as an array engine, on the CPU, CUDA or MPS: manual backward, preallocated outputs, no autograd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import array_api_compat.torch as xp
import numpy as np
import torch
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability, Backend, Kernel
from fastmlp.errors import BackendError, first_line


def matmul(a: Array, b: Array, out: Array) -> None:
    torch.mm(a, b, out=out)


def gather(source: Array, index: Array, out: Array) -> None:
    torch.index_select(source, 0, index, out=out)


def add_bias(z: Array, bias: Array, out: Array) -> None:
    torch.add(z, bias, out=out)


def bias_relu(z: Array, bias: Array, out: Array) -> None:
    torch.add(z, bias, out=out).relu_()


def relu_backward(gradient: Array, activation: Array, out: Array) -> None:
    torch.mul(gradient, activation > 0, out=out)


def column_sum(values: Array, out: Array) -> None:
    torch.sum(values, 0, out=out)


def softmax_xent(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    rows = labels[:, None]
    best, predicted = logits.max(1)  # before gradient, which may be logits, is written: its rounding makes new ties
    torch.sum((predicted == labels) & (best == best), 0, keepdim=True, out=hits)
    torch.log_softmax(logits, 1, out=gradient)
    picked = gradient.gather(1, rows)
    torch.sum(picked, 0, out=loss).neg_()
    gradient.exp_().scatter_add_(1, rows, torch.full_like(picked, -1.0)).div_(max(len(labels), 1))


def sgd_update(parameter: Array, gradient: Array, learning_rate: float, out: Array) -> None:
    torch.sub(parameter, gradient, alpha=learning_rate, out=out)


class TorchBackend(Backend):
    name = "torch"
    xp = xp
    kernels: ClassVar[Mapping[str, Kernel]] = {
        f.__name__: f
        for f in (matmul, gather, add_bias, bias_relu, relu_backward, column_sum, softmax_xent, sgd_update)
    }

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
        if not array.flags.writeable:  # torch has no read-only tensors
            array = array.copy()
        return torch.as_tensor(array, device=self.device)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        return np.asarray(array.detach().cpu())

    def set_threads(self, threads: int) -> None:
        super().set_threads(threads)
        torch.set_num_threads(threads)

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def synchronize(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        elif self.device == "mps":
            torch.mps.synchronize()


def best_device() -> str:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
