"""The cases of the optimizers' updates: in the midst of a run, at its first step, and with other constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.network.optimizers.adam import Adam
from fastmlp.network.optimizers.momentum import Momentum
from fastmlp.ops.network import NetworkOps
from fastmlp.testing.op_case import Inputs, OpCase, Rng, Shape, like, method, size
from fastmlp.testing.reference import network_ops as reference

LEARNING_RATE = 0.05
WEIGHT_DECAY = 2.0  # a tenth of a weight per step: an update without it is found
STEP = 6  # of a run, until its moments are not those of its start

PARAMETERS: tuple[Shape, ...] = ((0,), (1,), (370,), (5_003,), (32_768,))
FEWER: tuple[Shape, ...] = ((0,), (1,), (1_037,))

Rule = Callable[..., NDArray[np.float64]]  # of the reference, (slots, gradient, *, step, rate, kept, **constants)


@dataclass(frozen=True)
class UpdateDraw:
    """Draws one update, whose moments are what the reference's steps before it leave of gradients of that size.

    At the first step values are zero as well, so that the step alone is compared.
    """

    optimizer: Optimizer
    rule: Rule
    step: int = STEP
    size: float = 1.0
    decays: bool = True

    def __call__(self, rng: Rng, shape: Shape, dtype: str) -> Inputs:
        (count,) = shape
        slots = np.zeros((1 + len(self.optimizer.moments), count))
        for step in range(1, self.step):
            slots = self.rule(slots, self.size * rng.standard_normal(count), step=step, rate=LEARNING_RATE, kept=1.0)
        if self.step > 1:
            slots[0] = rng.standard_normal(count)
        (coefficients,) = self.optimizer.coefficients(np.array([LEARNING_RATE]), self.step)
        return {
            "optimizer": self.optimizer,
            "slots": slots.astype(dtype),
            "gradient": (self.size * rng.standard_normal(count)).astype(dtype),
            "coefficients": tuple(coefficients.tolist()),
            "decays": self.decays,
        }


def _case(
    kind: type[Optimizer], rule: Rule, constants: Mapping[str, Any] = MappingProxyType({}), *, hazard: str = ""
) -> OpCase:
    """An optimizer's case, for which the rule has those constants: its own if the hazard is none, else others."""
    draw = UpdateDraw(kind(WEIGHT_DECAY, **constants if hazard else {}), partial(rule, **constants))
    slots = 1 + len(kind.moments)
    return OpCase(
        "update",
        method(NetworkOps, "update"),
        draw,
        like("slots"),
        _truth(draw),
        FEWER if hazard else PARAMETERS,
        label=f"{kind.name} update",
        hazard=hazard,
        draws={
            "undecayed": replace(draw, decays=False),
            "all kept": replace(draw, optimizer=replace(draw.optimizer, weight_decay=0.0)),
            "tiny": replace(draw, size=1e-8),  # Adam's epsilon decides
        },
        planted=("nan", "inf"),
        groups={"out": 0},
        aliases={"out": "slots"},
        family="network",
        flops=lambda shape: 7 * slots * size(shape),
        bytes=lambda shape, itemsize: (2 * slots + 1) * itemsize * size(shape),
    )


def _first_step(case: OpCase) -> OpCase:
    """Moments are zero, so that a share of the gradient too large or too small is seen by itself."""
    draw: Any = replace(case.draw, step=1)  # type: ignore[type-var]
    sizes = {"tiny": 1e-8, "small": 1e-4, "large": 1e4}
    draws = {name: replace(draw, size=size) for name, size in sizes.items()}
    return case.with_hazard("first step", draw, FEWER, truth=_truth(draw), draws=draws)


def _truth(draw: UpdateDraw) -> Callable[..., Mapping[str, NDArray[Any]]]:
    def truth(
        optimizer: Optimizer, slots: NDArray[Any], gradient: NDArray[Any], coefficients: object, decays: bool
    ) -> Mapping[str, NDArray[Any]]:
        kept = 1 - LEARNING_RATE * optimizer.weight_decay if decays else 1.0
        return {"out": draw.rule(slots, gradient, step=draw.step, rate=LEARNING_RATE, kept=kept)}

    return truth


_SGD = _case(SGD, reference.sgd)
_MOMENTUM = _case(Momentum, reference.momentum, {"momentum": 0.9, "nesterov": True})
_ADAM = _case(Adam, reference.adam, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8})

OTHER = {"beta_1": 0.8123456789, "beta_2": 0.9512345678, "epsilon": 1.23456789e-3}  # lost if they are cut short
UPDATE_CASES = (
    *(_SGD, _first_step(_SGD)),
    *(_MOMENTUM, _first_step(_MOMENTUM)),
    _case(Momentum, reference.momentum, {"momentum": 0.7123456789, "nesterov": True}, hazard="other constants"),
    _case(Momentum, reference.momentum, {"momentum": 0.6, "nesterov": False}, hazard="without Nesterov"),
    *(_ADAM, _first_step(_ADAM)),
    _case(Adam, reference.adam, OTHER, hazard="other constants"),
)
