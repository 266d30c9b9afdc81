"""exp in code that the compiler can vectorise; the library function takes one number at a time.

float32: x = k ln 2 + r with |r| <= ln 2 / 2, exp x = 2**k exp r, exp r by a polynomial of degree 6 (coefficients of
Cephes' expf): within 2 units in the last place for x <= 0. float64: the library function.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from .jit import intrinsic

SMALLEST = np.float32(-87.0)  # its exp is nearly the smallest normal number
ROUND = np.float32(1.5 * 2**23)  # adding this to a small number leaves its nearest integer in the last bits
LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
C6, C5, C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
C3, C2, C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
ONE = np.float32(1)


@intrinsic
def _bits(_, number):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def _number(_, bits):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def exponential(x):  # type: ignore[no-untyped-def]  # Numba compares the arguments' names and types
    """exp x for x <= 0, NaN for NaN."""
    return np.exp(x)


@overload(exponential, inline="always")
def _exponential(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return _float32
    return lambda x: np.exp(x)  # noqa: PLW0108  (Numba asks for a function with the same argument)


def _float32(x):  # type: ignore[no-untyped-def]
    bounded = SMALLEST if x < SMALLEST else x  # noqa: FURB136  (NaN is not smaller, and stays)
    shifted = bounded * LOG2_E + ROUND
    k = shifted - ROUND
    r = bounded - k * LN2_HIGH - k * LN2_LOW
    p = (((((C6 * r + C5) * r + C4) * r + C3) * r + C2) * r + C1) * r * r + r + ONE
    power = _number(np.int32((_bits(shifted) - _bits(ROUND) + np.int32(127)) << np.int32(23)))
    return p * power
