"""What `fastmlp backends` tells where CuPy or its GPU does not work: a stand-in raises what CuPy and CUDA raise."""

import sys
import types

import numpy as np
import pytest

from fastmlp import backends
from fastmlp.backends import cuda_diagnosis
from fastmlp.backends.cuda_diagnosis import Installed, cupy_wheels, diagnose, out_of_memory, size
from fastmlp.backends.cupy import CupyBackend
from fastmlp.errors import BackendError

CUDA_13 = Installed(("cupy-cuda13x",), 13000)


class CUDARuntimeError(RuntimeError):
    """Named as in cupy_backends.cuda.api.runtime."""


class CUDADriverError(RuntimeError):
    """Named as in cupy_backends.cuda.api.driver."""


class OutOfMemoryError(MemoryError):
    """Named as in cupy.cuda.memory."""


class CompileException(Exception):  # noqa: N818
    """Named as in cupy.cuda.compiler."""


class DynamicLibNotFoundError(RuntimeError):
    """Named as in cuda.pathfinder."""


IMPORT_ERROR = """
================================================================
Failed to import CuPy.

If you installed CuPy via wheels (cupy-cudaXXX), make sure that the package matches with the version of CUDA installed.

Original error:
  ImportError: libcublas.so.12: cannot open shared object file: No such file or directory
================================================================
"""
OLD_DRIVER = CUDARuntimeError(
    "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
)
NO_DEVICE = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
NO_NVRTC = DynamicLibNotFoundError('Failure finding "libnvrtc.so.13": No such file: libnvrtc.so.13\n')
FULL = OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes).")
NO_IMAGE = CUDADriverError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device")
NO_CUPY = ModuleNotFoundError("No module named 'cupy'", name="cupy")


@pytest.mark.parametrize(
    ("error", "installed", "reason", "mend"),
    [
        (NO_CUPY, Installed((), 12040), "not installed", "Here: pip install 'fastmlp[cuda12]'"),
        (NO_CUPY, Installed((), 13020), "not installed", "Here: pip install 'fastmlp[cuda13]'"),
        (NO_CUPY, Installed(), "not installed", "On a machine with an NVIDIA GPU"),
        (
            RuntimeError("anything at all"),
            Installed(("cupy-cuda12x", "cupy-cuda13x"), 12040),
            "Several CuPys are installed over each other (cupy-cuda12x and cupy-cuda13x)",
            "pip uninstall -y cupy-cuda12x cupy-cuda13x; pip install 'fastmlp[cuda12]'",
        ),
        (OLD_DRIVER, Installed(("cupy-cuda13x",)), "no NVIDIA driver", "--gpus all"),
        (
            OLD_DRIVER,
            Installed(("cupy-cuda13x",), 12040),
            "it runs CUDA 12.4, and cupy-cuda13x needs CUDA 13",
            "pip uninstall -y cupy-cuda13x; pip install 'fastmlp[cuda12]'",
        ),
        (OLD_DRIVER, Installed(("cupy-cuda12x",), 11080), "it runs CUDA 11.8", "Install a newer driver (nvidia.com"),
        (NO_DEVICE, CUDA_13, "finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (NO_DEVICE, Installed(("cupy-cuda13x",)), "no NVIDIA driver", "Install the driver"),
        (NO_NVRTC, CUDA_13, "NVRTC, which compiles our kernels, cannot be loaded (libnvrtc.so.13", "fastmlp[cuda13]"),
        (ImportError(IMPORT_ERROR), Installed(("cupy-cuda12x",), 13000), "libcublas.so.12", "fastmlp[cuda12]"),
        (ImportError(IMPORT_ERROR), Installed(("cupy-cuda13x",), 12040), "driver is too old", "fastmlp[cuda12]"),
        (ImportError("\n====\nOriginal error:\n  bad magic.\n====\n"), CUDA_13, "(bad magic)", "fastmlp[cuda13]"),
        (FULL, CUDA_13, "no memory free", "nvidia-smi names the processes"),
        (NO_IMAGE, CUDA_13, "cupy-cuda13x has no code for this GPU", "fastmlp[cuda12]"),
        (
            CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)"),
            CUDA_13,
            "invalid value for --gpu-architecture",
            "fastmlp[cuda12]",
        ),
        (CompileException("dense.cu(3): error: expected a ;"), CUDA_13, "does not compile our kernels", "--upgrade"),
        (
            CUDADriverError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled with ..."),
            CUDA_13,
            "NVRTC is newer than the NVIDIA driver (CUDA 13.0)",
            "newer driver",
        ),
        (
            CUDARuntimeError("cudaErrorSystemDriverMismatch: system has unsupported display driver"),
            CUDA_13,
            "do not match",
            "Restart",
        ),
        (ModuleNotFoundError("", name="array_api_compat"), CUDA_13, "array_api_compat", "pip install array-api-compat"),
        (RuntimeError("something new\nover two lines"), CUDA_13, "(something new)", "nvidia-smi"),
    ],
)
def test_every_cause_has_its_mend(error: Exception, installed: Installed, reason: str, mend: str) -> None:
    told = diagnose(error, installed)
    assert reason in told[0]
    assert mend in told[1]
    assert all(text.endswith(".") and "\n" not in text for text in told)


