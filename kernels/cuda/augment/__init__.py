"""The augmentations as launches: a .cu file each, named like its kernel. A new one is found by being here.

A launch takes uint8 images (n, 3, h, w), rows and arguments, contiguous, on the driver's device, as kernels for the CPU
do (see `fastmlp.kernels.cpu.augment`). One block per image, and as many blocks as the device runs at once: see
images.cuh.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.common.errors import UsageError

from ..driver import Array, Driver, Program, Size
from ..sources import define, names, parameters

BLOCK: Size = (32, 4)  # one warp per row of pixels
SUMS = 8 * BLOCK[1]  # bytes: one number per warp
STAGED_BYTES = 24 * 1024  # so much shared memory at most: several blocks have to fit, for one waits while another works
MOST_BYTES = 2**31 - 1  # of an image: places in it are 32-bit numbers

NAMES = [Path(name).stem for name in names() if name.startswith("augment/")]


def image_kernels(driver: Driver) -> dict[str, Callable[..., None]]:
    """The launches by name."""
    blocks = cache(lambda program: driver.blocks_at_once(program, BLOCK[0] * BLOCK[1]))
    return {name: _launch_of(name, driver, blocks) for name in NAMES}


def _launch_of(name: str, driver: Driver, blocks: Callable[[Program], int]) -> Callable[..., None]:
    def launch(images: Array, rows: Array, *arguments_and_out: Array) -> None:
        _check((images, rows, *arguments_and_out))
        count, (height, width) = rows.shape[0], images.shape[2:]
        if count and images.size:
            program = _program(name, images[0].size)
            sizes = (np.int64(count), np.int32(height), np.int32(width))
            driver.load(program)((min(count, blocks(program)),), BLOCK, (images, rows, *arguments_and_out, *sizes))

    launch.__name__ = launch.__qualname__ = name
    launch.__signature__ = _signature(name)  # type: ignore[attr-defined]  # which checks of kernels compare
    return launch


def _signature(name: str) -> inspect.Signature:
    """The kernel's own parameters, less those that the launch adds."""
    own = parameters(f"augment/{name}.cu", name)[:-3]
    return inspect.Signature([inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in own])


def _program(name: str, image_bytes: int) -> Program:
    """The kernel, images and results staged in shared memory if they are small enough."""
    both = 2 * (-(-image_bytes // 16) * 16)
    staged = both + SUMS <= STAGED_BYTES
    return Program(f"augment/{name}.cu", name, define(STAGED=int(staged)), SUMS + both * staged)


def _check(arrays: tuple[Any, ...]) -> None:
    """UsageError for arrays with gaps, which a kernel does not see, and for images beyond its numbers."""
    if not all(array.flags.c_contiguous for array in arrays):
        raise UsageError("CUDA kernels take contiguous arrays: copy the array first.")
    images = arrays[0]
    if images.size > MOST_BYTES * len(images):
        raise UsageError(f"Images may have up to {MOST_BYTES:,} bytes each, not {images[0].size:,}: scale them down.")
