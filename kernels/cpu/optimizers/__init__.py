"""The optimizers' steps on a CPU: one module per optimizer, with the same name, its Rule and its `step`.

`Rule` is a NamedTuple of the optimizer's constants. `step(rule, slots, first, count, sums, mean_factor, coefficients,
kept)` updates `count` columns from `first` on of slots (1 + moments, n), whose rows are the values and then each
moment. Their gradient is mean_factor * sums[:count]; coefficients are those of the step except the first, `kept`, the
share of each value that weight decay leaves.

Numba compiles a function for each combination of its arguments' types. As each Rule is a type, `take_step` compiles to
that optimizer's step alone in single ops, of which any layout of arrays is another combination. The types have
different names: what Numba has cached of two of one name and the same fields, one process would take for the other.
A fused epoch, which takes ten seconds to compile, is given an `AnyRule`, of one type, and chooses the step as it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, NamedTuple

from numba.extending import overload

from fastmlp.kernels.cpu.jit import inlined
from fastmlp.ops.network import Rule

_MODULES = {info.name: import_module(f".{info.name}", __name__) for info in iter_modules(__path__)}
_STEPS: dict[type, Callable[..., None]] = {module.Rule: module.step for module in _MODULES.values()}
_RULES: list[Any] = list(_STEPS)
_MOST_CONSTANTS = max(len(rule._fields) for rule in _RULES)
NAMES = frozenset(_MODULES)


class AnyRule(NamedTuple):
    """An optimizer by its Rule's place among all, and its constants in that one's order, then zeros."""

    place: int
    constants: tuple[float, ...]


def rule_of(optimizer: Rule) -> Any:
    """The optimizer's constants, as compiled code takes them."""
    return _MODULES[optimizer.name].Rule(**optimizer.constants)


def any_rule_of(optimizer: Rule) -> AnyRule:
    """The same, in the type that all optimizers have in common."""
    rule = rule_of(optimizer)
    padding = (0.0,) * (_MOST_CONSTANTS - len(rule))
    return AnyRule(_RULES.index(type(rule)), (*map(float, rule), *padding))


def take_step(rule: Any, *arguments: Any) -> None:
    """The step of the rule; in compiled code, `overload` decides by its type."""
    if isinstance(rule, AnyRule):
        kind = _RULES[rule.place]
        rule = kind(*rule.constants[: len(kind._fields)])
    _STEPS[type(rule)](rule, *arguments)


@overload(take_step)
def _compiled(rule, slots, first, count, sums, mean_factor, coefficients, kept):  # type: ignore[no-untyped-def]
    if rule.instance_class is AnyRule:
        return _from(0)
    step = _STEPS[rule.instance_class]

    def call(rule, slots, first, count, sums, mean_factor, coefficients, kept):  # type: ignore[no-untyped-def]
        step(rule, slots, first, count, sums, mean_factor, coefficients, kept)

    return call


def _from(here: int) -> Callable[..., None]:
    """The step of an `AnyRule` that is one of those from that place on."""
    kind = _RULES[here]
    step, constants = _STEPS[kind], len(kind._fields)

    def own(rule, slots, first, count, sums, mean_factor, coefficients, kept):  # type: ignore[no-untyped-def]
        step(kind(*rule.constants[:constants]), slots, first, count, sums, mean_factor, coefficients, kept)

    if here == len(_RULES) - 1:
        return own
    mine, others = inlined(own), inlined(_from(here + 1))

    def choose(rule, slots, first, count, sums, mean_factor, coefficients, kept):  # type: ignore[no-untyped-def]
        if rule.place == here:
            mine(rule, slots, first, count, sums, mean_factor, coefficients, kept)
        else:
            others(rule, slots, first, count, sums, mean_factor, coefficients, kept)

    return choose
