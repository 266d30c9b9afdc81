"""Threads that work as a team: items of work that any of them may take, by atomic counters.

A team has parts, each with items of work, numbered; all parts do an item before any begins the next. A thread does the
items of its own part, and those that their threads leave undone: so a thread that lost its core between two items, or
never started, holds up nobody. Which thread did an item makes no difference to its result.

Ordinary threads run jitted code without the GIL, and atomic counters in memory take far less than a microsecond, where
a system lock takes tens. A thread that waits long naps, which leaves its core to others, and it leaves when the team is
dismissed.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from .jit import intrinsic, jit

Counters = NDArray[np.int64]

LINE = 8  # int64 per cache line: each counter has one of its own
DISMISSED, FIRST_PART = 0, LINE  # positions in the counters; then of each part: its items claimed, and its items done

PATIENCE = 2000  # looks at the counters, 10 to 20 us: then it pays to do the work of a thread that is late
NAP, LONG_NAP = 50, 200  # us: between looks, for a thread that has waited twice as long; for one that is not to work


def new_team(parts: int) -> Counters:
    return np.zeros(FIRST_PART + 2 * parts * LINE, np.int64)


@jit
def claim(counters: Counters, part: int, item: int) -> bool:
    """Whether that item of the part was still to be done, and is now the caller's to do."""
    position = FIRST_PART + 2 * part * LINE
    return _read(counters, position) == item and _swap(counters, position, item, item + 1)


@jit
def finish(counters: Counters, part: int) -> None:
    """The part's item that the caller claimed is done."""
    _add(counters, FIRST_PART + (2 * part + 1) * LINE, 1)


@jit
def all_done(counters: Counters, parts: int, item: int) -> bool:
    """Whether all parts have done that item."""
    done = True
    for part in range(parts):
        done &= _read(counters, FIRST_PART + (2 * part + 1) * LINE) > item
    return done


@jit
def is_dismissed(counters: Counters) -> bool:
    return _read(counters, DISMISSED) != 0


def dismiss(counters: Counters) -> None:
    """Make every thread of the team leave before its next item."""
    counters[DISMISSED] = 1


@jit
def read(values: Counters, position: int) -> int:
    """A number that another thread may be writing."""
    return _read(values, position)


@jit
def nap(microseconds: int) -> None:
    _usleep(np.int32(microseconds))


@jit
def now() -> int:
    """Nanoseconds of a clock that never goes back."""
    return _clock()


# What Python has no words for. The C library's functions are called by name, as cached code has to be.


@intrinsic
def _add(_, counters, position, value):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _place(context, builder, signature, arguments), arguments[2], "acq_rel")

    return types.int64(counters, types.int64, types.int64), generate


@intrinsic
def _read(_, counters, position):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, arguments), "acquire", 8)

    return types.int64(counters, types.int64), generate


@intrinsic
def _swap(_, counters, position, expected, value):  # type: ignore[no-untyped-def]
    """Write the value if the expected one is there; whether it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments)
        return builder.extract_value(builder.cmpxchg(place, *arguments[2:], "acq_rel", "acquire"), 1)

    return types.boolean(counters, types.int64, types.int64, types.int64), generate


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The address of arguments[0][arguments[1]]."""
    return builder.gep(make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]])


@intrinsic
def _usleep(_, microseconds):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "usleep"), arguments)

    return types.int32(types.int32), generate


@intrinsic
def _clock(_):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int32, int64 = ir.IntType(32), ir.IntType(64)
        timespec = cgutils.alloca_once(builder, ir.LiteralStructType([int64, int64]))
        kind = ir.FunctionType(int32, [int32, timespec.type])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(function, [int32(time.CLOCK_MONOTONIC), timespec])
        seconds, nanoseconds = (builder.load(cgutils.gep_inbounds(builder, timespec, 0, k)) for k in (0, 1))
        return builder.add(builder.mul(seconds, int64(1_000_000_000)), nanoseconds)

    return types.int64(), generate
