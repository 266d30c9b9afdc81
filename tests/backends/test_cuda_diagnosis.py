"""What `fastmlp backends` tells where CuPy or its GPU does not work: a stand-in raises what CuPy and CUDA raise."""

import sys
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fastmlp import backends
from fastmlp.backends import cuda_diagnosis
from fastmlp.backends import cupy as cupy_module
from fastmlp.backends.cuda_diagnosis import Installed, cupy_wheels, diagnose, size
from fastmlp.backends.cupy import CupyBackend
from fastmlp.cli.main import explain
from fastmlp.common.errors import BackendError
from fastmlp.kernels.cuda.driver import Device, Launch, Program
from tests.shell import is_one_sentence

GPUS = 2
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
    ("error", "installed", "reason", "fix"),
    [
        (NO_CUPY, Installed((), 12040), "not installed", "Here: pip install 'fastmlp[cuda12]'"),
        (NO_CUPY, Installed((), 13020), "not installed", "Here: pip install 'fastmlp[cuda13]'"),
        (NO_CUPY, Installed(), "not installed", "On a machine with an NVIDIA GPU"),
        (
            RuntimeError("anything at all"),
            Installed(("cupy-cuda12x", "cupy-cuda13x"), 12040),
            "Several CuPy packages are installed over each other (cupy-cuda12x and cupy-cuda13x)",
            "pip uninstall -y cupy-cuda12x cupy-cuda13x; pip install 'fastmlp[cuda12]'",
        ),
        (OLD_DRIVER, Installed(("cupy-cuda13x",)), "no NVIDIA driver", "--gpus all"),
        (
            OLD_DRIVER,
            Installed(("cupy-cuda13x",), 12040),
            "it supports CUDA 12.4, and cupy-cuda13x needs CUDA 13",
            "pip uninstall -y cupy-cuda13x; pip install 'fastmlp[cuda12]'",
        ),
        (
            OLD_DRIVER,
            Installed(("cupy-cuda12x",), 11080),
            "it supports CUDA 11.8, and fastmlp needs CUDA 12 or newer",
            "Install a newer driver (nvidia.com/drivers).",
        ),
        (
            NO_CUPY,
            Installed((), 11080),
            "it supports CUDA 11.8",
            "newer driver (nvidia.com/drivers), then: pip install",
        ),
        (NO_NVRTC, Installed(("cupy-cuda13x",), 11040), "it supports CUDA 11.4", "newer driver (nvidia.com"),
        (RuntimeError("anything"), Installed(("cupy-cuda12x",), 10020), "it supports CUDA 10.2", "newer driver"),
        (NO_DEVICE, CUDA_13, "finds no GPU", "CUDA_VISIBLE_DEVICES"),
        (NO_DEVICE, Installed(("cupy-cuda13x",)), "no NVIDIA driver", "Install the driver"),
        (NO_NVRTC, CUDA_13, "NVRTC, which compiles our kernels, cannot be loaded (libnvrtc.so.13", "fastmlp[cuda13]"),
        (ImportError(IMPORT_ERROR), Installed(("cupy-cuda12x",), 13000), "libcublas.so.12", "fastmlp[cuda12]"),
        (ImportError(IMPORT_ERROR), Installed(("cupy-cuda13x",), 12040), "driver is too old", "fastmlp[cuda12]"),
        (ImportError("\n====\nOriginal error:\n  bad magic.\n====\n"), CUDA_13, "(bad magic)", "fastmlp[cuda13]"),
        (FULL, CUDA_13, "no free memory", "(nvidia-smi lists them), or choose another GPU, as in --backend cupy:1"),
        (NO_IMAGE, CUDA_13, "cupy-cuda13x has no code for this GPU", "fastmlp[cuda12]"),
        (
            CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)"),
            CUDA_13,
            "invalid value for --gpu-architecture",
            "fastmlp[cuda12]",
        ),
        (CompileException("dense.cu(3): error: expected a ;"), CUDA_13, "cannot compile our kernels", "--upgrade"),
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
def test_every_cause_has_its_fix(error: Exception, installed: Installed, reason: str, fix: str) -> None:
    told = diagnose(error, installed)
    assert reason in told[0]
    assert fix in told[1]
    assert all(text.endswith(".") and "\n" not in text for text in told)


