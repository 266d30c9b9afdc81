"""Patch features in one launch: a block per image, and as many blocks as the device runs at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastmlp.common.errors import UsageError
from fastmlp.ops.patches import PatchOps

from .dense import REAL
from .driver import WARP, Array, Driver, Program, round_up
from .sources import define

WARPS = (8, 4, 2, 1)  # per block: the first that shared memory allows
GROUP, QUADRANTS, MOST = 16, 4, 128  # as in patches.cu


class CudaPatchOps(PatchOps):
    """The features of images whose patches have up to 128 pixels, with up to 128 centroids, by patches.cu."""

    def __init__(self, xp: Any, driver: Driver) -> None:
        super().__init__(xp)
        self._driver = driver
        self._blocks = cache(driver.blocks_at_once)

    def patch_features(
        self, images: Array, mean: Array, triangle: Array, centroids: Array, lengths: Array, out: Array
    ) -> None:
        """Raises UsageError for arrays with gaps."""
        n, *size = images.shape
        pixels, count = centroids.shape
        warps = self._warps(size, pixels, mean.dtype.itemsize)
        if max(pixels, count) > MOST or not warps:
            super().patch_features(images, mean, triangle, centroids, lengths, out)
            return
        arrays = (images, mean, triangle, centroids, lengths, out)
        if not all(array.flags.c_contiguous for array in arrays):
            raise UsageError("CUDA kernels take contiguous arrays: copy the array first.")
        if n:
            shared = _shared_memory(size, pixels, mean.dtype.itemsize, warps)
            program = Program("patches.cu", "patch_features", define(REAL=REAL[mean.dtype.name]), shared)
            grid = min(n, self._blocks(program, warps * WARP))
            numbers = (np.int32(number) for number in (n, *size, count))
            self._driver.load(program)((grid,), (warps * WARP,), (*arrays, *numbers))

    def _warps(self, size: list[int], pixels: int, itemsize: int) -> int:
        """How many warps a block has; 0: the device's shared memory cannot hold an image and one warp's patches."""
        fitting = self._driver.device.shared_memory
        return next((w for w in WARPS if _shared_memory(size, pixels, itemsize, w) <= fitting), 0)


def _shared_memory(size: list[int], pixels: int, itemsize: int, warps: int) -> int:
    """Bytes: the warps' sums and patches, and an image of that size, each in whole packets."""
    parts = (warps * QUADRANTS * MOST * itemsize, warps * pixels * GROUP * itemsize, int(np.prod(size)))
    return sum(round_up(part, 16) for part in parts)
