"""Rows of features, standardised as they are read from files: all of them in one call, which holds no lock.

A stretch of rows is read to a room that stays in the core's cache, and taken from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

from fastmlp.kernels import Halves, RowSource

from .dense import take_standardized
from .jit import intrinsic, jit

Floats = NDArray[Any]

NONE, FLOAT16 = int(Halves.NONE), int(Halves.FLOAT16)  # as compiled code takes them


@jit
def read_standardized(
    source: RowSource,
    rows: NDArray[np.int64],
    read: NDArray[np.uint8],
    room: Floats,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    out: Floats,
) -> int:
    """out (m, n) = (those rows - mean) * scale, as `take_standardized` has it; how many, until one could not be read.

    rows: of the first file up to its stop, then of the second, each numbered from 0.
    read: for the bytes of as many rows as there is room for; room: the same memory or, of halves, another, float32.
    """
    done = 0
    for number in range(len(source.files)):
        file, offset, end = source.files[number], source.offsets[number], source.stops[number]
        while done < end:
            stop = done + 1
            while (
                stop < end
                and 0 <= rows[stop] - rows[stop - 1] <= source.gap
                and rows[stop] - rows[done] < room.shape[0]
            ):
                stop += 1
            size = (rows[stop - 1] - rows[done] + 1) * source.row_bytes
            if _pread(file, read, size, offset + rows[done] * source.row_bytes) != size:
                return done
            if source.halves != NONE:
                _widen(source.halves == FLOAT16, read[:size].view(np.uint16), room.reshape(-1).view(np.uint32))
            take_standardized(room, rows[done:stop] - rows[done], mean, scale, out[done:stop])
            done = stop
    return done


@jit
def _widen(float16: bool, halves: NDArray[np.uint16], out: NDArray[np.uint32]) -> None:
    """The bits of float32 that are those numbers, of float16 or bfloat16."""
    if not float16:
        for k in range(len(halves)):
            out[k] = np.uint32(halves[k]) << np.uint32(16)
        return
    filled, more = out.view(np.float32), np.float32(2.0**112)  # by which float32's exponents are larger
    for k in range(len(halves)):
        bits = np.uint32(halves[k])
        out[k] = ((bits & np.uint32(0x7FFF)) << np.uint32(13)) | ((bits & np.uint32(0x8000)) << np.uint32(16))
        filled[k] *= more  # of subnormal numbers, too
        if bits & np.uint32(0x7C00) == np.uint32(0x7C00):
            out[k] |= np.uint32(0x7F800000)  # infinity and NaN


@intrinsic
def _pread(_, file, read, size, offset):  # type: ignore[no-untyped-def]
    """The C library's, by name, as cached code has to call it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int32, int64 = ir.IntType(32), ir.IntType(64)
        kind = ir.FunctionType(int64, [int32, ir.IntType(8).as_pointer(), int64, int64])
        function = cgutils.get_or_insert_function(builder.module, kind, "pread")
        descriptor, array, count, place = arguments
        return builder.call(
            function, [descriptor, make_array(signature.args[1])(context, builder, array).data, count, place]
        )

    return types.int64(types.int32, read, types.int64, types.int64), generate
