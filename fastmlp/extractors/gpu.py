"""Pipelines batches of images through a backbone on a GPU: one is copied while another is computed.

Everything that needs a GPU is in `Cuda`; `Pipeline` and `Enlarge` also work with stand-ins for it and for the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmlp.backends.cupy import CudaBackend
from fastmlp.backends.release import release_with

IN_FLIGHT = 2  # batches: one is computed, one is copied
WARM_UPS = 3  # before a graph is recorded, so that cuDNN has chosen its algorithms and every kernel is loaded
BITS = {torch.bfloat16: torch.uint16}  # the dtype in which the kernel writes others than float32

Work = Callable[[], torch.Tensor]


class Enlarge:
    """Images (n, 3, h, w) to normalised pixels (n, 3, size, size), channels last, by the backend's kernel.

    Tensors and the kernel's arrays share memory (DLPack). It belongs to PyTorch, whose allocator reuses freed memory in
    the order of its current stream; so the kernel must run in that stream (`Cuda.computing`), and DLPack, which finds
    the same stream on both sides, adds no synchronisation.
    """

    def __init__(self, backend: CudaBackend, scale: torch.Tensor, shift: torch.Tensor, size: int) -> None:
        self._view: Callable[[torch.Tensor], Any] = backend.xp.from_dlpack
        self._kernel = backend.resize
        self._scale, self._shift, self._size = scale.reshape(3), shift.reshape(3), size

    def __call__(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Pixels in that dtype: the kernel writes float32 and bfloat16, PyTorch makes float16 of float32."""
        shape, bits = (len(images), self._size, self._size, 3), BITS.get(dtype, torch.float32)
        pixels = torch.empty(shape, dtype=bits, device=images.device)
        self._kernel(*(self._view(tensor) for tensor in (images, self._scale, self._shift, pixels)))
        written = pixels.view(dtype) if dtype in BITS else pixels.to(dtype)
        return written.permute(0, 3, 1, 2)


class Cuda:
    """Two streams of a device, and graphs recorded in them.

    shared: CuPy also launches kernels in the first stream. That stream is then created by CuPy and lent to PyTorch,
    because CuPy 14 destroys, or deprecates, borrowed ones. tf32: float32's products may be computed in TF32.
    """

    def __init__(self, device: str, shared: bool, tf32: bool = False) -> None:
        self.device, self._tf32 = device, tf32
        self._cupy: AbstractContextManager[Any] = nullcontext()
        self._compute: torch.cuda.Stream
        if shared:
            import cupy

            stream = cupy.cuda.Stream(non_blocking=True)
            self._cupy, self._compute = stream, torch.cuda.ExternalStream(stream.ptr, device=device)
        else:
            self._compute = torch.cuda.Stream(device)
        self._copy = torch.cuda.Stream(device)
        torch.cuda.synchronize(device)  # other streams have finished copying the weights

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within it, work runs in the first stream, in TF32 only if it may, with the same algorithms in every run."""
        same = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=self._tf32)
        with self._cupy, torch.cuda.stream(self._compute), same, _products("high" if self._tf32 else "highest"):
            yield

    def copying(self) -> AbstractContextManager[Any]:
        """Within it, work runs in the second stream."""
        return torch.cuda.stream(self._copy)

    def event(self) -> Any:
        return torch.cuda.Event()

    def wait(self) -> None:
        """Until all work in both streams is done."""
        self._copy.synchronize()
        self._compute.synchronize()

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Pinned host memory, so that copies to and from the device are asynchronous."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    @property
    def gpu(self) -> str:
        """Its name."""
        return torch.cuda.get_device_name(self.device)

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """Within it, allocations fail that would leave less than half of the device's free memory to others."""
        index = torch.device(self.device).index
        free, total = torch.cuda.mem_get_info(index)
        ours = torch.cuda.memory_reserved(index)
        torch.cuda.set_per_process_memory_fraction(min(1.0, (ours + free / 2) / total), index)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, index)
            torch.cuda.empty_cache()

    def record(self, work: Work) -> Work:
        """A function that launches the work as one CUDA graph; its result is always the same tensor."""
        for _ in range(WARM_UPS):
            work()
        graph = torch.cuda.CUDAGraph()
        # only what this thread does counts: others may compile kernels meanwhile
        with torch.cuda.graph(graph, stream=self._compute, capture_error_mode="thread_local"):
            result = work()

        def launch() -> torch.Tensor:
            graph.replay()
            return result

        return launch


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Within it, matrix products of float32 have that precision: "highest", or "high" for TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Slot:
    """The memory of one batch in flight, on the host and on the device."""

    def __init__(self, cuda: Cuda, rows: int, shape: tuple[int, ...], features: int) -> None:
        self.sent = cuda.pinned((rows, *shape), torch.uint8)
        self.images = torch.empty((rows, *shape), dtype=torch.uint8, device=cuda.device)
        self.features = cuda.pinned((rows, features), torch.float32)
        self.arrived, self.done = cuda.event(), cuda.event()
        self.count = 0

    def result(self) -> NDArray[np.float32]:
        """The features of the batch, once they have arrived."""
        self.done.synchronize()
        return np.array(self.features[: self.count].numpy())


class Pipeline:
    """Features of images uint8 (n, *shape), computed by `forward` from up to `rows` of them on the device.

    A full batch is launched as one recorded graph; a last, smaller batch is launched kernel by kernel.
    """

    def __init__(
        self, forward: Callable[[torch.Tensor], torch.Tensor], cuda: Cuda, rows: int, shape: tuple[int, ...], width: int
    ) -> None:
        self._forward, self._cuda, self._rows = forward, cuda, rows
        self._slots = [_Slot(cuda, rows, shape, width) for _ in range(IN_FLIGHT)]
        self._images = torch.empty_like(self._slots[0].images)  # the input of the graph
        self._graph: list[Work] = []  # one, once it is recorded
        # Pinned memory goes before the events that say when it is free, these before the streams they belong to.
        release_with(self, cuda.wait, self._slots.clear, self._graph.clear)

    def batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """The features, batch by batch, while later batches are in flight; only one such iterator at a time."""
        for slot in self._slots:
            slot.done.synchronize()  # an earlier iterator may have been abandoned
        waiting: list[_Slot] = []
        for number, start in enumerate(range(0, len(images), self._rows)):
            if len(waiting) == IN_FLIGHT:  # the next batch needs the first one's slot
                yield waiting.pop(0).result()
            slot = self._slots[number % IN_FLIGHT]
            self._send(slot, images[start : start + self._rows])
            waiting.append(slot)
        for slot in waiting:
            yield slot.result()

    def _send(self, slot: _Slot, images: NDArray[np.uint8]) -> None:
        """Start copying the images in one stream and, once they have arrived, everything else in the other."""
        n = slot.count = len(images)
        np.copyto(slot.sent[:n].numpy(), images)
        with torch.inference_mode():
            with self._cuda.copying():
                slot.images[:n].copy_(slot.sent[:n], non_blocking=True)
                slot.arrived.record()
            with self._cuda.computing():
                slot.arrived.wait()
                slot.features[:n].copy_(self._features(slot), non_blocking=True)
                slot.done.record()

    def _features(self, slot: _Slot) -> torch.Tensor:
        if slot.count < self._rows:
            return self._forward(slot.images[: slot.count])
        self._images.copy_(slot.images)
        if not self._graph:
            self._graph.append(self._cuda.record(partial(self._forward, self._images)))
        return self._graph[0]()
