"""Why CuPy cannot use a GPU: from an exception, and what is installed, to the reason and the fix.

Recognises the messages of CuPy 13 and 14, CUDA 12 and 13, and NVRTC.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution

from fastmlp.common.errors import first_line

WHEELS = ("cupy", *(f"cupy-cuda{major}x" for major in range(11, 16)))
OLDEST_CUDA = 12  # for which our extras have a CuPy


@dataclass(frozen=True)
class Installed:
    """The CuPy wheels, such as ("cupy-cuda13x",), and the newest CUDA that the driver supports, 13020 for 13.2."""

    wheels: tuple[str, ...] = ()
    driver: int | None = None

    @classmethod
    def here(cls) -> Installed:
        return cls(cupy_wheels(), driver_cuda())

    @property
    def wheel_cuda(self) -> int | None:
        """The CUDA major version that the (first) wheel is built for."""
        match = re.search(r"cuda(\d\d)", self.wheels[0]) if self.wheels else None
        return int(match[1]) if match else None

    @property
    def too_old(self) -> bool:
        """Whether the driver is, for any CuPy of our extras."""
        ours = self.wheel_cuda is None or self.wheel_cuda >= OLDEST_CUDA
        return self.driver is not None and self.driver < 1000 * OLDEST_CUDA and ours

    @property
    def extra(self) -> str:
        """The command that installs the CuPy for this driver, with the CUDA libraries that it loads."""
        newest = self.driver is None or self.driver >= 13_000
        return f"pip install 'fastmlp[cuda{13 if newest else OLDEST_CUDA}]'"


Diagnosis = tuple[str, str]  # the reason and the fix, one sentence each


def cupy_wheels() -> tuple[str, ...]:
    """The installed distributions that provide a module `cupy`: there should be one."""
    return tuple(name for name in WHEELS if _is_installed(name))


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def driver_cuda() -> int | None:
    """The newest CUDA that the NVIDIA driver supports, 13020 for 13.2; None without a driver."""
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return version.value if status == 0 and version.value else None


def diagnose(error: BaseException, installed: Installed) -> Diagnosis:
    """The reason and the fix for an error that CuPy, CUDA or NVRTC raised in a trial run."""
    if len(installed.wheels) > 1:
        return _several_wheels(installed)
    if installed.too_old:
        return _old_driver(installed)
    if isinstance(error, ModuleNotFoundError):
        return _module_missing(error, installed)
    text = f"{type(error).__name__}: {error}"
    for pattern, explain in CAUSES:
        if match := re.search(pattern, text):
            return explain(match, installed)
    if isinstance(error, ImportError):
        return f"CuPy cannot be imported ({_last_line(error)}).", f"Reinstall it: {installed.extra}."
    return f"The GPU failed in a trial run ({first_line(error)}).", f"Check nvidia-smi, then {installed.extra}."


def out_of_memory(shape: tuple[int, ...], needed: int, free: int) -> str:
    """One sentence for an array (n, ...) that needs more bytes than the GPU has free: how many rows would fit."""
    rows = shape[0] * free // max(needed, 1) if shape else 0
    lengths = " x ".join(f"{length:,}" for length in shape)
    return (
        f"The GPU's memory is too small for an array of {lengths} ({size(needed)}, where {size(free)} are free, enough "
        f"for {rows:,} rows): use a --limit, a smaller --batch-size, or end other programs on it (nvidia-smi)."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether CuPy, PyTorch or the driver raises this error because the GPU's memory is full."""
    found = re.search(r"cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY", str(error))
    return found is not None or type(error).__name__ == "OutOfMemoryError"


def out_of_memory_within(error: BaseException) -> str:
    """One sentence for an error that `is_out_of_memory`."""
    return (
        f"The GPU's memory is too small ({first_line(error).rstrip('.')}): use fewer rows (--limit), a smaller "
        "--batch-size, or end other programs on it (nvidia-smi)."
    )


def size(count: int) -> str:
    """Bytes in readable units: 512 B, 1.5 GiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"


def cuda_version(number: int) -> str:
    """13020 is CUDA 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


# Causes.


def _several_wheels(installed: Installed) -> Diagnosis:
    both = " and ".join(installed.wheels)
    return (
        f"Several CuPy packages are installed over each other ({both}).",
        f"Remove them all, then install one: pip uninstall -y {' '.join(installed.wheels)}; {installed.extra}.",
    )


def _module_missing(error: ModuleNotFoundError, installed: Installed) -> Diagnosis:
    if error.name == "cupy":
        place = "Here" if installed.driver else "On a machine with an NVIDIA GPU"
        return "CuPy is not installed.", f"{place}: {installed.extra}."
    return (
        f"CuPy needs the module {error.name}.",
        f"Install it: pip install {str(error.name).replace('_', '-')}.",
    )


