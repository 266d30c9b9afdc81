"""The CUDA backend without a GPU: its launches run on this CPU, kernels emulated under sanitizers. Slow; for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy
import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability
from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import BackendError
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import EmulatedDriver, compiler, guarded
from fastmlp.kernels.cuda.layout import FEWER_BLOCKS
from fastmlp.kernels.cuda.one_block import ONE_BLOCK_UNMEASURED

# Of each family, by the numbers that decide about layouts: no clusters, less shared memory, few multiprocessors.
DEVICES = (
    Device("A100", 80, 108, 166_912),
    Device("small Ada", 89, 16, 101_376),
    Device("T4", 75, 40, 65_536),
)
SMALLEST = min(DEVICES, key=lambda device: device.multiprocessors)


class EmulatedBackend(CudaBackend):
    """`cupy` as tests see it where there is no GPU; device arrays are NumPy arrays between guard zones."""

    name = "emulated"
    xp = array_api_compat.numpy

    def __init__(self, driver: EmulatedDriver | None = None) -> None:
        super().__init__(None, driver or EmulatedDriver())

    @classmethod
    def probe(cls) -> Availability:
        try:
            return Availability(True, details={"compiler": compiler()})
        except BackendError as error:
            return Availability(False, str(error))

    def epoch_ways(self) -> Iterator[CudaBackend]:
        """Also on other devices, each of which chooses other layouts, and runs fewer networks at once.

        Unmeasured layouts for many networks, whose code is much like others', are left to tests/kernels.
        """
        names = {f"layout {layout}" for layout in (*FEWER_BLOCKS, ONE_BLOCK_UNMEASURED)}
        yield from (way for way in super().epoch_ways() if way.way not in names)
        yield from self._on_other_devices()

    def op_ways(self) -> Iterator[CudaBackend]:
        """Also on other devices, each of which chooses other tilings."""
        yield from super().op_ways()
        for other in self._on_other_devices():
            other.fused_work = 0
            yield other

    def step_ways(self) -> Iterator[CudaBackend]:
        """Also on a small device, whose tiles are the largest."""
        yield from super().step_ways()
        small = EmulatedBackend(EmulatedDriver(SMALLEST))
        small.way = f"fused steps of {SMALLEST.name}"
        yield small

    def _on_other_devices(self) -> Iterator[CudaBackend]:
        for device in DEVICES:
            other = EmulatedBackend(EmulatedDriver(device))
            other.way = device.name
            yield other

    def asarray(self, array: NDArray[Any]) -> Array:
        placed = guarded(array.shape, array.dtype)
        placed[...] = array
        placed.flags.writeable = array.flags.writeable
        return placed

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return guarded(shape, np.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        return np.asarray(array)
