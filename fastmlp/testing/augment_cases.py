"""The cases of the augmentations' ops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment import ops
from fastmlp.testing.op_case import Inputs, OpCase, Rng, Shape, like, size

PADDING = 4

# (images, channels, height, width): none, one pixel, not square, enough for several threads, CIFAR-10's. Height and
# width are both odd or both even: else a quarter turn's pixels lie midway between two, and every second average ties.
IMAGES: tuple[Shape, ...] = ((0, 3, 8, 8), (1, 3, 1, 1), (5, 3, 7, 9), (200, 3, 6, 8), (16, 3, 32, 32))
SQUARES: tuple[Shape, ...] = ((0, 3, 8, 8), (1, 3, 1, 1), (5, 3, 7, 7), (200, 3, 6, 6), (16, 3, 32, 32))


def noise(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def draw_crop(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    dy, dx = rng.integers(0, 2 * PADDING, (2, shape[0]), endpoint=True)
    return {"images": noise(rng, shape), "dy": dy, "dx": dx, "padding": PADDING}


def draw_rotate(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    radians = np.deg2rad(_angles(rng, shape[0]))
    return {
        "images": noise(rng, shape),
        "cosine": np.cos(radians).astype(np.float32),
        "sine": np.sin(radians).astype(np.float32),
    }


def draw_rotate_by_shears(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    degrees = _angles(rng, shape[0])
    quarters = np.rint(degrees / 90)
    rest = np.deg2rad(degrees - 90 * quarters)
    return {
        "images": noise(rng, shape),
        "quarters": quarters.astype(np.int64) % 4,
        "tangent": np.tan(rest / 2).astype(np.float32),
        "sine": np.sin(rest).astype(np.float32),
    }


def draw_cutout(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Squares inside, over the edge, outside, and of no size."""
    rows, height, width = shape[0], *shape[2:]
    return {
        "images": noise(rng, shape),
        "top": rng.integers(-6, height + 2, rows),
        "left": rng.integers(-6, width + 2, rows),
        "size": rng.integers(0, 9, rows),
    }


def draw_contrast(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"images": noise(rng, shape), "factor": rng.uniform(0, 2, shape[0]).astype(np.float32)}


def draw_flat_contrast(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Images of one level, which must stay as they are, and factors that drive others beyond black and white."""
    images = noise(rng, shape)
    images[::2] = images[::2, :1, :1, :1]
    return {"images": images, "factor": rng.uniform(-50, 50, shape[0]).astype(np.float32)}


def draw_hflip(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"images": noise(rng, shape), "flip": rng.random(shape[0]) < 0.5}


def draw_augment(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    inputs = {"images": noise(rng, shape), "kind": rng.integers(0, 4, shape[0])}
    for draw in (draw_crop, draw_rotate, draw_cutout, draw_contrast, draw_hflip):
        inputs |= {name: value for name, value in draw(rng, shape, dtype).items() if name != "images"}
    return inputs


def _angles(rng: Rng, n: int) -> NDArray[np.float64]:
    """Degrees all around, among them quarter turns and none at all."""
    return np.where(rng.random(n) < 0.7, rng.uniform(-180, 180, n), rng.choice([-90, 0, 45, 90, 180, 270], n))


# The table.

AUGMENT_CASES = (
    OpCase(
        "crop",
        ops.crop,
        draw_crop,
        like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 16 * shape[0],
    ),
    OpCase(
        "rotate",
        ops.rotate,
        draw_rotate,
        like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        flops=lambda shape: 10 * size(shape) + 8 * shape[0] * size(shape[2:]),  # two lerps and one; the coordinates
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 8 * shape[0],
    ),
    OpCase(
        "rotate_by_shears",
        ops.rotate_by_shears,
        draw_rotate_by_shears,
        like("images"),
        shapes=SQUARES,
        dtypes=("uint8",),
        flops=lambda shape: 9 * size(shape),  # three lerps
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 16 * shape[0],
    ),
    OpCase(
        "cutout",
        ops.cutout,
        draw_cutout,
        like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 24 * shape[0],
    ),
    OpCase(
        "contrast",
        ops.contrast,
        draw_contrast,
        like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        draws={"flat": draw_flat_contrast},
        flops=lambda shape: 4 * size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * size(shape) + 4 * shape[0],  # the images twice, for their mean
    ),
    OpCase(
        "hflip",
        ops.hflip,
        draw_hflip,
        like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + shape[0],
    ),
    OpCase(
        "augment",
        ops.augment,
        draw_augment,
        like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        flops=lambda shape: 14 * size(shape) // 4 + 2 * shape[0] * size(shape[2:]),  # of rotate and of contrast
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 61 * shape[0],
    ),
)
