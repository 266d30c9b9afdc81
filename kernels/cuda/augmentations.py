"""The augmentations as launches: uint8 images (n, 3, h, w) and parameters, contiguous, on the driver's device.

A block an image, and as many blocks as the device runs at once: see images.cuh.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastmlp.common.errors import UsageError

from .driver import Array, Driver, Program, Size
from .sources import define

BLOCK: Size = (32, 4)  # a warp a row of pixels
SUMS = 8 * BLOCK[1]  # bytes: a number a warp
STAGED_BYTES = 24 * 1024  # so much shared memory at most: several blocks have to fit, for one waits while another works
MOST_BYTES = 2**31 - 1  # of an image: places in it are 32-bit numbers


class Augmentations:
    """The ops, by the names and with the arguments of `fastmlp.augment.ops`, less the namespace."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._blocks = cache(lambda program: driver.blocks_at_once(program, BLOCK[0] * BLOCK[1]))

    @property
    def ops(self) -> tuple[Callable[..., None], ...]:
        return (
            self.crop, self.rotate, self.rotate_by_shears, self.cutout, self.contrast, self.hflip, self.augment,
        )  # fmt: skip

    def crop(self, images: Array, dy: Array, dx: Array, padding: int, out: Array) -> None:
        self._launch("crop", images, dy, dx, np.int64(padding), out)

    def rotate(self, images: Array, cosine: Array, sine: Array, out: Array) -> None:
        self._launch("rotate", images, cosine, sine, out)

    def rotate_by_shears(self, images: Array, quarters: Array, tangent: Array, sine: Array, out: Array) -> None:
        self._launch("rotate_by_shears", images, quarters, tangent, sine, out)

    def cutout(self, images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
        self._launch("cutout", images, top, left, size, out)

    def contrast(self, images: Array, factor: Array, out: Array) -> None:
        self._launch("contrast", images, factor, out)

    def hflip(self, images: Array, flip: Array, out: Array) -> None:
        self._launch("hflip", images, flip, out)

    def augment(
        self,
        images: Array,
        kind: Array,
        dy: Array,
        dx: Array,
        padding: int,
        cosine: Array,
        sine: Array,
        top: Array,
        left: Array,
        size: Array,
        factor: Array,
        flip: Array,
        out: Array,
    ) -> None:
        parameters = (kind, dy, dx, np.int64(padding), cosine, sine, top, left, size, factor, flip)
        self._launch("augment", images, *parameters, out)

    def _launch(self, kernel: str, images: Array, *parameters_and_out: Any) -> None:
        arguments = (images, *parameters_and_out)
        _check(arguments)
        n, _, height, width = images.shape
        if images.size:
            program = _program(kernel, images[0].size)
            grid = min(n, self._blocks(program))
            self._driver.load(program)((grid,), BLOCK, (*arguments, np.int64(n), np.int32(height), np.int32(width)))


def _program(kernel: str, image_bytes: int) -> Program:
    """The kernel, images and results staged in shared memory if they are small enough."""
    both = 2 * (-(-image_bytes // 16) * 16)
    staged = both + SUMS <= STAGED_BYTES
    return Program(f"{kernel}.cu", kernel, define(STAGED=int(staged)), SUMS + both * staged)


def _check(arguments: tuple[Any, ...]) -> None:
    """UsageError for arrays with gaps, which a kernel does not see, and for images beyond its numbers."""
    if any(hasattr(argument, "flags") and not argument.flags.c_contiguous for argument in arguments):
        raise UsageError("CUDA kernels take contiguous arrays: copy the array first.")
    images = arguments[0]
    if images.size > MOST_BYTES * len(images):
        raise UsageError(f"Images may have up to {MOST_BYTES:,} bytes each, not {images[0].size:,}: scale them down.")
