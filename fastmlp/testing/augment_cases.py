"""The cases of the augmentations' ops: all of a batch's rows in another order, some of them, and none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.kind import Op
from fastmlp.augment.kinds.contrast import contrast, hflip
from fastmlp.augment.kinds.crop import crop
from fastmlp.augment.kinds.cutout import cutout
from fastmlp.augment.kinds.jitter import jitter
from fastmlp.augment.kinds.rotation import rotate
from fastmlp.augment.running import on_rows
from fastmlp.augment.shears import rotate_by_shears, turns_and_shears
from fastmlp.testing.op_case import ArrayCode, Draw, Inputs, OpCase, Rng, Shape, Truth, like, size
from fastmlp.testing.reference import images as reference

PADDING = 4
FAR = (-(2**61), -(2**32) - 1, 2**32 + 1, 2**61)  # beyond any image, though small in 32 bits

# (images, channels, height, width): none, one pixel, a line each way, not square, enough for several threads, longer
# than a warp and than four, CIFAR-10's, and more than a CUDA block has room for. Height and width are both odd or both
# even: else a quarter turn's pixels lie midway between two, and every second average ties.
IMAGES: tuple[Shape, ...] = (
    (0, 3, 8, 8),
    (1, 3, 1, 1),
    (3, 3, 1, 9),
    (3, 3, 9, 1),
    (5, 3, 7, 9),
    (200, 3, 6, 8),
    (3, 3, 35, 5),
    (3, 3, 6, 134),
    (16, 3, 32, 32),
    (2, 3, 62, 72),
)
SQUARES: tuple[Shape, ...] = (
    (0, 3, 8, 8),
    (1, 3, 1, 1),
    (5, 3, 2, 2),
    (5, 3, 7, 7),
    (200, 3, 6, 6),
    (16, 3, 32, 32),
    (2, 3, 67, 67),
)

Arguments = Callable[[Rng, int, Shape], Inputs]  # of that many rows of images of that shape
Images = Callable[[Rng, Shape], NDArray[np.uint8]]


def noise(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def half_flat(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    """Every second image of one level, which no contrast may change: white, and then odd ones, the least even sums."""
    images = noise(rng, shape)
    images[::2] = 255 - (np.arange(0, shape[0], 2) % 256).astype(np.uint8)[:, None, None, None]
    return images


def tinted(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    """Dark red, middling green, light blue."""
    return (noise(rng, shape) // 3 + np.array([0, 85, 170], np.uint8)[:, None, None]).astype(np.uint8)


def balanced(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    """Images whose mean is a whole level: to each pixel there is one as far from it on the other side."""
    count, pixels = shape[0], size(shape[1:])
    mean = rng.integers(64, 192, (count, 1))
    apart = rng.integers(0, 64, (count, pixels // 2))
    flat = np.concatenate([mean - apart, mean + apart, np.repeat(mean, pixels % 2, axis=1)], axis=1)
    return rng.permuted(flat, axis=1).astype(np.uint8).reshape(shape)


def crop_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    down, across = rng.integers(-PADDING, PADDING, (2, rows), endpoint=True)
    return {"down": down, "across": across}


def far_crops(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """By a pixel, by the image's size and one more or less, and by numbers that 32 bits make small: in all pairs."""
    pairs = np.stack(np.meshgrid(*([*_around(-length, 0, length), *FAR] for length in shape[2:])), axis=-1)
    pairs = np.resize(rng.permutation(pairs.reshape(-1, 2)), (rows, 2))
    return {"down": pairs[:, 0], "across": pairs[:, 1]}


def rotate_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    radians = np.deg2rad(_angles(rng, rows))
    return {"cosine": np.cos(radians).astype(np.float32), "sine": np.sin(radians).astype(np.float32)}


