"""Comparisons that NaN cannot slip through, and whose failures say where and by how much.

All raise AssertionError. Arrays are on the host; `what` opens the message.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.testing.tolerances import LEVELS, levels_allowed, near_tie

Index = tuple[int, ...]
HostArray = NDArray[Any]


def assert_same_kind(what: str, got: HostArray, shape: Index, dtype: str) -> None:
    """The shape and the dtype are exactly these."""
    if got.shape != shape or got.dtype.name != dtype:
        raise AssertionError(f"{what}: got {got.dtype.name} {got.shape}, expected {dtype} {shape}")


def error(got: HostArray, reference: HostArray) -> float:
    """e = max|got - reference| / max|reference|; infinite unless NaN and infinities are in the same places.

    The maxima are over finite elements; infinities must agree in sign. An empty array has no error.
    """
    return _error_and_index(got, reference)[0]


def assert_close(what: str, got: HostArray, reference: HostArray, tolerance: float) -> None:
    """The error is at most the tolerance, and a number."""
    _assert_same_shape(what, got, reference)
    found, index = _error_and_index(got, reference)
    if not found <= tolerance:
        raise AssertionError(
            f"{what}: error {found:.3g} is over the tolerance {tolerance:.3g}; worst at {index}: "
            f"got {got[index]}, expected {reference[index]}"
        )


def assert_close_on_the_whole(what: str, got: HostArray, reference: HostArray, tolerance: float) -> None:
    """|got - reference| <= tolerance * |reference| in the Euclidean norm, a number; few elements may be off more."""
    _assert_same_shape(what, got, reference)
    difference = np.linalg.norm(got.astype(np.float64) - reference)
    norm = np.linalg.norm(reference.astype(np.float64))
    if not difference <= tolerance * norm:
        raise AssertionError(f"{what}: the difference's norm {difference:.3g} is over {tolerance:.3g} times {norm:.3g}")


def assert_equal(what: str, got: HostArray, reference: HostArray) -> None:
    """Equal in every element, NaN equal to NaN."""
    _assert_same_shape(what, got, reference)
    same = (got == reference) | ((got != got) & (reference != reference))
    if not same.all():
        index = _first(~same)
        raise AssertionError(
            f"{what}: {np.count_nonzero(~same)} of {same.size} elements differ; first at {index}: "
            f"got {got[index]}, expected {reference[index]}"
        )


def assert_levels(what: str, got: HostArray, reference: HostArray) -> None:
    """uint8: equal, or off by one level in at most `levels_allowed` pixels, where rounding ties."""
    _assert_same_shape(what, got, reference)
    difference = np.abs(got.astype(np.int64) - reference.astype(np.int64))
    if difference.size and difference.max() > LEVELS:
        index = _first(difference == difference.max())
        raise AssertionError(
            f"{what}: off by {difference[index]} levels at {index}: got {got[index]}, expected {reference[index]}; "
            f"at most {LEVELS} is allowed"
        )
    off, allowed = np.count_nonzero(difference), levels_allowed(difference.size)
    if off > allowed:
        index = _first(difference > 0)
        raise AssertionError(
            f"{what}: {off} of {difference.size} pixels are off by one level, where at most {allowed} may; "
            f"first at {index}: got {got[index]}, expected {reference[index]}"
        )


def assert_rounded(what: str, got: HostArray, levels: HostArray, untouched: float) -> None:
    """uint8: the exact levels rounded, or either neighbour where they lie within `near_tie` of the middle between two.

    Whole levels have to be met; where there is none (NaN), the byte has to be `untouched`.
    """
    _assert_same_shape(what, got, levels)
    levels = np.where(np.isnan(levels), untouched, levels)
    off = np.abs(got - levels)
    wrong = off > np.where(levels % 1 == 0, 0, 0.5 + near_tie(levels.shape))
    if wrong.any():
        index = _first(wrong & (off == off[wrong].max()))
        raise AssertionError(
            f"{what}: {np.count_nonzero(wrong)} of {wrong.size} levels are wrong; worst at {index}: "
            f"got {got[index]}, expected {levels[index]:.7g} rounded to even"
        )


def _assert_same_shape(what: str, got: HostArray, reference: HostArray) -> None:
    if got.shape != reference.shape:
        raise AssertionError(f"{what}: got the shape {got.shape}, expected {reference.shape}")


def _error_and_index(got: HostArray, reference: HostArray) -> tuple[float, Index]:
    if reference.size == 0:
        return 0.0, ()
    got, reference = got.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(got) & np.isfinite(reference)
    same = (got == reference) | (np.isnan(got) & np.isnan(reference))
    difference = np.where(same, 0.0, np.inf)
    difference[finite] = np.abs(got[finite] - reference[finite])
    scale = np.max(np.abs(reference[np.isfinite(reference)]), initial=0.0)
    index = _first(difference == difference.max())
    if difference[index] == 0:
        return 0.0, index
    return (float(difference[index] / scale) if scale > 0 else np.inf), index


def _first(found: NDArray[np.bool_]) -> Index:
    return tuple(int(i) for i in np.unravel_index(np.argmax(found), found.shape))
