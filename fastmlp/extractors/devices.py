"""What a backbone may compute on, and in which dtype there."""

from __future__ import annotations

import torch

from fastmlp.common.errors import BackendError, first_line

TF32 = "tf32"
TENSOR_CORES = {TF32: (8, 0), "bfloat16": (8, 0), "float16": (7, 0)}  # the compute capability from which they take it


def check_device(device: str) -> None:
    """Raise BackendError if PyTorch cannot use that device."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(
            f"PyTorch cannot use {device} here ({first_line(error)}): install a PyTorch that can, or choose a "
            "--backend on the CPU."
        ) from None


def check_dtype(dtype: str, device: str) -> None:
    """Raise BackendError if a GPU would compute in that dtype as slowly as in float32, or not at all."""
    least = TENSOR_CORES.get(dtype)
    if dtype == TF32 and not device.startswith("cuda"):
        raise BackendError(f"tf32 is for NVIDIA's GPUs, and {device} is none: leave --dtype out.")
    if least is None or not device.startswith("cuda"):
        return
    found = torch.cuda.get_device_capability(device)
    if found < least:
        needed, here = (".".join(map(str, version)) for version in (least, found))
        name = torch.cuda.get_device_name(device)
        raise BackendError(
            f"{dtype} needs a GPU of compute capability {needed} or later, and {name} has {here}: leave --dtype out."
        )
