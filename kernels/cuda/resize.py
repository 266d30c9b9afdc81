"""Prepares images for a convolutional network in one launch: enlarged, normalised, channels last."""

from __future__ import annotations

from functools import cache

import numpy as np

from fastmlp.common.errors import UsageError

from .driver import Array, Driver, Program
from .sources import define

BFLOAT16 = {"float32": 0, "uint16": 1}  # by the dtype of the result
PACKET_BYTES = 16  # written by a thread at once
MOST_THREADS = 256
MOST_ROWS = 2**31 - 1


class Resize:
    """Bilinear, corners not aligned, no antialiasing, like PyTorch's interpolate; then pixel * scale + shift."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._blocks = cache(driver.blocks_at_once)

    def __call__(self, images: Array, scale: Array, shift: Array, out: Array) -> None:
        """images uint8 (n, 3, h, w); scale, shift float32 (3,); out (n, size, size, 3); images and out contiguous.

        out is float32, or uint16 for the bits of bfloat16, rounded to nearest. UsageError for arrays with gaps.
        """
        if not all(array.flags.c_contiguous for array in (images, scale, shift, out)):
            raise UsageError("CUDA kernels take contiguous arrays: copy the array first.")
        n, _, height, width = images.shape
        size = out.shape[1]
        if n * size > MOST_ROWS:
            raise UsageError(f"{n:,} images of {size} rows are too many for one launch: pass fewer.")
        if n:
            program = Program("resize.cu", "resize", define(BFLOAT16=BFLOAT16[out.dtype.name]), 4 * 3 * width)
            threads = _threads(3 * size * out.dtype.itemsize)
            grid = min(n * size, self._blocks(program, threads))
            numbers = (np.int32(number) for number in (n * size, height, width, size))
            self._driver.load(program)((grid,), (threads,), (images, scale, shift, out, *numbers))


def _threads(row_bytes: int) -> int:
    """One thread per sixteen bytes of a row, in whole warps."""
    return min(-(-row_bytes // PACKET_BYTES // 32) * 32, MOST_THREADS)
