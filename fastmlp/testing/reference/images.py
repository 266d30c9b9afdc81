"""What augmentations and resizing make of images, from their definitions, in float64 and not yet rounded to bytes.

Each takes what a kernel takes: images uint8 (n, 3, h, w), rows (m,), arguments (m,). It returns {"out": levels},
float64 like the images, NaN in all rows that a kernel has to leave alone. Where the numbers of an image are so short in
binary that float32 loses nothing of them, its levels are rounded already, ties to even: no other byte is right there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Levels = NDArray[np.float64]  # of one image, (3, h, w)
Numbers = NDArray[Any]
Truth = dict[str, Levels]

SHORT = 16  # multiples of a sixteenth: products of three of them and a byte still fit into float32's 24 bits
GREY = np.array([0.2989, 0.587, 0.114])  # of red, green and blue


def crop(images: Images, rows: Numbers, down: Numbers, across: Numbers) -> Truth:
    return _each(_crop, images, rows, down, across)


def rotate(images: Images, rows: Numbers, cosine: Numbers, sine: Numbers) -> Truth:
    return _each(_rotate, images, rows, cosine, sine)


def rotate_by_shears(images: Images, rows: Numbers, quarters: Numbers, tangent: Numbers, sine: Numbers) -> Truth:
    return _each(_rotate_by_shears, images, rows, quarters, tangent, sine)


def cutout(images: Images, rows: Numbers, top: Numbers, left: Numbers, size: Numbers) -> Truth:
    return _each(_cutout, images, rows, top, left, size)


def contrast(images: Images, rows: Numbers, factor: Numbers, flip: Numbers) -> Truth:
    return _each(_contrast, images, rows, factor, flip)


def hflip(images: Images, rows: Numbers, flip: Numbers) -> Truth:
    return _each(_hflip, images, rows, flip)


def jitter(images: Images, rows: Numbers, brightness: Numbers, saturation: Numbers) -> Truth:
    return _each(_jitter, images, rows, brightness, saturation)


def resize(images: Images, scale: Numbers, shift: Numbers, size: int) -> Levels:
    """(n, size, size, 3): pixel i of a side is at (i + 1/2) length / size - 1/2 of the image's, or at its border."""
    down, across = (_inside((np.arange(size) + 0.5) * length / size - 0.5, length) for length in images.shape[2:])
    out = np.empty((len(images), size, size, 3))
    for image, result in zip(images.astype(np.float64), out, strict=True):
        result[...] = _between(image, down[:, None], across[None, :]).transpose(1, 2, 0) * scale + shift
    return out


def bfloat16(values: Numbers) -> Numbers:
    """The nearest numbers of eight significant bits, ties to even."""
    part, exponent = np.frexp(values)
    rounded: Numbers = np.ldexp(np.rint(part * 256), exponent - 8)
    return rounded


def _each(change: Callable[..., Levels], images: Images, rows: Numbers, *arguments: Numbers) -> Truth:
    out = np.full(images.shape, np.nan)
    for row, *own in zip(rows.tolist(), *(argument.tolist() for argument in arguments), strict=True):
        out[row] = change(images[row].astype(np.float64), *own)
    return {"out": out}


# One image.


def _crop(image: Levels, down: int, across: int) -> Levels:
    """out[y, x] = image[y + down, x + across], black outside."""
    y, x = _places(image)
    return _pixels(image, y + down, x + across)


def _rotate(image: Levels, cosine: float, sine: float) -> Levels:
    """Each pixel, counted from the centre, is what lies where the turn back takes it."""
    (y, x), (middle_y, middle_x) = _places(image), _middle(image)
    down, across = y - middle_y, x - middle_x
    levels = _between(image, middle_y + down * cosine + across * sine, middle_x + across * cosine - down * sine)
    return _settled(levels, cosine, sine)


def _rotate_by_shears(image: Levels, quarters: int, tangent: float, sine: float) -> Levels:
    """Quarter turns counter-clockwise, then shears along x, y and x, on a canvas that nothing leaves."""
    side = image.shape[1]
    margin = side // 2 + 1
    inner = (slice(None), slice(margin, margin + side), slice(margin, margin + side))
    canvas = np.pad(np.rot90(image, quarters, axes=(1, 2)), ((0, 0), (margin, margin), (margin, margin)))
    (y, x), (middle, _) = _places(canvas), _middle(canvas)
    for down, across in ((0, -tangent), (sine, 0), (0, -tangent)):
        canvas = _between(canvas, y + down * (x - middle), x + across * (y - middle))
    return _settled(canvas[inner], tangent, sine)


def _cutout(image: Levels, top: int, left: int, size: int) -> Levels:
    y, x = _places(image)
    return np.where((top <= y) & (y < top + size) & (left <= x) & (x < left + size), 0, image)


def _contrast(image: Levels, factor: float, flip: bool) -> Levels:
    mean = float(image.mean())
    return _hflip(_settled(mean + factor * (image - mean), mean, factor), flip)


def _hflip(image: Levels, flip: bool) -> Levels:
    return image[:, :, ::-1] if flip else image


def _jitter(image: Levels, brightness: float, saturation: float) -> Levels:
    """Brighter, clipped, then away from its grey."""
    bright = np.clip(brightness * image, 0, 255)
    grey = np.tensordot(GREY, bright, 1)
    levels = saturation * bright + (1 - saturation) * grey
    return _settled(levels, brightness) if saturation == 1 else np.clip(levels, 0, 255)


# Parts of these.


def _settled(levels: Levels, *numbers: float) -> Levels:
    """Clipped, and rounded if the numbers that made them are short."""
    levels = np.clip(levels, 0, 255)
    return np.rint(levels) if all(number * SHORT % 1 == 0 for number in numbers) else levels


def _places(image: Levels) -> tuple[Numbers, Numbers]:
    """The row and the column of each pixel."""
    _, height, width = image.shape
    return np.arange(height)[:, None], np.arange(width)[None, :]


def _middle(image: Levels) -> tuple[float, float]:
    _, height, width = image.shape
    return (height - 1) / 2, (width - 1) / 2


def _pixels(image: Levels, y: Numbers, x: Numbers) -> Levels:
    """The pixels at those whole rows and columns, black outside."""
    _, height, width = image.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return np.where(inside, image[:, np.where(inside, y, 0), np.where(inside, x, 0)], 0)


def _between(image: Levels, y: Numbers, x: Numbers) -> Levels:
    """What lies at those rows and columns between four pixels, each weighed by how near it is."""
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    below, right = y - top, x - left
    upper = _pixels(image, top, left) * (1 - right) + _pixels(image, top, left + 1) * right
    lower = _pixels(image, top + 1, left) * (1 - right) + _pixels(image, top + 1, left + 1) * right
    levels: Levels = upper * (1 - below) + lower * below
    return levels


def _inside(place: Numbers, length: int) -> Numbers:
    """The nearest place that lies between an image's first and last pixel."""
    return np.clip(place, 0, length - 1)
