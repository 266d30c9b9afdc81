"""The checks of images in memory, in number, in size and over threads are seen to fail: each finds its planted bug."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp.backends import Backend
from fastmlp.backends.base import Array
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing import CASES, augmentation, image_checks, resizing
from fastmlp.testing.check import SkipError
from fastmlp.testing.reference import images as reference
from tests.array_code import run

BackendWith = Callable[..., Backend]


def in_memory(array: Array) -> Array:
    """The bytes from the array's first one on, as if there were no gaps."""
    return np.lib.stride_tricks.as_strided(array, (array.size,), (1,))


def hflip_ignores_gaps_of_images(images: Array, rows: Array, flip: Array, out: Array) -> None:
    run("hflip", in_memory(images).reshape(images.shape), rows, flip, out)


def hflip_ignores_gaps_of_results(images: Array, rows: Array, flip: Array, out: Array) -> None:
    run("hflip", images, rows, flip, in_memory(out).reshape(out.shape))


def hflip_takes_memory_as_aligned(images: Array, rows: Array, flip: Array, out: Array) -> None:
    start = images.ctypes.data % 8
    run("hflip", np.roll(images, start).reshape(images.shape), rows, flip, out)


def hflip_fills_whole_words(images: Array, rows: Array, flip: Array, out: Array) -> None:
    run("hflip", images, rows, flip, out)
    np.lib.stride_tricks.as_strided(out, (out.size + 3,), (1,))[out.size :] = 0


def hflip_sets_all_results(images: Array, rows: Array, flip: Array, out: Array) -> None:
    out[...] = 170
    run("hflip", images, rows, flip, out)


def hflip_once_per_block(images: Array, rows: Array, flip: Array, out: Array) -> None:
    run("hflip", images, rows[:4000], flip[:4000], out)


def contrast_of_float32_sums(images: Array, rows: Array, factor: Array, flip: Array, out: Array) -> None:
    for row, own, mirrored in zip(rows, factor, flip, strict=True):
        image = images[row].astype(np.float32)
        mean = image.ravel().cumsum(dtype=np.float32)[-1] / np.float32(image.size)
        levels = np.clip(np.rint(mean + own * (image - mean)), 0, 255)
        out[row] = levels[:, :, ::-1] if mirrored else levels


def crop_counts_columns_in_16_bits(images: Array, rows: Array, down: Array, across: Array, out: Array) -> None:
    run("crop", images[..., : 2**15 - 1], rows, down, across, out[..., : 2**15 - 1])


@pytest.mark.parametrize(
    ("hazard", "op", "bug", "sentence"),
    [
        ("anywhere in memory", "hflip", hflip_ignores_gaps_of_images, "images every second column.* levels are wrong"),
        ("anywhere in memory", "hflip", hflip_ignores_gaps_of_results, "out every second column.* written outside"),
        ("anywhere in memory", "hflip", hflip_takes_memory_as_aligned, "images starting at 1,.* levels are wrong"),
        ("anywhere in memory", "hflip", hflip_fills_whole_words, "written outside: [23] of"),
        ("anywhere in memory", "hflip", hflip_sets_all_results, "got 170, expected (0|85) "),
        ("many images", "hflip", hflip_once_per_block, "70000 images.*: [0-9]+ of 1260000 levels are wrong"),
        ("large images", "contrast", contrast_of_float32_sums, r"2, 33000\).* levels are wrong"),
        ("large images", "crop", crop_counts_columns_in_16_bits, r"2, 33000\).* levels are wrong"),
    ],
)
def test_a_bug_of_a_kernel_is_found(
    backend_with: BackendWith, hazard: str, op: str, bug: Callable[..., None], sentence: str, seed: int
) -> None:
    backend = backend_with(**{op: bug})
    with pytest.raises(AssertionError, match=f"planted kernel {op} .*{sentence}"):
        dict(image_checks.CHECKS)[hazard](backend, CASES[op], bug, seed)


def test_a_bug_with_so_many_threads_is_found(backend_with: BackendWith, seed: int) -> None:
    def loses_the_rest(images: Array, rows: Array, flip: Array, out: Array) -> None:
        shares = len(rows) // backend.threads * backend.threads
        run("hflip", images, rows[:shares], flip[:shares], out)

    backend = backend_with(hflip=loses_the_rest)
    before = backend.threads
    with pytest.raises(AssertionError, match=r"333 images, [25] threads.* levels are wrong"):
        image_checks.assert_shared_out(backend, CASES["hflip"], loses_the_rest, seed)
    assert backend.threads == before