def _insufficient_driver(_: re.Match[str], installed: Installed) -> Diagnosis:
    needed, found = installed.wheel_cuda, installed.driver
    if found is None:
        return _no_driver()
    of_wheel = f", and {installed.wheels[0]} needs CUDA {needed}" if needed else ", and CuPy needs a newer one"
    reason = f"The NVIDIA driver is too old: it supports CUDA {cuda_version(found)}{of_wheel}."
    if not installed.wheels or (needed and found >= 1000 * needed):
        return reason, "Install a newer driver (nvidia.com/drivers)."
    return reason, f"Install a newer driver, or: pip uninstall -y {installed.wheels[0]}; {installed.extra}."


def _old_driver(installed: Installed) -> Diagnosis:
    """For any CuPy that we know."""
    found = cuda_version(installed.driver or 0)
    reason = f"The NVIDIA driver is too old: it supports CUDA {found}, and fastmlp needs CUDA {OLDEST_CUDA} or newer."
    then = "" if installed.wheels else f", then: pip install 'fastmlp[cuda{OLDEST_CUDA}]'"
    return reason, f"Install a newer driver (nvidia.com/drivers){then}."


def _no_driver() -> Diagnosis:
    return (
        "There is no NVIDIA driver here (libcuda.so.1 cannot be loaded).",
        "Install the driver for your GPU; start a container with access to the GPUs (docker run --gpus all).",
    )


def _no_device(_: re.Match[str], installed: Installed) -> Diagnosis:
    if installed.driver is None:
        return _no_driver()
    return (
        "The NVIDIA driver finds no GPU that it may use.",
        "Check nvidia-smi and CUDA_VISIBLE_DEVICES; start a container with its GPUs (docker run --gpus all).",
    )


def _library_missing(match: re.Match[str], installed: Installed) -> Diagnosis:
    library = match[0]
    name = "NVRTC, which compiles our kernels," if "nvrtc" in library else f"CUDA's {library}"
    wheel, driver = installed.wheel_cuda, installed.driver
    if wheel and driver and driver < 1000 * wheel:
        return _insufficient_driver(match, installed)
    command = f"pip install 'fastmlp[cuda{wheel}]'" if wheel in (12, 13) else installed.extra
    return f"{name} cannot be loaded ({library}).", f"Install the CUDA libraries for CuPy: {command}."


def _memory(_: re.Match[str], __: Installed) -> Diagnosis:
    return (
        "The GPU has no free memory: not even a small array fits.",
        "End other programs on it (nvidia-smi lists them), or choose another GPU, as in --backend cupy:1.",
    )


def _architecture(match: re.Match[str], installed: Installed) -> Diagnosis:
    wheel = installed.wheels[0] if installed.wheels else "this CuPy"
    older = wheel.endswith("13x")
    fix = f"pip uninstall -y {wheel}; pip install 'fastmlp[cuda12]'" if older else installed.extra
    return f"{wheel} has no code for this GPU, which is too old or too new for its CUDA ({match[0]}).", f"Try: {fix}."


def _newer_ptx(_: re.Match[str], installed: Installed) -> Diagnosis:
    driver = f" (CUDA {cuda_version(installed.driver)})" if installed.driver else ""
    return (
        f"NVRTC is newer than the NVIDIA driver{driver}, which cannot load what it compiles.",
        "Install a newer driver (nvidia.com/drivers).",
    )


def _mismatch(match: re.Match[str], _: Installed) -> Diagnosis:
    return (
        f"The NVIDIA driver in the kernel and its libraries do not match ({match[0]}).",
        "Restart the machine after a driver update; in a container, remove its own compatibility libraries.",
    )


def _wrong_numbers(match: re.Match[str], installed: Installed) -> Diagnosis:
    return f"The GPU computes wrong numbers ({match[0]}).", f"Check it with nvidia-smi -q, then {installed.extra}."


def _not_compiled(_: re.Match[str], installed: Installed) -> Diagnosis:
    return "NVRTC cannot compile our kernels for this GPU.", f"Update it: {installed.extra} --upgrade."


Explain = Callable[[re.Match[str], Installed], Diagnosis]
CAUSES: tuple[tuple[str, Explain], ...] = (
    (r"cudaErrorInsufficientDriver", _insufficient_driver),
    (r"(cuda|CUDA_)Error(NoDevice|InvalidDevice)|CUDA_ERROR_(NO|INVALID)_DEVICE", _no_device),
    (r"cudaErrorSystemDriverMismatch|cudaErrorCompatNotSupportedOnDevice|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", _mismatch),
    (
        r"OutOfMemoryError|GPU's memory is too small|MemoryError|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY",
        _memory,
    ),
    (r"UnsupportedPtxVersion|UNSUPPORTED_PTX_VERSION", _newer_ptx),
    (
        r"cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU|invalid value for --gpu-architecture",
        _architecture,
    ),
    (r"lib(nvrtc|cudart|cublas|cublasLt|curand|nvJitLink|nvrtc-builtins)[\w.-]*so[.\d]*", _library_missing),
    (r"CompileException", _not_compiled),
    (r"(our kernel|a product) came out wrong: .*", _wrong_numbers),
)


def _last_line(error: BaseException) -> str:
    """The original error, which CuPy's import error, a page between rulers, has at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[-1].rstrip(".") if lines else type(error).__name__
