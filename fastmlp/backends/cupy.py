"""CuPy: the shared array code on an NVIDIA GPU, and our CUDA kernels for every op and for whole epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability, Backend, EpochRunner, Kernel, Steps
from fastmlp.backends.cuda_devices import ALL, CUDA, Gpu, NoSuchDeviceError, gpus, number_in, number_of
from fastmlp.backends.cuda_diagnosis import Installed, cuda_version, diagnose, out_of_memory, size
from fastmlp.backends.cuda_graphs import RecordedEpochs
from fastmlp.backends.cuda_ranking import Ranking
from fastmlp.backends.cuda_uploads import Staging
from fastmlp.backends.release import release_with
from fastmlp.common.errors import BackendError
from fastmlp.common.progress import say
from fastmlp.kernels import EpochKind, EpochTask
from fastmlp.kernels.cuda.augment import image_kernels
from fastmlp.kernels.cuda.dense import TILINGS, CudaOps
from fastmlp.kernels.cuda.driver import MOST_ACROSS, CupyDriver, Driver
from fastmlp.kernels.cuda.fused_epoch import FusedEpoch
from fastmlp.kernels.cuda.fused_steps import MOST_WORK, FusedSteps, fuses_steps
from fastmlp.kernels.cuda.layout import LAYOUTS, UNMEASURED, Layout, refusal
from fastmlp.kernels.cuda.one_block import MANY_NETWORKS, ONE_BLOCK, ONE_BLOCK_UNMEASURED
from fastmlp.kernels.cuda.patches import CudaPatchOps
from fastmlp.kernels.cuda.resize import Resize
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps

STEP_WAYS = FUSED_STEPS, OP_BY_OP = "fused steps", "steps op by op"
SHARE_OF_MEMORY = 0.8  # for data; the rest is for activations and libraries


class CudaBackend(Backend):
    """A backend of our CUDA kernels, on any driver."""

    beside_host = True
    most_networks = MOST_ACROSS  # a row of blocks each
    driver: Driver
    resize: Kernel
    ranking: Ranking | None  # of its ways, unless it is confined to one
    _whole: CudaBackend | None = None  # which it is confined from
    fused_work: float = MOST_WORK  # up to which steps are fused; others run op by op

    def __init__(self, device: str | None, driver: Driver) -> None:
        super().__init__(device)
        self.driver = driver
        self.ranking, self._told = Ranking(driver.device), set[str]()
        self.image_kernels = image_kernels(driver)
        self.resize = Resize(driver)
        self._fused = FusedEpoch(driver, self.asarray)
        self._fused_many = FusedEpoch(driver, self.asarray, (ONE_BLOCK, *LAYOUTS))

    @cached_property
    def network_ops(self) -> NetworkOps:
        return CudaOps(self.xp, self.driver, self.asarray)

    @cached_property
    def patch_ops(self) -> PatchOps:
        return CudaPatchOps(self.xp, self.driver)

    def rivals(self, kind: EpochKind) -> Iterator[CudaBackend]:
        """By each way in which this device trains such networks: layouts, measured or not, and steps, fused or not."""
        yield from (way for way in CudaBackend.epoch_ways(self) if not way.fused_epoch_refusal(kind))
        yield from CudaBackend.step_ways(self)

    def fastest(self, kind: EpochKind) -> CudaBackend:
        way = self._ranked(kind)
        if not way:
            return self
        if way not in self._told:
            self._told.add(way)
            say(f"{'-'.join(map(str, kind.sizes))} trains by {way}, which was measured to be the fastest on this GPU.")
        return self.by_way(way, kind)

    def _ranked(self, kind: EpochKind) -> str:
        """The name of the fastest way; empty without a measurement."""
        return self.ranking.fastest(kind) if self.ranking is not None and kind.is_papers else ""

    def by_way(self, way: str, kind: EpochKind) -> CudaBackend:
        if not way:
            return self._confined("") if self._ranked(kind) else self
        found = next((rival for rival in self.rivals(kind) if rival.way == way), None)
        if found is None:
            raise BackendError(
                f"{self.driver.device.name} does not train such a network by {way}, as this training began: "
                "resume it on the GPU and with the version of fastmlp that it began on, or drop --resume."
            )
        return found

    def epoch_ways(self) -> Iterator[CudaBackend]:
        """By each layout that the device may have, first by those not measured yet: a benchmark's time may be up."""
        for layout in (*UNMEASURED, ONE_BLOCK, ONE_BLOCK_UNMEASURED, *LAYOUTS):
            if self.driver.device.compute_capability >= layout.capability:
                yield self.by_layout(layout)

    def by_layout(self, layout: Layout) -> CudaBackend:
        """The same backend, whose fused epochs have that layout or none."""
        confined = self._confined(f"layout {layout}")
        confined._fused = confined._fused_many = FusedEpoch(self.driver, self.asarray, [layout])
        return confined

    def op_ways(self) -> Iterator[CudaBackend]:
        """By each tiling of products."""
        for tiling in TILINGS:
            confined = self._confined(f"tiling {tiling}")
            confined.network_ops = CudaOps(self.xp, self.driver, self.asarray, tiling)
            confined.fused_work = 0
            yield confined

    def step_ways(self) -> Iterator[CudaBackend]:
        """Fused, or op by op, whatever the size of the layers and batches."""
        for way, work in zip(STEP_WAYS, (math.inf, 0), strict=True):
            confined = self._confined(way)
            confined.fused_work = work
            yield confined

    def _confined(self, way: str) -> CudaBackend:
        confined = copy(self)
        confined.way, confined.ranking = way, None
        confined._whole = self  # must live as long: its end is that of what both share
        return confined

    def epoch_runner(self, batch_size: int, kernels: bool) -> EpochRunner:
        recorded = RecordedEpochs(self, self.driver, batch_size)
        return recorded if kernels else super().epoch_runner(batch_size, kernels)

    def fused_steps(self, tasks: Sequence[EpochTask], own: Sequence[int]) -> Steps | None:
        if not fuses_steps(tasks[0], self.fused_work):
            return None
        return FusedSteps(self.driver, self.asarray, self.empty, tasks, own)

    def least_alike(self, threads: int) -> int:
        return MANY_NETWORKS  # fewer are trained by clusters

    def fused_epoch_refusal(self, kind: EpochKind) -> str:
        if self.way in STEP_WAYS:
            return f"it trains by {self.way}"
        return refusal(kind, self.driver.device, self._fused.layouts)

    def fused_epoch(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        """As many as began together choose how they train, so that no network's bits depend on which others end."""
        began_as_many = len(tasks) >= MANY_NETWORKS
        chosen = [task.memory.setdefault(ONE_BLOCK, began_as_many) for task in tasks]
        return (self._fused_many if all(chosen) else self._fused).train(tasks, features, labels)


class CupyBackend(CudaBackend):
    name = "cupy"
    device = "cuda"

    def __init__(self, device: str | None = None) -> None:
        """device: a GPU's number; "all": the first of them, and `devices` has every one."""
        import array_api_compat.cupy as xp

        number = number_of(device)
        self._gpu = Gpu(number)
        if number is not None:
            self.device = f"{CUDA}:{number}"
        if device == ALL:
            self.devices = tuple(f"{self.name}:{other}" for other in range(gpus()))
        super().__init__(None, CupyDriver())
        self.xp = xp
        self._staging = Staging(_pinned_bytes, self._gpu.send)
        release_with(self, self._gpu.wait, self._staging.clear, _unpin)

    @classmethod
    def probe(cls) -> Availability:
        """Allocate, launch one of our kernels, multiply: that a GPU is listed does not mean that it works."""
        return cls._probe(None)

    @classmethod
    def probe_device(cls, device: str) -> Availability:
        return cls._probe(device)

    @classmethod
    def _probe(cls, device: str | None) -> Availability:
        installed = Installed.here()
        try:
            number_in(device)  # what names no GPU does so without CuPy too
            import cupy

            details = _try_gpu(cupy, cls(device))
        except NoSuchDeviceError as error:
            return Availability(False, error.reason, error.fix)
        except Exception as error:  # noqa: BLE001  (CuPy, CUDA, NVRTC and cuBLAS each raise their own)
            return Availability(False, *diagnose(error, installed))
        return Availability(True, details=details | {"wheel": " and ".join(installed.wheels) or "built here"})

    def asarray(self, array: NDArray[Any]) -> Array:
        """Like `empty`, raises BackendError, with the number of rows that fit, if the GPU's memory is too small."""
        self._gpu.use()
        try:
            return self.xp.asarray(array)
        except MemoryError:
            raise self._too_little_memory(array.shape, array.nbytes) from None

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        self._gpu.use()
        try:
            return self.xp.empty(shape, dtype=dtype)
        except MemoryError:
            raise self._too_little_memory(shape, int(np.prod(shape)) * np.dtype(dtype).itemsize) from None

    def _too_little_memory(self, shape: tuple[int, ...], needed: int) -> BackendError:
        return BackendError(out_of_memory(shape, needed, self._free_memory()))

    @staticmethod
    def _free_memory() -> int:
        """Bytes that are free in the driver, or held but unused by CuPy."""
        import cupy

        return int(cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())

    def memory_budget(self) -> int:
        return int(SHARE_OF_MEMORY * self._free_memory())

    def place(self, arrays: Iterable[NDArray[Any]]) -> list[Array]:
        self._gpu.use()
        return self._staging.place(arrays)

    def upload_buffer(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        import cupyx

        return cupyx.empty_pinned(shape, dtype)

    def upload(self, source: NDArray[Any], out: Array) -> None:
        """Copy in a separate stream, so that the copy overlaps with kernels of other streams."""
        self._gpu.use()
        out.set(source, stream=self._uploads)
        self._uploads.synchronize()

    @cached_property
    def _uploads(self) -> Any:
        import cupy

        return cupy.cuda.Stream(non_blocking=True)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        import cupy

        return cupy.asnumpy(array)

    def synchronize(self) -> None:
        import cupy

        cupy.cuda.get_current_stream().synchronize()


def _pinned_bytes(count: int) -> NDArray[np.uint8]:
    import cupyx

    return cupyx.empty_pinned((count,), "uint8")


def _unpin() -> None:
    """The host's memory that no array has any more."""
    import cupy

    cupy.get_default_pinned_memory_pool().free_all_blocks()


def _try_gpu(cupy: Any, backend: CupyBackend) -> dict[str, str]:
    """Facts about the GPU, after one of our kernels and cuBLAS ran on it; RuntimeError if their results are wrong."""
    values = np.linspace(-2, 2, 64, dtype=np.float32).reshape(8, 8)
    z, bias = backend.asarray(values), backend.asarray(values[3])
    activations = backend.asarray(np.zeros_like(values))
    backend.network_ops.bias_relu(z, bias, activations)
    _expect("our kernel", backend.to_numpy(activations), np.maximum(values + values[3], 0))
    _expect("a product", backend.to_numpy(z @ z), values @ values)
    runtime, driver = cupy.cuda.runtime, backend.driver
    free, total = runtime.memGetInfo()
    capability = driver.device.compute_capability
    return {
        "gpu": driver.device.name,
        "compute_capability": f"{capability // 10}.{capability % 10}",
        "memory": f"{size(total)}, {size(free)} free",
        "shared_memory": f"{size(driver.device.shared_memory)} per block",
        "driver": f"CUDA {cuda_version(runtime.driverGetVersion())}",
        "cuda": cuda_version(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
    }


def _expect(what: str, got: NDArray[Any], expected: NDArray[Any]) -> None:
    if not np.allclose(got, expected, rtol=1e-2, atol=1e-2):  # holds even with TF32 switched on; NaN is never close
        raise RuntimeError(f"{what} came out wrong: {got.ravel()[:3]} for {expected.ravel()[:3]}")
