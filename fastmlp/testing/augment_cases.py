"""The cases of the augmentations' ops: all of a batch's rows in another order, some of them, and none."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.kind import Kind, Op
from fastmlp.augment.kinds import KINDS
from fastmlp.augment.kinds.contrast import contrast, hflip
from fastmlp.augment.kinds.crop import crop
from fastmlp.augment.kinds.cutout import cutout
from fastmlp.augment.kinds.rotation import rotate
from fastmlp.augment.running import on_rows
from fastmlp.augment.shears import rotate_by_shears, turns_and_shears
from fastmlp.testing.op_case import ArrayCode, Draw, Inputs, OpCase, Rng, Shape, like, size

PADDING = 4

# (images, channels, height, width): none, one pixel, not square, enough for several threads, CIFAR-10's. Height and
# width are both odd or both even: else a quarter turn's pixels lie midway between two, and every second average ties.
IMAGES: tuple[Shape, ...] = ((0, 3, 8, 8), (1, 3, 1, 1), (5, 3, 7, 9), (200, 3, 6, 8), (16, 3, 32, 32))
SQUARES: tuple[Shape, ...] = ((0, 3, 8, 8), (1, 3, 1, 1), (5, 3, 7, 7), (200, 3, 6, 6), (16, 3, 32, 32))

Arguments = Callable[[Rng, int, Shape], Inputs]  # of that many rows of images of that shape


def noise(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def half_flat(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    """Every second image of one level, which no contrast may change."""
    images = noise(rng, shape)
    images[::2] = images[::2, :1, :1, :1]
    return images


def crop_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    down, across = rng.integers(-PADDING, PADDING, (2, rows), endpoint=True)
    return {"down": down, "across": across}


def far_crops(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Some of exactly the image's size, some beyond, and some by numbers that would overflow 32 bits."""
    edges = [[-(2**61), -length, 1 - length, 0, length - 1, length, 2**61] for length in shape[2:]]
    return {name: rng.choice(edge, rows) for name, edge in zip(("down", "across"), edges, strict=True)}


def rotate_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    radians = np.deg2rad(_angles(rng, rows))
    return {"cosine": np.cos(radians).astype(np.float32), "sine": np.sin(radians).astype(np.float32)}


def shear_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    return dict(zip(("quarters", "tangent", "sine"), turns_and_shears(_angles(rng, rows)), strict=True))


def cutout_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Squares inside, over the edge, outside, and of no size."""
    height, width = shape[2:]
    return {
        "top": rng.integers(-6, height + 2, rows),
        "left": rng.integers(-6, width + 2, rows),
        "size": rng.integers(0, 9, rows),
    }


def contrast_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    return {"factor": rng.uniform(0, 2, rows).astype(np.float32), "flip": rng.random(rows) < 0.5}


def hard_contrasts(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Factors that drive images beyond black and white."""
    return {"factor": rng.uniform(-50, 50, rows).astype(np.float32), "flip": rng.random(rows) < 0.5}


def hflip_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    return {"flip": rng.random(rows) < 0.5}


def _angles(rng: Rng, n: int) -> NDArray[np.float64]:
    """Degrees all around, among them quarter turns and none at all."""
    return np.where(rng.random(n) < 0.7, rng.uniform(-180, 180, n), rng.choice([-90, 0, 45, 90, 180, 270], n))


# How a case is made.


def image_case(
    op: Op,
    arguments: Arguments,
    *,
    hard: Arguments | None = None,
    hard_images: Callable[[Rng, Shape], NDArray[np.uint8]] = noise,
    shapes: tuple[Shape, ...] = IMAGES,
    exact: bool = False,
    flops: Callable[[Shape], int] = lambda shape: 0,
    passes: int = 2,
) -> OpCase:
    """hard: arguments where kernels branch; passes: how often the images' memory is gone through."""
    own = sum(value.nbytes for value in arguments(np.random.default_rng(0), 1, shapes[1]).values())
    return OpCase(
        op.__name__,
        _array_code(op),
        _drawn(arguments),
        like("images"),
        shapes=shapes,
        dtypes=("uint8",),
        draws={
            "part": _drawn(arguments, lambda rows: rows[: -(-len(rows) // 2)]),
            "none": _drawn(arguments, lambda rows: rows[:0]),
            **({} if hard is None else {"hard": _drawn(hard, images=hard_images)}),
        },
        exact=exact,
        flops=flops,
        bytes=lambda shape, itemsize: passes * itemsize * size(shape) + (8 + own) * shape[0],
    )


def _array_code(op: Op) -> ArrayCode:
    """A kernel's array code, and its arguments by name."""
    array_code = on_rows(op)
    xp, images, *others = inspect.signature(op).parameters.values()
    array_code.__signature__ = inspect.Signature([xp, images, images.replace(name="rows"), *others])  # type: ignore[attr-defined]
    return array_code


def _drawn(
    arguments: Arguments,
    chosen: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda rows: rows,
    images: Callable[[Rng, Shape], NDArray[np.uint8]] = noise,
) -> Draw:
    """Draws images, the rows chosen of them in random order, and the arguments of those."""

    def draw(rng: Rng, shape: Shape, dtype: str) -> Inputs:
        rows = chosen(rng.permutation(shape[0]))
        return {"images": images(rng, shape), "rows": rows, **arguments(rng, len(rows), shape)}

    return draw


def _case_of(kind: Kind) -> OpCase:
    """A case by what the kind itself draws, for one without its own; all that it computes counts as nothing."""
    names = list(inspect.signature(kind.op).parameters)[2:-1]

    def arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
        drawn = kind.draw(rng, rows, *shape[2:])
        return dict(zip(names, kind.arguments(rows, drawn), strict=True))

    return image_case(kind.op, arguments)


# The table.

CASES = (
    image_case(crop, crop_arguments, hard=far_crops, exact=True),
    image_case(
        rotate,
        rotate_arguments,
        flops=lambda shape: 10 * size(shape) + 8 * shape[0] * size(shape[2:]),  # two lerps and one; the coordinates
    ),
    image_case(rotate_by_shears, shear_arguments, shapes=SQUARES, flops=lambda shape: 9 * size(shape)),  # three lerps
    image_case(cutout, cutout_arguments, exact=True),
    image_case(
        contrast,
        contrast_arguments,
        hard=hard_contrasts,
        hard_images=half_flat,
        flops=lambda shape: 4 * size(shape),
        passes=3,  # the images twice, for their mean
    ),
    image_case(hflip, hflip_arguments, exact=True),
)
AUGMENT_CASES = (
    *CASES,
    *(_case_of(kind()) for kind in KINDS.values() if kind.op.__name__ not in {case.op for case in CASES}),
)