def test_wheels_are_known_by_their_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cupy_cuda12x", "cupy_cuda13x", "cupyx_tools"):
        folder = tmp_path / f"{name}-14.0.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 14.0.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert cupy_wheels() == ("cupy-cuda12x", "cupy-cuda13x")


def test_sizes_are_told_as_people_read_them() -> None:
    assert [size(count) for count in (0, 1000, 1536, 90 * 2**30)] == ["0 B", "1000 B", "1.5 KiB", "90 GiB"]


# The probe, on a stand-in for CuPy that computes by NumPy.


class FakeDriver:
    """Launches bias_relu; fault is added to its result, or raised."""

    device = Device("NVIDIA H100 80GB HBM3", 90, 132, 232_448)
    fault: float | Exception = 0.0

    def blocks_at_once(self, program: Program, threads: int) -> int:
        raise NotImplementedError("a launch of bias_relu does not ask")

    def load(self, program: Program) -> Launch:
        assert program.kernel == "bias_relu"

        def launch(grid: object, block: object, arguments: Sequence[np.ndarray]) -> None:
            if isinstance(self.fault, Exception):
                raise self.fault
            z, bias, out = arguments[:3]
            out[...] = np.maximum(z + bias, 0) + self.fault

        return launch


class FakeDevice:
    """One of GPUS; `used` is the one that was made current last."""

    used: int | None = None

    def __init__(self, number: int = 0) -> None:
        assert 0 <= number < GPUS
        self.number = number

    def use(self) -> None:
        FakeDevice.used = self.number

    def synchronize(self) -> None:
        pass


def fake_cupy() -> types.SimpleNamespace:
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: GPUS,
        memGetInfo=lambda: (79 * 2**30, 80 * 2**30),
        driverGetVersion=lambda: 13020,
        runtimeGetVersion=lambda: 13000,
    )
    pool = types.SimpleNamespace(free_bytes=lambda: 2**30)
    cuda = types.SimpleNamespace(runtime=runtime, Device=FakeDevice)
    pinned = types.SimpleNamespace(free_all_blocks=lambda: None)
    return types.SimpleNamespace(
        __version__="14.2.0",
        cuda=cuda,
        asnumpy=np.asarray,
        get_default_memory_pool=lambda: pool,
        get_default_pinned_memory_pool=lambda: pinned,
    )


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """install(fault): `import cupy` gives a stand-in from now on, on whose device our kernel has that fault."""
    monkeypatch.setattr(cuda_diagnosis.Installed, "here", classmethod(lambda cls: CUDA_13))
    monkeypatch.setattr(cupy_module, "CupyDriver", FakeDriver)

    def install(fault: float | Exception = 0.0) -> None:
        monkeypatch.setattr(FakeDriver, "fault", fault)
        monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
        namespace = types.SimpleNamespace(asarray=np.asarray, empty=np.empty)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", namespace)

    return install


def test_a_gpu_that_works_is_described(install) -> None:
    install()
    found = CupyBackend.probe()
    assert found.usable
    assert found.details == {
        "gpu": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "memory": "80 GiB, 79 GiB free",
        "shared_memory": "227 KiB per block",
        "driver": "CUDA 13.2",
        "cuda": "13.0",
        "cupy": "14.2.0",
        "wheel": "cupy-cuda13x",
    }


@pytest.mark.parametrize("fault", [1.0, np.nan])
def test_a_kernel_that_computes_wrong_numbers_makes_the_gpu_unusable(install, fault: float) -> None:
    install(fault)
    found = CupyBackend.probe()
    assert not found.usable
    assert "our kernel came out wrong" in found.reason


def test_a_gpu_that_only_announces_itself_is_not_enough(install) -> None:
    """The device is there and memory too, but NVRTC is not, so that no kernel of ours runs."""
    install(NO_NVRTC)
    found = CupyBackend.probe()
    assert not found.usable
    assert "NVRTC" in found.reason


def test_auto_passes_by_a_gpu_that_fails_and_the_name_says_why(install) -> None:
    install(FULL)
    assert backends.open_backend("auto").name == "numba"
    with pytest.raises(BackendError) as raised:
        backends.open_backend("cupy")
    assert "no free memory" in str(raised.value)


# Several GPUs.


