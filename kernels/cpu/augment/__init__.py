"""Kernels of augmentations, a module each, named like its kernel: a new one is found by being here.

kernel(images, rows, *arguments, out): out[rows[k]] is made of images[rows[k]] by the arguments' k-th numbers, and other
rows of out are left alone. images, out uint8 (n, channels, h, w); rows int64 (m,), no two alike; arguments (m,).
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ..parallel import Kernel


def _found(name: str) -> Kernel:
    kernel: Kernel = getattr(import_module(f"{__name__}.{name}"), name)
    return kernel


KERNELS = {module.name: _found(module.name) for module in iter_modules(__path__)}
