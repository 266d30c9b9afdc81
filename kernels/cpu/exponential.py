"""exp, and what is made of it, in code that the compiler can vectorise; library functions take a number at a time.

x = k ln 2 + r with |r| <= ln 2 / 2, exp x = 2**k + 2**k (exp r - 1), exp r - 1 by a polynomial: in float32 of degree 7
(coefficients of Cephes' expf), in float64 Taylor's of degree 13, whose remainder is below 5e-18. Within 2 units in the
last place for x <= 0.
"""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from .jit import intrinsic

INTEGERS: dict[int, Any] = {32: types.int32, 64: types.int64}  # of the bits of a number
ONE = np.float32(1)
SMALLEST = np.float32(-87.0)  # its exp is nearly the smallest normal number
ROUND = np.float32(1.5 * 2**23)  # adding this to a small number leaves its nearest integer in the last bits
LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
C6, C5, C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
C3, C2, C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
SMALLEST_64 = -708.0
ROUND_64 = 1.5 * 2.0**52
LOG2_E_64 = 1.4426950408889634
LN2_HIGH_64, LN2_LOW_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # high: 33 bits, times k exact
D = tuple(1 / factorial(k) for k in range(14))


@intrinsic
def _bits(_, number):  # type: ignore[no-untyped-def]
    integer = INTEGERS[number.bitwidth]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(integer.bitwidth))

    return integer(number), generate


@intrinsic
def _number(_, bits):  # type: ignore[no-untyped-def]
    number, kind = (types.float32, ir.FloatType()) if bits == types.int32 else (types.float64, ir.DoubleType())

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], kind)

    return number(bits), generate


def exponential(x):  # type: ignore[no-untyped-def]  # Numba compares the arguments' names and types
    """exp x for x <= 0, NaN for NaN."""
    return np.exp(x)


def logistic(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + np.exp(-x))


def tanh(x):  # type: ignore[no-untyped-def]
    """(1 - exp(-2 |x|)) / (1 + exp(-2 |x|)), with the sign of x, and all digits near zero."""
    return np.tanh(x)


@overload(exponential, inline="always")
def _exponential(x):  # type: ignore[no-untyped-def]
    def compiled(x):  # type: ignore[no-untyped-def]
        rest, power, one = _factors(x)  # type: ignore[no-untyped-call]
        return (rest + one) * power

    return compiled


@overload(logistic, inline="always")
def _logistic(x):  # type: ignore[no-untyped-def]
    def compiled(x):  # type: ignore[no-untyped-def]
        rest, power, one = _factors(-abs(x))  # type: ignore[no-untyped-call]
        small = (rest + one) * power
        return (small if x < 0 else one) / (one + small)

    return compiled


@overload(tanh, inline="always")
def _tanh(x):  # type: ignore[no-untyped-def]
    def compiled(x):  # type: ignore[no-untyped-def]
        rest, power, one = _factors(-abs(x) - abs(x))  # type: ignore[no-untyped-call]
        below_one = rest * power + (power - one)  # exp(-2 |x|) - 1
        size = -below_one / (below_one + one + one)
        return -size if x < 0 else size

    return compiled


def _factors(x):  # type: ignore[no-untyped-def]
    """exp r - 1, 2**k and 1 for x <= 0, all of its type; compiled only."""


@overload(_factors, inline="always")
def _compiled_factors(x):  # type: ignore[no-untyped-def]
    return _factors_32 if x == types.float32 else _factors_64


def _factors_32(x):  # type: ignore[no-untyped-def]
    bounded = SMALLEST if x < SMALLEST else x  # noqa: FURB136  (NaN is not smaller, and stays)
    shifted = bounded * LOG2_E + ROUND
    k = shifted - ROUND
    r = bounded - k * LN2_HIGH - k * LN2_LOW
    rest = (((((C6 * r + C5) * r + C4) * r + C3) * r + C2) * r + C1) * r * r + r
    power = _number(np.int32((_bits(shifted) - _bits(ROUND) + np.int32(127)) << np.int32(23)))
    return rest, power, ONE


def _factors_64(x):  # type: ignore[no-untyped-def]
    bounded = SMALLEST_64 if x < SMALLEST_64 else x  # noqa: FURB136
    shifted = bounded * LOG2_E_64 + ROUND_64
    k = shifted - ROUND_64
    r = bounded - k * LN2_HIGH_64 - k * LN2_LOW_64
    rest = D[13]
    for degree in (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2):
        rest = rest * r + D[degree]
    power = _number((_bits(shifted) - _bits(ROUND_64) + np.int64(1023)) << np.int64(52))
    return rest * r * r + r, power, 1.0