@pytest.mark.parametrize(
    ("name", "number", "told"),
    [
        ("cupy", None, "cupy:cuda"),
        ("cupy:cuda", None, "cupy:cuda"),
        ("cupy:0", 0, "cupy:cuda:0"),
        ("cupy:1", 1, "cupy:cuda:1"),
        ("cupy:cuda:1", 1, "cupy:cuda:1"),
        ("cupy:all", 0, "cupy:cuda:0"),
    ],
)
def test_a_gpu_is_chosen_by_its_number(install, monkeypatch, name: str, number: int | None, told: str) -> None:
    install()
    monkeypatch.setattr(FakeDevice, "used", None)
    backend = backends.open_backend(name)
    assert FakeDevice.used == number
    assert str(backend) == told
    assert backend.devices == (("cupy:0", "cupy:1") if name.endswith("all") else ())


def test_whatever_thread_places_data_does_so_on_the_backends_gpu(install, monkeypatch) -> None:
    install()
    first, second = backends.open_backend("cupy:0"), backends.open_backend("cupy:1")
    for place in (lambda backend: backend.asarray(np.ones(2)), lambda backend: backend.empty((2,), "float32")):
        for backend, number in ((first, 0), (second, 1), (first, 0)):
            place(backend)
            assert FakeDevice.used == number


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("2", "There is no GPU 2 here: only GPUs 0 to 1 are visible. Choose one"),
        ("cuda:7", "There is no GPU 7 here: only GPUs 0 to 1 are visible."),
        ("99999999999999999999", "There is no GPU 99999999999999999999 here"),
        ("-1", "It has no device '-1'. Give a GPU's number, as in cupy:0, or cupy:all."),
        ("1.0", "It has no device '1.0'."),
        ("first", "It has no device 'first'."),
        ("cuda:", "It has no device 'cuda:'."),
        ("²", "It has no device '²'."),
        ("0,1", "It has no device '0,1'."),
        ("", "It has no device ''."),
        (5000 * "9", "It has no device '999"),
    ],
)
def test_a_gpu_that_is_not_there_is_told_with_those_that_are(install, device: str, reason: str) -> None:
    install()
    with pytest.raises(BackendError) as raised:
        backends.open_backend(f"cupy:{device}")
    assert raised.value.exit_code == 3
    assert str(raised.value).startswith(f"Backend cupy:{device} cannot run here. {reason}")


def test_where_there_is_one_gpu_a_second_one_is_not(install, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "GPUS", 1)
    install()
    with pytest.raises(BackendError, match="no GPU 1 here: only GPU 0 is visible"):
        backends.open_backend("cupy:1")
    assert backends.open_backend("cupy:all").devices == ("cupy:0",)


# Memory that runs out later.


def test_an_array_too_large_for_the_gpu_tells_how_many_rows_would_fit(install, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 GiB: the driver's 79 and CuPy's own 1."""

    def full(*_: object, **__: object) -> None:
        raise OutOfMemoryError("Out of memory allocating 204,800,000,000 bytes (allocated so far: 0 bytes).")

    install()
    backend = CupyBackend()
    monkeypatch.setattr(backend, "xp", types.SimpleNamespace(asarray=full, empty=full))
    for make in (backend.empty, lambda shape, dtype: backend.asarray(np.broadcast_to(np.zeros((), dtype), shape))):
        with pytest.raises(BackendError) as raised:
            make((100_000_000, 512), "float32")
        assert is_one_sentence(str(raised.value))
        assert "an array of 100,000,000 x 512 (191 GiB, where 80 GiB are free, enough for 41,943,040 rows)" in str(
            raised.value
        )


def test_the_budget_is_most_of_what_is_free(install) -> None:
    install()
    assert CupyBackend().memory_budget() == int(0.8 * 80 * 2**30)


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Out of memory allocating 512 bytes (allocated so far: 0 bytes)."),
        OutOfMemoryError("CUDA out of memory.\nMore"),
        CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
)
def test_memory_that_runs_out_within_a_library_is_one_sentence_and_code_3(error: Exception) -> None:
    sentence, code = explain(error)
    assert is_one_sentence(sentence)
    assert str(error).splitlines()[0].rstrip(".") in sentence
    assert code == 3


def test_memory_that_runs_out_on_the_host_is_another_matter() -> None:
    assert explain(MemoryError())[1] == 1
