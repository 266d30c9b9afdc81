"""Optimizers: what one step makes of a gradient. A module each.

It says all that the rest needs to know of its optimizer (see `Optimizer`). Kernels are optional: a module of its name
in kernels/cpu/optimizers/, a header in kernels/cuda/optimizers/; without them its step runs as array code.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.network.optimizers.base import Optimizer
from fastmlp.network.optimizers.sgd import SGD

__all__ = ["OPTIMIZERS", "SGD", "Optimizer", "make_optimizer"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in Optimizer.kinds()}


def make_optimizer(name: str, weight_decay: float = 0.0, **constants: Any) -> Optimizer:
    """The optimizer of that name, with some of its constants, which have defaults.

    Raises UsageError for another name, a weight decay below 0 or not finite, or a constant out of its range.
    """
    if name not in OPTIMIZERS:
        near = did_you_mean(str(name), OPTIMIZERS)
        raise UsageError(f"The optimizer must be one of {', '.join(OPTIMIZERS)}, not {name!r}{near}.")
    return OPTIMIZERS[name](weight_decay, **constants)
