"""The extras of pyproject.toml that a command needs, read off its options."""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Mapping, Sequence


def needed(options: Sequence[str], variables: Mapping[str, str]) -> set[str]:
    """What `fastmlp reproduce` needs beyond the core, with these options and environment variables."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--extractor", default=variables.get("FASTMLP_EXTRACTOR", ""))
    parser.add_argument("--backend", default=variables.get("FASTMLP_BACKEND", ""))
    try:
        given, _ = parser.parse_known_args(options)
    except argparse.ArgumentError:
        return set()  # fastmlp will say what is wrong with them
    return _of_extractor(given.extractor) | _of_backend(given.backend)


def _of_extractor(name: str) -> set[str]:
    family = name.partition(":")[0]
    return {"resnet18": {"torch"}, "torchvision": {"torch"}, "timm": {"timm"}}.get(family, set())


def _of_backend(name: str) -> set[str]:
    family = name.partition(":")[0]
    if family == "cupy":
        return cuda_extra(driver_cuda())
    return {"torch"} if family == "torch" else set()


def cuda_extra(version: int | None) -> set[str]:
    """CuPy for a driver that runs CUDA `version`; nothing where no CuPy can run, for fastmlp to say so."""
    if version is None or version < 12:
        return set()
    return {"cuda13" if version >= 13 else "cuda12"}


def driver_cuda() -> int | None:
    """The newest CUDA (12, 13, ...) that the NVIDIA driver runs, None without a driver."""
    version = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return version.value // 1000 if status == 0 else None
