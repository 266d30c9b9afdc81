"""The CUDA backend without a GPU: its launches run on this CPU, kernels emulated under sanitizers. Slow; for tests."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy
import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability
from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import BackendError
from fastmlp.kernels.cuda.emulation import EmulatedDriver, compiler, guarded


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

    def asarray(self, array: NDArray[Any]) -> Array:
        placed = guarded(array.shape, array.dtype)
        placed[...] = array
        placed.flags.writeable = array.flags.writeable
        return placed

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return guarded(shape, np.dtype(dtype))

    def to_numpy(self, array: Array) -> NDArray[Any]:
        return np.asarray(array)
