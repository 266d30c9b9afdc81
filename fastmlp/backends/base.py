"""What a backend is: an array namespace, the way there and back, and the kernels that go with it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import Head

Array = Any  # an array of whatever namespace the backend has
Reference = Callable[..., None]  # op(xp, *inputs, *outputs): array code that fills its outputs
Kernel = Callable[..., None]  # op(*inputs, *outputs): the same, without the namespace


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here; if not, the reason and the mend, each a sentence."""

    usable: bool
    reason: str = ""
    mend: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class Backend(ABC):
    """One opened array engine.

    `kernels` maps the name of an op to compiled code that replaces its array code: the same arguments
    in the same order, less the namespace. An op without a kernel runs as array code.
    """

    name: ClassVar[str]
    xp: Any
    kernels: ClassVar[Mapping[str, Kernel]]
    device: str = "cpu"
    threads: int = os.cpu_count() or 1  # that the CPU's share of the work may use

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, self.device):
            from fastmlp.errors import BackendError

            raise BackendError(f"Backend {self.name} has no device {device!r}: leave it out.")

    @classmethod
    @abstractmethod
    def probe(cls) -> Availability:
        """Try it for real, cheaply: allocate, compute, compare."""

    @abstractmethod
    def asarray(self, array: NDArray[Any]) -> Array:
        """The host array on this backend's device (not copied where it already is)."""

    @abstractmethod
    def to_numpy(self, array: Array) -> NDArray[Any]:
        """The device array on the host."""

    def set_threads(self, threads: int) -> None:
        """Use that many CPU threads from now on, in this process."""
        self.threads = threads

    def one_thread(self) -> AbstractContextManager[Any]:
        """Within it, products run on one CPU thread; for those too small to be worth a second one."""
        return nullcontext()

    def without_autograd(self) -> AbstractContextManager[Any]:
        """Within it, ops spare themselves what an engine does so that they can be differentiated later."""
        return nullcontext()

    def fused_epoch_refusal(self, sizes: Sequence[int], dtype: str, batch_size: int) -> str:
        """Why this backend cannot train such a network for a whole epoch in one call; empty if it can."""
        return f"{self} has no fused epoch"

    def fused_epoch(self, heads: Sequence[Head], features: Array, labels: Array) -> list[tuple[float, int]]:
        """Train heads of one shape and batch size in place, each for its epoch: its sum of losses, and its hits.

        features (n, d) of the heads' dtype, labels int64 (n,) from 0 to classes - 1, both on the device.
        """
        raise NotImplementedError(f"Backend {self} has no fused epoch: its fused_epoch_refusal says so.")

    def fused_evaluation(self, heads: Sequence[Head], features: Array, labels: Array) -> list[tuple[float, int]]:
        """The sum of losses, and the hits, of each head over the rows in its order; where there is a fused epoch."""
        raise NotImplementedError(f"Backend {self} has no fused epoch: its fused_epoch_refusal says so.")

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array on this backend's device, its content not set."""
        return self.asarray(np.empty(shape, dtype))

    def split(self, array: Array, rows: int) -> Sequence[Array]:
        """Views of that many rows each, one after another; the last may have fewer."""
        count = array.shape[0]
        return [array[start : min(start + rows, count), ...] for start in range(0, count, rows)]

    def synchronize(self) -> None:  # noqa: B027  (most backends finish before they return)
        """Wait until all work handed to the device is done."""

    def __str__(self) -> str:
        return self.name if self.device == "cpu" else f"{self.name}:{self.device}"


class Ops:
    """The ops of a table, each an attribute bound to a backend: its kernel where there is one, else its array code."""

    def __init__(self, table: Mapping[str, Reference], backend: Backend, kernels: bool = True) -> None:
        for name, reference in table.items():
            kernel = backend.kernels.get(name) if kernels else None
            setattr(self, name, kernel or partial(reference, backend.xp))

    if TYPE_CHECKING:  # at run time it would cost half a microsecond an op

        def __getattr__(self, name: str) -> Kernel: ...
