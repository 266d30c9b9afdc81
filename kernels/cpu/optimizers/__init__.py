"""The optimizers' steps on a CPU: one module per optimizer, with the same name, its Rule and its `step`.

`Rule` is a NamedTuple of the optimizer's constants. `step(rule, slots, first, count, sums, mean_factor, coefficients,
kept)` updates `count` columns from `first` on of slots (1 + moments, n), whose rows are the values and then each
moment. Their gradient is mean_factor * sums[:count]; coefficients are those of the step except the first, `kept`, the
share of each value that weight decay leaves.

Numba compiles a function for each combination of its arguments' types. As each Rule is a type, `take_step` compiles to
that optimizer's step alone, in single ops and fused epochs alike. The types have different names: what Numba has cached
of two of one name and the same fields, one process would take for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from numba.extending import overload

from fastmlp.ops.network import Rule

_MODULES = {info.name: import_module(f".{info.name}", __name__) for info in iter_modules(__path__)}
_STEPS: dict[type, Callable[..., None]] = {module.Rule: module.step for module in _MODULES.values()}
NAMES = frozenset(_MODULES)


def rule_of(optimizer: Rule) -> Any:
    """The optimizer's constants, as compiled code takes them."""
    return _MODULES[optimizer.name].Rule(**optimizer.constants)


def take_step(rule: Any, *arguments: Any) -> None:
    """The step of the rule's type; in compiled code, `overload` decides at compile time."""
    _STEPS[type(rule)](rule, *arguments)


@overload(take_step)
def _compiled(rule, slots, first, count, sums, mean_factor, coefficients, kept):  # type: ignore[no-untyped-def]
    step = _STEPS[rule.instance_class]

    def call(rule, slots, first, count, sums, mean_factor, coefficients, kept):  # type: ignore[no-untyped-def]
        step(rule, slots, first, count, sums, mean_factor, coefficients, kept)

    return call
