"""Where contenders compute: a GPU, or the stand-ins that try the GPU's contenders on a machine without one."""

from __future__ import annotations

from typing import Any

from fastmlp.backends import open_backend, probe
from fastmlp.backends.base import Backend
from fastmlp.common.errors import BackendError
from fastmlp.testing.emulated import EmulatedBackend

from .contenders import AbsentError, Problem

CPU_BACKENDS = {"torch": "torch:cpu"}
GPU_BACKENDS = {"torch": "torch:cuda"}


def backend(name: str, problem: Problem) -> Backend:
    """Our backend of that name on the problem's device, with its threads. Raises AbsentError if it cannot run here."""
    emulated = problem.device == "emulated"
    if emulated and name == "cupy":
        opened: Backend = EmulatedBackend()
        opened.set_threads(problem.threads)
        return opened
    names = GPU_BACKENDS if problem.device == "cuda" else CPU_BACKENDS
    try:
        return open_backend(names.get(name, name), problem.threads)
    except BackendError as error:
        raise AbsentError(str(error)) from None


def torch_device(problem: Problem) -> str:
    """PyTorch's name for the device, with products set to full float32. Raises AbsentError if it cannot use it."""
    if problem.device != "cuda":
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise AbsentError("PyTorch finds no GPU that it can use.")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return "cuda"


def wait(problem: Problem) -> None:
    """Wait until PyTorch's work on the device is done."""
    if problem.device == "cuda":
        import torch

        torch.cuda.synchronize()


def require_jax(problem: Problem) -> None:
    """Raise AbsentError if JAX does not run on the problem's device."""
    import jax

    if problem.device == "cuda" and jax.default_backend() != "gpu":
        raise AbsentError(f"JAX finds no GPU that it can use, only {jax.default_backend()}.")


def facts() -> dict[str, Any]:
    """The GPU, its driver and CUDA, as `fastmlp backends` prints them; nothing if CuPy does not work."""
    found = probe("cupy").details
    return {name: found[name] for name in ("gpu", "compute_capability", "driver", "cuda") if name in found}
