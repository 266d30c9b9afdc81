"""CuPy: the shared array code on an NVIDIA or AMD GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Availability, Backend, Kernel
from fastmlp.errors import first_line

INSTALL = "install the CuPy of your driver's CUDA: pip install cupy-cuda13x (or cupy-cuda12x)."


def matmul(a: Array, b: Array, out: Array) -> None:
    import cupy

    cupy.matmul(a, b, out=out)


class CupyBackend(Backend):
    name = "cupy"
    device = "cuda"
    kernels: ClassVar[Mapping[str, Kernel]] = {"matmul": matmul}

    def __init__(self, device: str | None = None) -> None:
        super().__init__(device)
        import array_api_compat.cupy as xp

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