def test_places_in_32_bits_are_found(backend_with: BackendWith, seed: int) -> None:
    def hflip(images: Array, rows: Array, flip: Array, out: Array) -> None:
        each = images[0].nbytes
        for row, mirrored in zip(rows.tolist(), flip, strict=True):
            start = row * each % 2**bits
            image = images.reshape(-1)[start : start + each].reshape(images.shape[1:])
            out[row] = image[..., ::-1] if mirrored else image

    for bits in (31, 32):  # noqa: B007  (hflip reads it)
        with pytest.raises(AssertionError, match=r"kernel hflip \(images .* levels are wrong"):
            image_checks.assert_beyond_32_bits(backend_with(hflip=hflip), CASES["hflip"], hflip, seed)
    bits = 33
    image_checks.assert_beyond_32_bits(backend_with(hflip=hflip), CASES["hflip"], hflip, seed)


def test_what_needs_too_much_memory_is_skipped(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Array:
        raise MemoryError("all is taken")

    backend = backend_with()
    monkeypatch.setattr(type(backend), "empty", full)
    with pytest.raises(SkipError, match=r"no room for 4,294,967,296 bytes of images .*: all is taken"):
        image_checks.assert_beyond_32_bits(backend, CASES["hflip"], full, 0)
    monkeypatch.setattr(type(backend), "empty", Backend.empty)
    with pytest.raises(SkipError, match=r"planted copies .* 8,589,934,592 bytes of memory"):
        image_checks.assert_beyond_32_bits(backend, CASES["hflip"], full, 0)


def test_a_result_that_later_batches_overwrite_is_found(backend_with: BackendWith, monkeypatch: Any) -> None:
    kept: dict[Any, Array] = {}

    def empty_like(images: Array) -> Array:
        return kept.setdefault(images.shape, np.empty(images.shape, images.dtype))

    backend = backend_with()
    monkeypatch.setattr(type(backend), "xp", Renamed(NumpyBackend.xp, empty_like=empty_like))
    with pytest.raises(AssertionError, match="the result of batch 0 after others"):
        augmentation.assert_batch_after_batch(backend, 0)


class Renamed:
    """A namespace, but for the functions given."""

    def __init__(self, xp: Any, **functions: Any) -> None:
        self._xp = xp
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)


# Bugs of resizing. Each is sound for what the change of the images, the numbers and the bits leaves as it is.


def resize(
    images: Array, scale: Array, shift: Array, out: Array, to_bits: Callable[[Array], Array] | None = None
) -> None:
    levels = reference.resize(images, scale, shift, out.shape[1])
    if out.dtype == np.uint16:
        nearest = reference.bfloat16(levels) if to_bits is None else levels
        out[...] = (to_bits or (lambda bits: bits >> 16))(nearest.astype(np.float32).view(np.uint32))
    else:
        out[...] = levels


def resize_takes_one_shift(images: Array, scale: Array, shift: Array, out: Array) -> None:
    resize(images, scale, shift[[0, 0, 0]], out)


def resize_takes_height_for_width(images: Array, scale: Array, shift: Array, out: Array) -> None:
    resize(images.reshape(*images.shape[:2], *images.shape[:1:-1]), scale, shift, out)


def resize_leaves_the_last_numbers(images: Array, scale: Array, shift: Array, out: Array) -> None:
    last = out.copy()
    resize(images, scale, shift, out)
    if out.shape[1] % 4:
        out[:, :, -1, 2] = last[:, :, -1, 2]


def resize_cuts_bits_off(images: Array, scale: Array, shift: Array, out: Array) -> None:
    resize(images, scale, shift, out, lambda bits: bits >> 16)


def resize_rounds_ties_up(images: Array, scale: Array, shift: Array, out: Array) -> None:
    resize(images, scale, shift, out, lambda bits: (bits + np.uint32(0x8000)) >> 16)


@pytest.mark.parametrize("dtype", resizing.DTYPES)
def test_sound_resizing_passes(backend_with: BackendWith, dtype: str, seed: int) -> None:
    for _, check in resizing.CHECKS[:3]:
        check(backend_with(), resize, dtype, seed)


@pytest.mark.parametrize(
    ("hazard", "bug", "dtype", "sentence"),
    [
        ("sizes", resize_takes_one_shift, "float32", "channel 1: error .* over the tolerance"),
        ("sizes", resize_takes_height_for_width, "float32", r"\(3, 3, 9, 7\) to 24.* over the tolerance"),
        ("sizes", resize_leaves_the_last_numbers, "float32", r"to 5,.* error inf .* got nan"),
        ("sizes", resize_cuts_bits_off, "uint16", "channel 0: .* elements differ"),
        ("exact", resize_rounds_ties_up, "uint16", "exact, uint16.*: .* elements differ"),
    ],
)
def test_a_bug_of_resizing_is_found(
    backend_with: BackendWith, hazard: str, bug: Callable[..., None], dtype: str, sentence: str, seed: int
) -> None:
    with pytest.raises(AssertionError, match=rf"planted kernel resize \(.*{sentence}"):
        dict(resizing.CHECKS)[hazard](backend_with(), bug, dtype, seed)
