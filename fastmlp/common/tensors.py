"""PyTorch's tensors where arrays are expected."""

from __future__ import annotations

from typing import Any

import array_api_compat


def readable(array: Any) -> Any:
    """A tensor of PyTorch without autograd and, as NumPy has no bfloat16, in float32; anything else unchanged."""
    if not array_api_compat.is_torch_array(array):
        return array
    tensor = array.detach()
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def on_host(array: Any) -> Any:
    """The same, on the CPU, where NumPy can read it."""
    return readable(array).cpu() if array_api_compat.is_torch_array(array) else array
