"""The cases of augmentations are seen to fail: bugs are planted in kernels of every op, and each must be found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp.augment.kinds.contrast import contrast
from fastmlp.augment.kinds.crop import crop
from fastmlp.augment.kinds.cutout import cutout
from fastmlp.augment.kinds.rotation import rotate
from fastmlp.augment.shears import rotate_by_shears
from fastmlp.backends import Backend
from fastmlp.backends.base import Array
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing import CASES, assert_parity

BackendWith = Callable[..., Backend]
xp = NumpyBackend.xp
OPS = [op for op, case in CASES.items() if case.family == "images"]

# Bugs of any kernel: what it does with rows and arguments. Each takes the op's sound kernel, and all that this takes.


def leaves_the_last_row(sound: Any, images: Array, rows: Array, *arguments: Array, out: Array) -> None:
    sound(images, rows[:-1], *(argument[:-1] for argument in arguments), out)


def takes_rows_in_order(sound: Any, images: Array, rows: Array, *arguments: Array, out: Array) -> None:
    sound(images, np.sort(rows), *arguments, out)


def reads_the_next_image(sound: Any, images: Array, rows: Array, *arguments: Array, out: Array) -> None:
    sound(np.roll(images, 1, axis=0), rows, *arguments, out)


def overwrites_other_rows(sound: Any, images: Array, rows: Array, *arguments: Array, out: Array) -> None:
    out[...] = images
    sound(images, rows, *arguments, out)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("bug", [leaves_the_last_row, takes_rows_in_order, reads_the_next_image, overwrites_other_rows])
def test_a_bug_of_any_kernel_is_found(backend_with: BackendWith, bug: Callable[..., None], op: str, seed: int) -> None:
    def sound(*arguments: Array) -> None:
        CASES[op].array_code(xp, *arguments)

    def planted(images: Array, rows: Array, *arguments_and_out: Array) -> None:
        *arguments, out = arguments_and_out
        bug(sound, images, rows, *arguments, out=out)

    with pytest.raises(AssertionError, match=rf"planted kernel {op} \(.*(elements differ|levels at|off by one level)"):
        assert_parity(CASES[op], backend_with(**{op: planted}), seed=seed)


# Bugs of one op: what it makes of an image.


def crop_swaps_axes(images: Array, down: Array, across: Array, out: Array) -> None:
    crop(xp, images, across, down, out)


def crop_wraps_around(images: Array, down: Array, across: Array, out: Array) -> None:
    for i in range(len(images)):
        out[i] = np.roll(images[i], (-down[i], -across[i]), axis=(1, 2))


def rotate_clockwise(images: Array, cosine: Array, sine: Array, out: Array) -> None:
    rotate(xp, images, cosine, -sine, out)


def rotate_truncates(images: Array, cosine: Array, sine: Array, out: Array) -> None:
    """Half of the pixels are one level too dark."""
    rounded = np.empty_like(out)
    rotate(xp, images, cosine, sine, rounded)
    turned = (cosine != 1)[:, None, None, None]
    out[...] = np.where(turned & (rounded % 2 == 1), rounded - 1, rounded)


def rotate_off_by_two(images: Array, cosine: Array, sine: Array, out: Array) -> None:
    rotate(xp, images, cosine, sine, out)
    if out.size:
        out.flat[out.size // 2] ^= 2


def shears_forget_quarters(images: Array, quarters: Array, tangent: Array, sine: Array, out: Array) -> None:
    rotate_by_shears(xp, images, np.zeros_like(quarters), tangent, sine, out)


def cutout_one_row_more(images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    cutout(xp, images, top - 1, left, size, out)


def cutout_wraps_around(images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    cutout(xp, images, top % images.shape[2], left % images.shape[3], size, out)


def contrast_wraps_around(images: Array, factor: Array, flip: Array, out: Array) -> None:
    mean = images.mean(axis=(1, 2, 3), keepdims=True) if images.size else 0
    out[...] = np.rint(mean + factor[:, None, None, None] * (images - mean)).astype(np.int64) % 256


def contrast_by_channel(images: Array, factor: Array, flip: Array, out: Array) -> None:
    for c in range(images.shape[1]):
        contrast(xp, images[:, c : c + 1], factor, flip, out[:, c : c + 1])


def contrast_forgets_to_flip(images: Array, factor: Array, flip: Array, out: Array) -> None:
    contrast(xp, images, factor, flip & False, out)


def hflip_upside_down(images: Array, flip: Array, out: Array) -> None:
    out[...] = np.where(flip[:, None, None, None], images[:, :, ::-1], images)


BUGS: list[tuple[str, Callable[..., None], str]] = [
    ("crop", crop_swaps_axes, "elements differ"),
    ("crop", crop_wraps_around, "elements differ"),
    ("rotate", rotate_clockwise, "levels at"),
    ("rotate", rotate_truncates, "pixels are off by one level, where at most"),
    ("rotate", rotate_off_by_two, "off by 2 levels"),
    ("rotate_by_shears", shears_forget_quarters, "levels at"),
    ("cutout", cutout_one_row_more, "elements differ"),
    ("cutout", cutout_wraps_around, "elements differ"),
    ("contrast", contrast_wraps_around, "levels at"),
    ("contrast", contrast_by_channel, "levels at"),
    ("contrast", contrast_forgets_to_flip, "levels at"),
    ("hflip", hflip_upside_down, "elements differ"),
]


@pytest.mark.parametrize(("op", "bug", "sentence"), BUGS, ids=[bug.__name__ for _, bug, _ in BUGS])
def test_a_bug_of_one_op_is_found(
    backend_with: BackendWith, op: str, bug: Callable[..., None], sentence: str, seed: int
) -> None:
    def planted(images: Array, rows: Array, *arguments_and_out: Array) -> None:
        *arguments, out = arguments_and_out
        changed = np.empty_like(out[rows])
        bug(images[rows], *arguments, changed)
        out[rows] = changed

    with pytest.raises(AssertionError, match=rf"planted kernel {op} \(.*{sentence}"):
        assert_parity(CASES[op], backend_with(**{op: planted}), seed=seed)
