"""What a backend is: an array namespace, the way there and back, and the kernels that go with it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial, wraps
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels import Head

Array = Any  # an array of whatever namespace the backend has
Reference = Callable[..., None]  # op(xp, *inputs, *outputs): array code that fills its outputs
Kernel = Callable[..., None]  # op(*inputs, *outputs): the same, without the namespace
Scalar = Any  # a number, or a float64 array (1,) on the device

# All that is trained on: features (n, inputs), labels int64 (n,), the losses' weights (n,) or None for none.
Data = tuple[Array, Array, Array | None]

# steps(data, order, coefficients, losses, hits): one training step for each batch of order int64 (rows,); coefficients:
# three scalars a step; fills losses (steps,) and hits int64 (steps,). All on the device.
Steps = Callable[[Data, Array, Sequence[Sequence[Scalar]], Array, Array], None]

# run(steps, data, order, coefficients, losses, hits): order and coefficients float64 (steps, 3) come from the host.
EpochRunner = Callable[[Steps, Data, NDArray[np.int64], NDArray[np.float64], Array, Array], None]


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
    `image_kernels` is the same for the ops of augmentations, but takes rows int64 (m,) after the images
    uint8 (n, 3, h, w): kernel(images, rows, *arguments, out) makes out[rows[i]] of images[rows[i]] by the arguments'
    i-th numbers, and leaves all other rows of out alone.
    """

    name: ClassVar[str]
    xp: Any
    kernels: ClassVar[Mapping[str, Kernel]]
    image_kernels: Mapping[str, Kernel] = MappingProxyType({})
    device: str = "cpu"
    threads: int = os.cpu_count() or 1  # that the CPU's share of the work may use
    fuses_evaluation: ClassVar[bool] = False  # where it has a fused epoch
    beside_host: ClassVar[bool] = False  # it computes while the host does something else, and has room for more

    def __init__(self, device: str | None = None) -> None:
        if device not in (None, self.device):
            from fastmlp.common.errors import BackendError

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
        """The sum of losses, and the hits, of each head over the rows in its order; where it `fuses_evaluation`."""
        raise NotImplementedError(f"Backend {self} has no fused evaluation: it evaluates by single ops.")

    def epoch_runner(self, batch_size: int, kernels: bool) -> EpochRunner:
        """What takes the steps of an epoch: here simply does; a backend may record them and repeat what it recorded.

        For one network, in batches of that size: its steps are always the same, and read and write the same arrays but
        for those that they are called with. kernels: every op of a step is a kernel of ours.
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
        steps(data, self.asarray(order), coefficients.tolist(), losses, hits)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """An array on this backend's device, its content not set."""
        return self.asarray(np.empty(shape, dtype))

    def split(self, array: Array, rows: int) -> Sequence[Array]:
        """Views of that many rows each, one after another; the last may have fewer."""
        count = array.shape[0]
        return [array[start : min(start + rows, count), ...] for start in range(0, count, rows)]

    def memory_budget(self) -> int | None:
        """The bytes of the device's memory that data may take now; None where that is the host's memory too."""
        return None

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
        return self.name if self.device == "cpu" else f"{self.name}:{self.device}"


def made_of(*parts: Reference) -> Callable[[Callable[..., None]], Reference]:
    """Makes an op of a function that calls other ops, these parts: `body(ops, *inputs, *outputs)`.

    A backend that has no kernel for the whole runs its own kernels for the parts (see `Ops`).
    """

    def make(body: Callable[..., None]) -> Reference:
        @wraps(body)
        def reference(xp: Any, *arguments: Any) -> None:
            body(SimpleNamespace(**{part.__name__: partial(part, xp) for part in parts}), *arguments)

        reference.parts = {part.__name__ for part in parts}  # type: ignore[attr-defined]
        return reference

    return make


class Ops:
    """The ops of a table, each an attribute bound to a backend: its kernel where there is one, else its array code.

    An op that is `made_of` others of the table, and has no kernel, calls those.
    """

    def __init__(self, table: Mapping[str, Reference], backend: Backend, kernels: bool = True) -> None:
        for name, reference in table.items():
            run = backend.kernels.get(name) if kernels else None
            if run is None and getattr(reference, "parts", {""}) <= table.keys():
                run = partial(reference.__wrapped__, self)  # type: ignore[attr-defined]
            setattr(self, name, run or partial(reference, backend.xp))

    if TYPE_CHECKING:  # at run time it would cost half a microsecond an op

        def __getattr__(self, name: str) -> Kernel: ...
