"""Threads that work as a team and meet in every step: atomic counters, and a barrier that cannot hang.

Ordinary threads run jitted code without the GIL. They meet by incrementing one counter in memory and waiting until all
have: that takes less than a microsecond, where a system lock takes tens. A thread that waits long yields its core to
others, and leaves when the team is dismissed, for instance because one of its threads could not start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from .jit import intrinsic, jit

ARRIVED, DISMISSED = 0, 8  # positions in the counters, a cache line apart
COUNTERS = 16
PATIENCE = 2000  # polls of the counter, about 10 us


def new_team() -> NDArray[np.int64]:
    return np.zeros(COUNTERS, np.int64)


@intrinsic
def _add(_, counters, position, value):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "acq_rel")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def _read(_, counters, position):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", 8)

    return types.int64(counters, types.int64), generate


@intrinsic
def _give_core_away(_):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])

    return types.int32(), generate


@jit
def meet(counters: NDArray[np.int64], arrivals: int) -> bool:
    """Arrive, and wait for that many arrivals in total; False if the team was dismissed meanwhile."""
    _add(counters, ARRIVED, 1)
    looks = 0
    while _read(counters, ARRIVED) < arrivals:
        looks += 1
        if looks % PATIENCE == 0:
            _give_core_away()
            if is_dismissed(counters):
                return False
    return True


@jit
def is_dismissed(counters: NDArray[np.int64]) -> bool:
    return _read(counters, DISMISSED) != 0


def dismiss(counters: NDArray[np.int64]) -> None:
    """Make every thread of the team leave at its next step."""
    counters[DISMISSED] = 1
