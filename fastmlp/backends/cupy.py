"""CuPy: the shared array code on an NVIDIA GPU, and our CUDA kernels for every op and for whole epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability, Backend
from fastmlp.errors import first_line
from fastmlp.kernels.cuda.dense import Dense
from fastmlp.kernels.cuda.driver import CupyDriver, Driver

INSTALL = "install the CuPy of your driver's CUDA: pip install cupy-cuda13x (or cupy-cuda12x)."


class CudaBackend(Backend):
    """What launches our CUDA kernels, whichever driver runs them."""

    driver: Driver

    def __init__(self, device: str | None, driver: Driver) -> None:
        super().__init__(device)
        self.driver = driver
        dense = Dense(driver)
        ops = (dense.add_bias, dense.bias_relu)
        self.kernels = {op.__name__: op for op in ops}  # type: ignore[misc]  # bound to this driver


class CupyBackend(CudaBackend):
    name = "cupy"
    device = "cuda"

    def __init__(self, device: str | None = None) -> None:
        import array_api_compat.cupy as xp

        super().__init__(device, CupyDriver())
        self.xp = xp

    @classmethod
    def probe(cls) -> Availability:
        try:
            import cupy
        except ImportError as error:
            return Availability(False, f"CuPy cannot be imported ({error}).", f"On a machine with a GPU, {INSTALL}")
        try:
            details = _multiply_on_gpu(cupy)
        except Exception as error:  # noqa: BLE001  (CuPy, CUDA, NVRTC and cuBLAS each raise their own)
            return Availability(
                False, f"No GPU works with this CuPy ({first_line(error)}).", f"Check nvidia-smi, then {INSTALL}"
            )
        return Availability(True, details=details)

    def asarray(self, array: NDArray[Any]) -> Array:
        return self.xp.asarray(array)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        import cupy

        return cupy.asnumpy(array)

    def synchronize(self) -> None:
        import cupy

        cupy.cuda.get_current_stream().synchronize()


def _multiply_on_gpu(cupy: Any) -> dict[str, str]:
    """Allocate, launch and multiply: a GPU that only announces itself is not enough."""
    ones = cupy.ones((8, 8), dtype=np.float32)
    if float((ones @ ones).sum()) != 8.0**3:
        raise RuntimeError("a product of ones came out wrong")
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {
        "cupy": cupy.__version__,
        "cuda": str(cupy.cuda.runtime.runtimeGetVersion()),
        "gpu": properties["name"].decode(),
    }
