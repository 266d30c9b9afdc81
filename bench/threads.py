"""The same number of CPU threads for all: through the environment before a library is loaded, its API afterwards."""

from __future__ import annotations

import os
import sys

# Each library reads some of these when it is loaded. NPROC is XLA's: the size of its thread pool.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")


# On a GPU all contenders compute in full float32, and JAX does not reserve memory.
FULL_FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
SHARED_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def variables(threads: int, device: str = "cpu") -> dict[str, str]:
    """The environment for libraries not yet loaded. Peers run on that device; JAX itself reports a missing GPU."""
    of_device = {**FULL_FLOAT32, **SHARED_GPU} if device == "cuda" else {"JAX_PLATFORMS": "cpu"}
    return {**dict.fromkeys(VARIABLES, str(threads)), **of_device}


def pin_loaded(threads: int) -> None:
    """Set the threads of every library already loaded."""
    from threadpoolctl import threadpool_limits

    from fastmlp.backends import Backend

    threadpool_limits(threads)
    Backend.threads = threads  # type: ignore[method-assign,assignment]  # for those opened without a number
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def pools() -> dict[str, list[int]]:
    """The sizes of the loaded thread pools, by library."""
    from threadpoolctl import threadpool_info

    found: dict[str, set[int]] = {}
    for pool in threadpool_info():
        found.setdefault(pool["internal_api"], set()).add(pool["num_threads"])
    if torch := sys.modules.get("torch"):
        found["torch"] = {torch.get_num_threads()}
    if "jax" in sys.modules:
        found["xla"] = {int(os.environ["NPROC"])}
    return {name: sorted(sizes) for name, sizes in found.items()}
