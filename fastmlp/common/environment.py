"""What a result depends on besides its options: machine, versions, threads."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fastmlp._version import __version__

PACKAGES = (
    "numpy",
    "numba",
    "torch",
    "torchvision",
    "timm",
    "cupy",
    "scikit-learn",
    "joblib",
    "safetensors",
    "threadpoolctl",
)


def available_cores() -> int:
    """The CPU cores this process may use: by its affinity and by its container's quota, rounded up."""
    from joblib import cpu_count

    return cpu_count()


def sees_too_many_cores() -> bool:
    """Whether libraries that count cores by themselves would start more threads than the process may keep busy."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return available_cores() < seen


def describe() -> dict[str, Any]:
    """Versions, platform, processor, cores and BLAS of this process."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "fastmlp": __version__,
        "python": platform.python_version(),
        **{package: found for package in PACKAGES if (found := version_of(package))},
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": available_cores(),
        "blas": ", ".join(sorted({f"{pool['internal_api']} {pool['version']}" for pool in pools})),
    }


@cache  # looking through all folders of packages takes milliseconds
def version_of(package: str) -> str | None:
    """Of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, on Linux with its widest vector instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines.items()}
    flags = fields.get("flags", "").split()
    vectors = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    return f"{fields.get('model name', platform.machine())} {vectors}".strip()