def short_turns(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Of which float32 loses nothing: no turn, quarter turns, and others, which also stretch, by eighths."""
    whole = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
    turns = np.where(rng.random((rows, 1)) < 0.3, rng.choice(whole, rows), rng.integers(-9, 10, (rows, 2)) / 8)
    return {"cosine": turns[:, 0].astype(np.float32), "sine": turns[:, 1].astype(np.float32)}


def shear_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    return dict(zip(("quarters", "tangent", "sine"), turns_and_shears(_angles(rng, rows)), strict=True))


def short_shears(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Of which float32 loses nothing: by sixteenths, up to those of 45 degrees, a quarter among them."""
    tangent, sine = rng.integers(-6, 7, rows) / 16, rng.integers(-11, 12, rows) / 16
    tangent[::3] = 0.25
    return {
        "quarters": rng.integers(0, 4, rows),
        "tangent": tangent.astype(np.float32),
        "sine": sine.astype(np.float32),
    }


def cutout_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Squares inside, over the edge, outside, and of no size."""
    height, width = shape[2:]
    return {
        "top": rng.integers(-6, height + 2, rows),
        "left": rng.integers(-6, width + 2, rows),
        "size": rng.integers(0, 9, rows),
    }


def far_cutouts(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """That begin or end at a border, a pixel before or behind it, or where numbers of 32 bits do not reach."""
    height, width = shape[2:]
    side, ends = rng.choice([-1, 0, 1, 2, min(height, width), *FAR[2:]], rows), rng.random(rows) < 0.5
    top, left = (rng.choice([*_around(0, length), *FAR], rows) - side * ends for length in (height, width))
    return {"top": top, "left": left, "size": side}


def contrast_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    return {"factor": rng.uniform(0, 2, rows).astype(np.float32), "flip": rng.random(rows) < 0.5}


def hard_contrasts(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Factors that drive images beyond black and white; the first is negative, so that a white image tells its mean."""
    factor = rng.uniform(-50, 50, rows).astype(np.float32)
    factor[:1] = -np.abs(factor[:1])
    return {"factor": factor, "flip": rng.random(rows) < 0.5}


def short_contrasts(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Of which float32 loses nothing: by eighths, and by halves, where every second pixel ties."""
    factor = np.where(rng.random(rows) < 0.5, rng.integers(-20, 21, rows) / 8, rng.choice([0.5, 1.5, -0.5], rows))
    return {"factor": factor.astype(np.float32), "flip": rng.random(rows) < 0.5}


def hflip_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    return {"flip": rng.random(rows) < 0.5}


def jitter_arguments(rng: Rng, rows: int, shape: Shape) -> Inputs:
    brightness, saturation = rng.uniform(0.5, 1.5, (2, rows)).astype(np.float32)
    return {"brightness": brightness, "saturation": saturation}


def hard_jitters(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Beyond black and white, and nothing at all."""
    brightness, saturation = rng.choice([0, 1 / np.pi, 1, 2, 500], (2, rows)).astype(np.float32)
    return {"brightness": brightness, "saturation": saturation}


def short_jitters(rng: Rng, rows: int, shape: Shape) -> Inputs:
    """Of which float32 loses nothing: brightness alone, by eighths."""
    brightness = np.where(rng.random(rows) < 0.5, rng.integers(0, 25, rows) / 8, 0.5)
    return {"brightness": brightness.astype(np.float32), "saturation": np.ones(rows, np.float32)}


def _around(*places: int) -> list[int]:
    return [place + beside for place in places for beside in (-1, 0, 1)]


def _angles(rng: Rng, n: int) -> NDArray[np.float64]:
    """Degrees all around, among them quarter turns and none at all."""
    return np.where(rng.random(n) < 0.7, rng.uniform(-180, 180, n), rng.choice([-90, 0, 45, 90, 180, 270], n))


# How a case is made.


def image_case(
    op: Op,
    truth: Truth,
    arguments: Arguments,
    hazards: Mapping[str, tuple[Arguments, Images]] = MappingProxyType({}),
    *,
    shapes: tuple[Shape, ...] = IMAGES,
    flops: Callable[[Shape], int] = lambda shape: 0,
    passes: int = 2,
) -> OpCase:
    """hazards: arguments and images where kernels branch or round; passes: how often images are read or written."""
    own = sum(value.nbytes for value in arguments(np.random.default_rng(0), 1, shapes[1]).values())
    return OpCase(
        op.__name__,
        _array_code(op),
        _drawn(arguments),
        like("images"),
        shapes=shapes,
        dtypes=("uint8",),
        draws={
            "part": _drawn(arguments, tinted, lambda rows: rows[: -(-len(rows) // 2)]),
            "none": _drawn(arguments, noise, lambda rows: rows[:0]),
            **{name: _drawn(*hazard) for name, hazard in hazards.items()},
        },
        truth=truth,
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
    images: Images = noise,
    chosen: Callable[[NDArray[np.int64]], NDArray[np.int64]] = lambda rows: rows,
) -> Draw:
    """Draws images, the rows chosen of them in random order, and the arguments of those."""

    def draw(rng: Rng, shape: Shape, dtype: str) -> Inputs:
        rows = chosen(rng.permutation(shape[0]))
        return {"images": images(rng, shape), "rows": rows, **arguments(rng, len(rows), shape)}

    return draw


# The table.

AUGMENT_CASES = (
    image_case(crop, reference.crop, crop_arguments, {"hard": (far_crops, tinted)}),
    image_case(
        rotate,
        reference.rotate,
        rotate_arguments,
        {"ties": (short_turns, noise)},
        flops=lambda shape: 10 * size(shape) + 8 * shape[0] * size(shape[2:]),  # two lerps and one; the coordinates
    ),
    image_case(
        rotate_by_shears,
        reference.rotate_by_shears,
        shear_arguments,
        {"ties": (short_shears, noise)},
        shapes=SQUARES,
        flops=lambda shape: 9 * size(shape),  # three lerps
    ),
    image_case(cutout, reference.cutout, cutout_arguments, {"hard": (far_cutouts, noise)}),
    image_case(
        contrast,
        reference.contrast,
        contrast_arguments,
        {"hard": (hard_contrasts, half_flat), "ties": (short_contrasts, balanced)},
        flops=lambda shape: 4 * size(shape),
        passes=3,  # the images twice, for their mean
    ),
    image_case(hflip, reference.hflip, hflip_arguments),
    image_case(
        jitter,
        reference.jitter,
        jitter_arguments,
        {"hard": (hard_jitters, noise), "ties": (short_jitters, noise)},
        flops=lambda shape: 5 * size(shape),
    ),
)
