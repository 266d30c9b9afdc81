"""Standardised features: what their statistics are, and how they are taken off before features are rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends import probe
from fastmlp.kernels import RowSource

BLOCK, BLOCK_NUMBERS = 1024, 2**20  # rows and numbers at a time, at most, so that their float64 copy stays small
CACHED = 2**17  # numbers in float64 that stay in a core's cache
ROUNDING = 10  # a feature is constant if its deviation is within this many rounding errors of its mean
COMPILED = {np.dtype(np.float32), np.dtype(np.float64)}  # dtypes for which there is a compiled pass

Floats = NDArray[Any]


@dataclass(frozen=True)
class Scaling:
    """Standardisation of features, (x - mean) * scale: both float64 (d,).

    unit: each row is first divided by its Euclidean length, unless it has none.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    unit: bool = False

    @classmethod
    def to_unit_length(cls, features: int) -> Scaling:
        """Rows are divided by their Euclidean length, and nothing else is done to their features."""
        return cls(np.zeros(features), np.ones(features), unit=True)

    def applied(self, rows: Floats, dtype: str) -> Floats:
        """The standardised rows (n, d), on the host, in that dtype."""
        out = np.empty(rows.shape, dtype)
        self.apply(rows, out)
        return out

    def apply(self, rows: Floats, out: Floats) -> None:
        """Write the standardised rows (n, d) to out, rounded to its dtype last: an offset costs no digits."""
        count, width = rows.shape
        size = max(1, CACHED // width)
        room = np.empty((min(size, count), width), np.result_type(rows.dtype, np.float64))
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is found by those who look for it
            for block in blocks(count, size):
                wide = room[: block.stop - block.start]
                wide[...] = rows[block]
                if self.unit:
                    wide /= _lengths(wide)
                np.subtract(wide, self.mean, out=wide)
                out[block] = np.multiply(wide, self.scale, out=wide)

    def read(self, source: RowSource, rows: NDArray[np.int64], room: Floats, wide: Floats | None, out: Floats) -> int:
        """Write what `apply` would of these rows (m,) of files to out (m, d), in one compiled call; how many it read.

        It ends before rows that cannot be read, and reads none where there is no such call for their dtypes. room: for
        some rows as they are stored; wide: for as many in float32, where they are halves.
        """
        given, kernel = room if wide is None else wide, _compiled("stored_rows", "read_standardized")
        if kernel is None or self.unit or not {given.dtype, out.dtype} <= COMPILED or not out.flags.c_contiguous:
            return 0
        done: int = kernel(source, rows, room.reshape(-1).view(np.uint8), given, self.mean, self.scale, out)
        return done

    def take(self, rows: Floats, places: NDArray[np.int64], out: Floats) -> None:
        """What `apply` writes of the rows in these places, in one compiled pass where there is one for their dtypes."""
        rows = rows.astype(np.float32) if rows.dtype == np.float16 else rows
        kernel = _compiled("dense", "take_standardized")
        if kernel is None or self.unit or not {rows.dtype, out.dtype} <= COMPILED:
            self.apply(rows[places], out)
        else:
            source = np.ascontiguousarray(rows).view()
            source.flags.writeable = False  # else Numba would compile for each kind
            kernel(source, places, self.mean, self.scale, out)


@dataclass(frozen=True)
class Moments:
    """Of features: how many rows were seen and their weight, mean (d,) and weighted sum of squared deviations (d,).

    eps: the relative rounding error of the rows.
    """

    rows: int
    weight: float
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    eps: float

    @classmethod
    def of(cls, rows: Floats, weights: NDArray[np.float64] | None = None) -> Moments:
        """Those of rows (n, d), one or more, with weights (n,), all positive; None: all 1."""
        weights = np.ones(len(rows)) if weights is None else weights
        size = max(1, min(BLOCK, BLOCK_NUMBERS // rows.shape[1]))
        return reduce(cls.merged, (_of_block(rows[block], weights[block]) for block in blocks(len(rows), size)))

    def merged(self, other: Moments) -> Moments:
        """Those of the rows of both (Chan, Golub and LeVeque 1979)."""
        weight = self.weight + other.weight
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.weight / weight)
        squares = self.squares + other.squares + difference**2 * (self.weight * other.weight / weight)
        return Moments(self.rows + other.rows, weight, mean, squares, max(self.eps, other.eps))

    def scaling(self, each: bool) -> Scaling:
        """Subtract each feature's mean, and divide by its own deviation or, if not each, all by the root mean square.

        A constant feature only loses its mean.
        """
        variance = self.squares / self.weight
        deviation = np.sqrt(variance if each else np.full_like(variance, variance.mean()))
        constant = deviation <= ROUNDING * self.eps * np.abs(self.mean) if each else deviation == 0
        return Scaling(self.mean, 1 / np.where(constant, np.maximum(deviation, 1), deviation))


@cache
def _compiled(module: str, name: str) -> Callable[..., Any] | None:
    """That kernel; None where Numba compiles nothing."""
    if not probe("numba").usable:
        return None
    from fastmlp.kernels.cpu.jit import is_compiled

    kernel: Callable[..., Any] = getattr(import_module(f"fastmlp.kernels.cpu.{module}"), name)
    return kernel if is_compiled(kernel) else None


def _lengths(rows: Floats) -> Floats:
    """The Euclidean length of each row (n, 1), 1 where it is 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths == 0, 1, lengths)


def blocks(rows: int, size: int = BLOCK) -> Iterator[slice]:
    """That many rows, a few at a time."""
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _of_block(rows: Floats, weights: NDArray[np.float64]) -> Moments:
    wide = np.result_type(rows.dtype, np.float64)
    origin = rows[0].astype(wide)
    with np.errstate(over="ignore", invalid="ignore"):
        offsets = np.subtract(rows, origin, dtype=wide)  # exact, where all values are alike
        weight = float(weights.sum())
        shift = weights @ offsets / weight
        squares = weights @ (offsets - shift) ** 2
    mean = (origin + shift).astype(np.float64)
    return Moments(len(rows), weight, mean, squares.astype(np.float64), _eps(rows.dtype))


def _eps(dtype: np.dtype[Any]) -> float:
    """The rounding error of a dtype; whole numbers have none of their own, and float16's is too coarse to go by."""
    return float(np.finfo(dtype if dtype.kind == "f" and dtype.itemsize > 2 else np.float64).eps)
