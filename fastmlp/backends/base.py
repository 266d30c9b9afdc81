"""What a backend is: an array namespace, transfers to its device and back, and the kernels that go with it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.environment import available_cores
from fastmlp.kernels import EpochKind, EpochTask
from fastmlp.ops import Array as Array  # for modules of backends, ours and others'
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps

Kernel = Callable[..., None]  # compiled code for an op: kernel(*inputs, *outputs)

# Training data: features (n, inputs), labels int64 (n,), and the weights of the losses (n,), or None.
Data = tuple[Array, Array, Array | None]

# steps(data, order, coefficients, losses, hits): one training step per batch of order int64 (rows,), by its row of the
# optimizer's coefficients, a tuple of numbers or a float64 array on the device; fills losses (steps,) and hits int64
# (steps,). All arrays are on the device. Of networks that take steps together (see `Backend.fused_steps`), order has
# their orders batch by batch, a row of coefficients is (networks, 1 + k), and losses and hits are (steps, networks).
Steps = Callable[[Data, Array, Sequence[Any], Array, Array], None]

# run(steps, data, order, coefficients, losses, hits): order and coefficients float64 (steps, ...) come from the host.
EpochRunner = Callable[[Steps, Data, NDArray[np.int64], NDArray[np.float64], Array, Array], None]


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here; if not, the reason and the fix, one sentence each."""

    usable: bool
    reason: str = ""
    fix: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class Backend(ABC):
    """One opened array engine: a namespace, transfers to its device and back, and its ops.

    network_ops and patch_ops are ops in array code; a backend overrides those that it speeds up.

    image_kernels maps an augmentation's op to a kernel(images, rows, *parameters, out) that takes rows int64 (m,) after
    the images uint8 (n, 3, h, w): it makes out[rows[i]] of images[rows[i]] by the parameters' i-th numbers, and leaves
    all other rows of out alone.

    resize, if there is one, is a kernel(images, scale, shift, out) that prepares images uint8 (n, 3, h, w) for a
    convolutional network: out (n, size, size, 3), float32 or uint16 for the bits of bfloat16, is the enlarged images
    times scale plus shift, float32 (3,).
    """

    name: ClassVar[str]
    xp: Any
    image_kernels: Mapping[str, Kernel] = MappingProxyType({})
    resize: Kernel | None = None
    device: str = "cpu"
    fuses_evaluation: ClassVar[bool] = False  # where it has a fused epoch
    devices: Sequence[str] = ()  # names of backends, one for each device that heads may be spread over
    way: str = ""  # to which it is confined, see `epoch_ways`
    beside_host: ClassVar[bool] = False  # it computes while the host does other work, and has room for more
    fills_host: ClassVar[bool] = False  # its epochs take all of the host's cores
    most_networks: int = sys.maxsize  # that take fused steps together
    one_thread_per_op: ClassVar[bool] = False  # of array code, products left out: rows are worth sharing out

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, self.device):
            from fastmlp.common.errors import BackendError

            raise BackendError(f"Backend {self.name} has no device {device!r}: leave it out.")

    @cached_property
    def threads(self) -> int:
        """For work on the CPU."""
        return available_cores()

    @classmethod
    @abstractmethod
    def probe(cls) -> Availability:
        """Try it for real, but cheaply: allocate, compute, compare."""

    @classmethod
    def probe_device(cls, device: str) -> Availability:
        """The same of that device, in a backend that can tell them apart."""
        return cls.probe()

    @cached_property
    def network_ops(self) -> NetworkOps:
        """The ops of the network."""
        return NetworkOps(self.xp)

    @cached_property
    def patch_ops(self) -> PatchOps:
        """The ops of patch features."""
        return PatchOps(self.xp)

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
        """A context in which products run on one CPU thread, for those too small to be worth a second one."""
        return nullcontext()

    def without_autograd(self) -> AbstractContextManager[Any]:
        """A context in which the engine does not record ops for differentiation."""
        return nullcontext()

    def fused_epoch_refusal(self, kind: EpochKind) -> str:
        """Why this backend cannot train such a network for a whole epoch in one call; empty if it can."""
        return f"{self} has no fused epoch"

    def fused_epoch(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        """Train networks of one shape, batch size and optimizer in place; returns each one's summed loss and hits.

        features (n, d) of the networks' dtype, labels int64 (n,) from 0 to classes - 1, or targets as `EpochTask` has
        them, both on the device.
        """
        raise NotImplementedError(f"Backend {self} has no fused epoch: its fused_epoch_refusal says so.")

    def fused_evaluation(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        """Each network's summed loss and hits over the rows of its order, if the backend `fuses_evaluation`."""
        raise NotImplementedError(f"Backend {self} has no fused evaluation: it evaluates by single ops.")

    def least_alike(self, threads: int) -> int:
        """Of so many networks and more that train together on that many threads, each has the same bits."""
        return 1

    def epoch_ways(self) -> Iterator[Backend]:
        """This backend confined to each way in which it may run a fused epoch, if it chooses among several: by the
        network's size, by the device, by the number of threads. For checks, which must not depend on that choice."""
        yield from ()

    def op_ways(self) -> Iterator[Backend]:
        """The same of its single ops."""
        yield from ()

    def step_ways(self) -> Iterator[Backend]:
        """The same of its steps, if it has fused ones."""
        yield from ()

    def fastest(self, kind: EpochKind) -> Backend:
        """This backend, confined to the way that was measured to train such networks fastest here, if any was."""
        return self

    def by_way(self, way: str, kind: EpochKind) -> Backend:
        """Confined to its way of that name, or with "" to what it chooses without a measurement.

        For a training that goes on as it began. Raises BackendError if this device does not train such networks so.
        """
        return self

    def epoch_runner(self, batch_size: int, kernels: bool) -> EpochRunner:
        """Returns the callable that runs an epoch; by default step by step.

        A backend may record the steps of batches of that size, of all orders together, and replay them: they are
        always the same, and use the same arrays except those that they are called with. kernels: every op of a step is
        one of our kernels.
        """
        return self._run_epoch

    def _run_epoch(
        self,
        steps: Steps,
        data: Data,
        order: NDArray[np.int64],
        coefficients: NDArray[np.float64],
        losses: Array,
        hits: Array,
    ) -> None:
        steps(data, self.asarray(order), list(map(tuple, coefficients.tolist())), losses, hits)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An uninitialised array on this backend's device."""
        return self.asarray(np.empty(shape, dtype))

    def fused_steps(self, tasks: Sequence[EpochTask], own: Sequence[int]) -> Steps | None:
        """Steps of networks of one shape, optimizer and batch size, together, by kernels of several ops each, for those
        that are not trained by fused epochs; None to take them op by op, one network after another.

        own: which of the orders each network's is, from 0; all have as many rows. Of a task, order, coefficients and
        row weights are not read.
        """
        return None

    def split(self, array: Array, rows: int) -> Sequence[Array]:
        """Consecutive views of that many rows each; the last may have fewer."""
        count = array.shape[0]
        return [array[start : min(start + rows, count), ...] for start in range(0, count, rows)]

    def memory_budget(self) -> int | None:
        """How many bytes of the device's memory data may take now; None where the device uses the host's memory."""
        return None

    def place(self, arrays: Iterable[NDArray[Any]]) -> list[Array]:
        """Small host arrays on this backend's device, in as few copies as it can."""
        return [self.asarray(array) for array in arrays]

    def upload_buffer(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Host memory, not set, from which `upload` is fast."""
        return np.empty(shape, dtype)

    def upload(self, source: NDArray[Any], out: Array) -> None:
        """Copy host memory to an array on the device, beside the work there, and return when it is done.

        May be called in another thread than the work's.
        """
        out[...] = self.asarray(source)

    def synchronize(self) -> None:  # noqa: B027  (most backends finish before they return)
        """Wait until all work handed to the device is done."""

    def __str__(self) -> str:
        name = self.name if self.device == "cpu" else f"{self.name}:{self.device}"
        return f"{name}, {self.way}" if self.way else name
