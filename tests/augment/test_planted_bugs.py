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

    with pytest.raises(AssertionError, match=rf"planted kernel {op} \(.*levels are wrong"):
        assert_parity(CASES[op], backend_with(**{op: planted}), seed=seed)


# Bugs of one op: what it makes of an image.


class HalfUp:
    """NumPy's namespace, but that ties round up."""

    def __getattr__(self, name: str) -> Any:
        return getattr(xp, name)

    @staticmethod
    def round(values: Array) -> Array:
        return np.floor(values + values.dtype.type(0.5))


half_up = HalfUp()


def crop_swaps_axes(images: Array, down: Array, across: Array, out: Array) -> None:
    crop(xp, images, across, down, out)


def crop_wraps_around(images: Array, down: Array, across: Array, out: Array) -> None:
    for i in range(len(images)):
        out[i] = np.roll(images[i], (-down[i], -across[i]), axis=(1, 2))


def crop_takes_32_bits(images: Array, down: Array, across: Array, out: Array) -> None:
    crop(xp, images, down.astype(np.int32).astype(np.int64), across, out)


def rotate_clockwise(images: Array, cosine: Array, sine: Array, out: Array) -> None:
    rotate(xp, images, cosine, -sine, out)


def rotate_rounds_half_up(images: Array, cosine: Array, sine: Array, out: Array) -> None:
    rotate(half_up, images, cosine, sine, out)


def rotate_one_pixel_one_level_off(images: Array, cosine: Array, sine: Array, out: Array) -> None:
    rotate(xp, images, cosine, sine, out)
    if out.size > 1000:
        out.flat[out.size // 2] ^= 1


def shears_forget_quarters(images: Array, quarters: Array, tangent: Array, sine: Array, out: Array) -> None:
    rotate_by_shears(xp, images, np.zeros_like(quarters), tangent, sine, out)


def shears_round_half_up(images: Array, quarters: Array, tangent: Array, sine: Array, out: Array) -> None:
    rotate_by_shears(half_up, images, quarters, tangent, sine, out)


def cutout_one_row_more(images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    cutout(xp, images, top - 1, left, size, out)


def cutout_wraps_around(images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    cutout(xp, images, top % images.shape[2], left % images.shape[3], size, out)


def cutout_takes_32_bits(images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    cutout(xp, images, top, left, size.astype(np.int32).astype(np.int64), out)


def contrast_wraps_around(images: Array, factor: Array, flip: Array, out: Array) -> None:
    mean = images.mean(axis=(1, 2, 3), keepdims=True) if images.size else 0
    out[...] = np.rint(mean + factor[:, None, None, None] * (images - mean)).astype(np.int64) % 256


def contrast_by_channel(images: Array, factor: Array, flip: Array, out: Array) -> None:
    for c in range(images.shape[1]):
        contrast(xp, images[:, c : c + 1], factor, flip, out[:, c : c + 1])


def contrast_forgets_to_flip(images: Array, factor: Array, flip: Array, out: Array) -> None:
    contrast(xp, images, factor, flip & False, out)


def contrast_rounds_half_up(images: Array, factor: Array, flip: Array, out: Array) -> None:
    contrast(half_up, images, factor, flip, out)


def hflip_upside_down(images: Array, flip: Array, out: Array) -> None:
    out[...] = np.where(flip[:, None, None, None], images[:, :, ::-1], images)


def jitter_with_other_weights(images: Array, brightness: Array, saturation: Array, out: Array) -> None:
    """0.299 of red in place of 0.2989."""
    jitter_in_float64(images, brightness, saturation, out, red=0.299)


def jitter_clips_once(images: Array, brightness: Array, saturation: Array, out: Array) -> None:
    jitter_in_float64(images, brightness, saturation, out, brightest=np.inf)


def jitter_in_float64(
    images: Array, brightness: Array, saturation: Array, out: Array, red: float = 0.2989, brightest: float = 255
) -> None:
    brightness, saturation = (factor.astype("f8")[:, None, None, None] for factor in (brightness, saturation))
    v = np.minimum(brightness * images, brightest)
    grey = np.tensordot(v, [red, 0.587, 0.114], (1, 0))[:, None]
    out[...] = np.clip(np.rint(saturation * v + (1 - saturation) * grey), 0, 255)


BUGS: list[tuple[str, Callable[..., None]]] = [
    ("crop", crop_swaps_axes),
    ("crop", crop_wraps_around),
    ("crop", crop_takes_32_bits),
    ("rotate", rotate_clockwise),
    ("rotate", rotate_rounds_half_up),
    ("rotate", rotate_one_pixel_one_level_off),
    ("rotate_by_shears", shears_forget_quarters),
    ("rotate_by_shears", shears_round_half_up),
    ("cutout", cutout_one_row_more),
    ("cutout", cutout_wraps_around),
    ("cutout", cutout_takes_32_bits),
    ("contrast", contrast_wraps_around),
    ("contrast", contrast_by_channel),
    ("contrast", contrast_forgets_to_flip),
    ("contrast", contrast_rounds_half_up),
    ("hflip", hflip_upside_down),
    ("jitter", jitter_with_other_weights),
    ("jitter", jitter_clips_once),
]


@pytest.mark.parametrize(("op", "bug"), BUGS, ids=[bug.__name__ for _, bug in BUGS])
def test_a_bug_of_one_op_is_found(backend_with: BackendWith, op: str, bug: Callable[..., None], seed: int) -> None:
    def planted(images: Array, rows: Array, *arguments_and_out: Array) -> None:
        *arguments, out = arguments_and_out
        changed = np.empty_like(out[rows])
        bug(images[rows], *arguments, changed)
        out[rows] = changed

    with pytest.raises(AssertionError, match=rf"planted kernel {op} \(.*levels are wrong"):
        assert_parity(CASES[op], backend_with(**{op: planted}), seed=seed)
