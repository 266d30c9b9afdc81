"""Rows gathered from places beyond 2**32, in memory that no one touches and the system need not have."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from typing import IO

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.testing.check import Check, SkipError
from fastmlp.testing.compare import HostArray, assert_equal
from fastmlp.testing.op_case import OpCase

FAR = 2**32  # a place that 32 bits cut off is that of one of the first rows, which are zero
WIDTHS = {"float32": (1, 4), "int64": (1,)}  # of rows: a number by itself, and 16 bytes that are copied at once
ROWS = (FAR + 7, 3, FAR + 1, FAR // 4 + 2)


def checks(case: OpCase, backend: Backend) -> Iterator[Check]:
    """Of the op's kernel, in each dtype."""
    if case.kernel(backend):
        for dtype in WIDTHS:
            yield Check(f"{case.op}, beyond 32 bits, kernel, {dtype}", partial(assert_far_rows, case, backend, dtype))


def assert_far_rows(case: OpCase, backend: Backend, dtype: str) -> None:
    """Each row is its own, of a source with more than 2**32 rows."""
    kernel, index = case.kernel(backend), backend.asarray(np.array(ROWS))
    assert kernel is not None
    if not isinstance(index, np.ndarray):
        raise SkipError(f"{backend} would copy tens of gigabytes to its own arrays")
    for width in WIDTHS[dtype]:
        expected = np.arange(1, 1 + len(ROWS) * width).reshape(len(ROWS), width).astype(dtype)
        out = backend.empty(expected.shape, dtype)
        with tempfile.TemporaryFile() as file:
            source = _sparse(file, (FAR + 10, width), dtype)
            source[list(ROWS)] = expected
            kernel(source, index, out)
        what = f"{backend} kernel {case.op} (rows {ROWS}, {dtype}, shape {source.shape})"
        assert_equal(what, backend.to_numpy(out), expected)


def _sparse(file: IO[bytes], shape: tuple[int, ...], dtype: str) -> HostArray:
    """Zeros in a file that takes room on the disk only where they are written over."""
    try:
        return np.memmap(file, dtype, "w+", shape=shape).view(np.ndarray)
    except (OSError, ValueError) as error:
        raise SkipError(f"no sparse file of so many bytes can be made here: {error}") from None