def test_wheels_are_known_by_their_names() -> None:
    names = ["numpy", "CuPy-CUDA13x", "cupy-cuda12x", "cupyx-tools", "cupy"]
    assert cupy_wheels(names) == ("cupy", "cupy-cuda12x", "cupy-cuda13x")


def test_memory_is_told_in_one_sentence() -> None:
    told = out_of_memory("50,000 rows", 3 * 2**30, 2**29, "10,000 rows would fit")
    assert told == (
        "The GPU's memory is too small for 50,000 rows: 3 GiB are needed and 512 MiB are free; 10,000 rows would fit."
    )
    assert [size(count) for count in (0, 1000, 1536, 90 * 2**30)] == ["0 B", "1000 B", "1.5 KiB", "90 GiB"]


# The probe, on a stand-in for CuPy that computes by NumPy.


class FakeDevice:
    id = 0
    compute_capability = "90"
    attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232_448}  # noqa: RUF012


class FakeKernel:
    """bias_relu, as the driver launches it."""

    max_dynamic_shared_size_bytes = 0

    def __init__(self, fault: float) -> None:
        self.fault = fault

    @property
    def kernel(self) -> object:
        def launch(grid: object, block: object, arguments: tuple, *_: object, **__: object) -> None:
            z, bias, out = arguments[:3]
            out[...] = np.maximum(z + bias, 0) + self.fault

        return launch


def fake_cupy(fault: float = 0.0, **changed: object) -> types.SimpleNamespace:
    runtime = types.SimpleNamespace(
        getDeviceProperties=lambda _: {"name": b"NVIDIA H100 80GB HBM3"},
        memGetInfo=lambda: (79 * 2**30, 80 * 2**30),
        driverGetVersion=lambda: 13020,
        runtimeGetVersion=lambda: 13000,
    )
    module = types.SimpleNamespace(get_function=lambda _: FakeKernel(fault))
    fake = {
        "__version__": "14.2.0",
        "cuda": types.SimpleNamespace(Device=FakeDevice, runtime=runtime),
        "RawModule": lambda **_: module,
        "asnumpy": np.asarray,
    }
    return types.SimpleNamespace(**fake | changed)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """install(fake): `import cupy` gives that from now on."""
    monkeypatch.setattr(cuda_diagnosis.Installed, "here", classmethod(lambda cls: CUDA_13))

    def install(fake: types.SimpleNamespace) -> None:
        monkeypatch.setitem(sys.modules, "cupy", fake)
        namespace = types.SimpleNamespace(asarray=np.asarray)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)

    return install


def test_a_gpu_that_works_is_described(install) -> None:
    install(fake_cupy())
    found = CupyBackend.probe()
    assert found.usable
    assert found.details == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "memory": "80 GiB, 79 GiB free",
        "shared_memory": "227 KiB a block",
        "driver": "CUDA 13.2",
        "cuda": "13.0",
        "cupy": "14.2.0",
        "wheel": "cupy-cuda13x",
    }


@pytest.mark.parametrize("fault", [1.0, np.nan])
def test_a_kernel_that_computes_wrong_numbers_makes_the_gpu_unusable(install, fault: float) -> None:
    install(fake_cupy(fault))
    found = CupyBackend.probe()
    assert not found.usable
    assert "our kernel came out wrong" in found.reason


def test_a_gpu_that_only_announces_itself_is_not_enough(install) -> None:
    """Devices are there and memory too, but NVRTC is not, so that no kernel of ours runs."""

    def no_nvrtc(**_: object) -> None:
        raise NO_NVRTC

    install(fake_cupy(RawModule=no_nvrtc))
    found = CupyBackend.probe()
    assert not found.usable
    assert "NVRTC" in found.reason


def test_auto_passes_by_a_gpu_that_fails_and_the_name_says_why(install, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise FULL

    install(fake_cupy())
    monkeypatch.setattr(CupyBackend, "asarray", full)
    assert backends.open_backend("auto").name == "numba"
    with pytest.raises(BackendError) as raised:
        backends.open_backend("cupy")
    assert "no memory free" in str(raised.value)
