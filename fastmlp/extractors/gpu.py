"""How batches of images go through a backbone on a GPU: one on its way there while another is computed.

All that needs a GPU is in `Cuda`; a `Pipeline` and `Enlarge` work with whatever stands in for it and for the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastmlp.backends.cupy import CudaBackend
from fastmlp.kernels.cuda.resize import Resize

UNDER_WAY = 2  # batches: one is computed, one is on its way
WARM_UPS = 3  # before a graph is recorded: by then cuDNN has chosen, and every kernel is loaded
BITS = {torch.float32: torch.float32, torch.bfloat16: torch.uint16}  # what a kernel writes for numbers of that type

Work = Callable[[], torch.Tensor]


class Enlarge:
    """Images (n, 3, h, w) to normalised pixels (n, 3, size, size), channels last, by the backend's kernel.

    Tensors and the kernel's arrays are the same memory (DLPack). It belongs to PyTorch, whose allocator gives freed
    memory away again in the order of its current stream; so the kernel has to run in that stream (`Cuda.computing`),
    and DLPack, which finds one stream on both sides, adds no waiting.
    """

    def __init__(self, backend: CudaBackend, scale: torch.Tensor, shift: torch.Tensor, size: int) -> None:
        self._view: Callable[[torch.Tensor], Any] = backend.xp.from_dlpack
        self._kernel = Resize(backend.driver)
        self._scale, self._shift, self._size = scale.reshape(3), shift.reshape(3), size

    def __call__(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Pixels of that dtype, float32 or bfloat16."""
        shape = (len(images), self._size, self._size, 3)
        pixels = torch.empty(shape, dtype=BITS[dtype], device=images.device)
        self._kernel(*(self._view(tensor) for tensor in (images, self._scale, self._shift, pixels)))
        return pixels.view(dtype).permute(0, 3, 1, 2)


class Cuda:
    """Two streams of a device, and what is recorded in them.

    shared: CuPy launches kernels in the first one too. It is CuPy's then and lent to PyTorch, for CuPy 14 destroys, or
    deprecates, whatever it borrows.
    """

    def __init__(self, device: str, shared: bool) -> None:
        self.device = device
        self._cupy: AbstractContextManager[Any] = nullcontext()
        self._compute: torch.cuda.Stream
        if shared:
            import cupy

            stream = cupy.cuda.Stream(non_blocking=True)
            self._cupy, self._compute = stream, torch.cuda.ExternalStream(stream.ptr, device=device)
        else:
            self._compute = torch.cuda.Stream(device)
        self._copy = torch.cuda.Stream(device)
        torch.cuda.synchronize(device)  # the weights, which other streams brought, are there

    @contextmanager
    def computing(self) -> Iterator[None]:
        """In the first stream, numbers as they are: no TF32, and the same algorithms in every run."""
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with self._cupy, torch.cuda.stream(self._compute), exact:
            yield

    def copying(self) -> AbstractContextManager[Any]:
        """In the second stream."""
        return torch.cuda.stream(self._copy)

    def event(self) -> Any:
        return torch.cuda.Event()

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host that copies to and from the device do not wait for."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def record(self, work: Work) -> Work:
        """What launches all of the work at once, a CUDA graph; its result is always in the same place."""
        for _ in range(WARM_UPS):
            work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._compute):
            result = work()

        def launch() -> torch.Tensor:
            graph.replay()
            return result

        return launch


class _Slot:
    """The memory of one batch under way, on the host and on the device."""

    def __init__(self, cuda: Cuda, rows: int, shape: tuple[int, ...], features: int) -> None:
        self.sent = cuda.pinned((rows, *shape), torch.uint8)
        self.images = torch.empty((rows, *shape), dtype=torch.uint8, device=cuda.device)
        self.features = cuda.pinned((rows, features), torch.float32)
        self.arrived, self.done = cuda.event(), cuda.event()
        self.count = 0

    def result(self) -> NDArray[np.float32]:
        """The features of the batch, once they are there."""
        self.done.synchronize()
        return np.array(self.features[: self.count].numpy())


class Pipeline:
    """Features of images uint8 (n, *shape) by forward, which takes up to `rows` of them on the device.

    A whole batch is launched as one recorded graph; the last one, if smaller, step by step.
    """

    def __init__(
        self, forward: Callable[[torch.Tensor], torch.Tensor], cuda: Cuda, rows: int, shape: tuple[int, ...], width: int
    ) -> None:
        self._forward, self._cuda, self._rows = forward, cuda, rows
        self._slots = [_Slot(cuda, rows, shape, width) for _ in range(UNDER_WAY)]
        self._images = torch.empty_like(self._slots[0].images)  # where the graph reads
        self._graph: Work | None = None

    def batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """The features of one batch after another, while later ones are under way; one such run at a time."""
        for slot in self._slots:
            slot.done.synchronize()  # an earlier run may have been given up
        waiting: list[_Slot] = []
        for number, start in enumerate(range(0, len(images), self._rows)):
            if len(waiting) == UNDER_WAY:  # whose slot is needed
                yield waiting.pop(0).result()
            slot = self._slots[number % UNDER_WAY]
            self._send(slot, images[start : start + self._rows])
            waiting.append(slot)
        for slot in waiting:
            yield slot.result()

    def _send(self, slot: _Slot, images: NDArray[np.uint8]) -> None:
        """Start it all: images to the device in one stream, and in the other, once they are there, all the rest."""
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
        if self._graph is None:
            self._graph = self._cuda.record(lambda: self._forward(self._images))
        return self._graph()
