"""The checks of the kernel that prepares images for a convolutional network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np

from fastmlp.backends.base import Backend, Kernel
from fastmlp.testing.augment_cases import noise, tinted
from fastmlp.testing.check import Check
from fastmlp.testing.compare import HostArray, assert_close, assert_equal
from fastmlp.testing.image_checks import FAR, untouched
from fastmlp.testing.image_layouts import WITH_GAPS, starting_at
from fastmlp.testing.layouts import Layout, Placed
from fastmlp.testing.parity import takes
from fastmlp.testing.reference import images as reference
from fastmlp.testing.tolerances import STEP

DTYPES = {"float32": np.nan, "uint16": 0xAAAA}  # of the results, bfloat16 as its bits, and their poison
# (n, height, width, size): the images' own size, larger, oblong, smaller one way and both, longer than a block's
# threads, of odd numbers, more than a thread's packet, and more rows than a GPU runs blocks at once.
SIZES = (
    (0, 8, 8, 8),
    (3, 8, 8, 8),
    (2, 32, 32, 32),
    (1, 1, 1, 5),
    (1, 1, 1, 1),
    (2, 8, 8, 20),
    (3, 9, 7, 24),
    (2, 5, 12, 31),
    (2, 40, 6, 16),
    (2, 6, 70, 2),
    (1, 67, 66, 9),
    (1, 3, 4, 400),
    (1, 3, 4, 301),
    (3000, 2, 3, 3),
)
SCALE = np.array([1 / 58, -1 / 3, 2], np.float32)
SHIFT = np.array([-2.1, 0.5, 30], np.float32)
ALIGNED = (starting_at(0, 0), starting_at(0))
Layouts = tuple[Layout, Layout]  # of the images and of the result


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """For the backend's `resize`, if it has one."""
    if (kernel := backend.resize) is None:
        return
    for dtype in DTYPES:
        for hazard, check in CHECKS[:2] if quick else CHECKS:
            yield Check(f"resize, {hazard}, kernel, {dtype}", partial(check, backend, kernel, dtype, seed))


def assert_sizes(backend: Backend, kernel: Kernel, dtype: str, seed: int) -> None:
    """Images of many sizes, of which each channel has a scale and a shift of its own."""
    rng = np.random.default_rng(seed)
    for n, height, width, size in SIZES:
        for draw in (noise, tinted):
            images = draw(rng, (n, 3, height, width))
            _assert_resized(backend, kernel, images, size, dtype, seed)


def assert_exact(backend: Backend, kernel: Kernel, dtype: str, seed: int) -> None:
    """Whole numbers, of which float32 loses nothing, and bfloat16 every second one in a tie; and NaN stays NaN."""
    images = noise(np.random.default_rng(seed), (3, 3, 8, 8))
    nan = np.array([0x7FFFFFFF], np.uint32).view(np.float32)[0]  # a GPU's own, the largest there is
    shift = np.array([256, -1, nan], np.float32)
    what = f"{backend} kernel resize (exact, {dtype}, seed {seed})"
    got = _run(what, backend, kernel, images, np.ones(3, np.float32), shift, 8, dtype)
    exact = images.transpose(0, 2, 3, 1) + shift.astype(np.float64)
    assert got is not None  # contiguous arrays are not refused
    assert_equal(what, got, reference.bfloat16(exact) if dtype == "uint16" else exact)


def assert_anywhere_in_memory(backend: Backend, kernel: Kernel, dtype: str, seed: int) -> None:
    """Contiguous images and results starting at any number; with gaps, the kernel may refuse them."""
    images = noise(np.random.default_rng(seed), (2, 3, 5, 6))
    starts = product((0, 1, 2), (0, 1, 2, 4, 7))
    contiguous = [(starting_at(of_images, 0), starting_at(of_results)) for of_images, of_results in starts]
    with_gaps = [pair for layout in WITH_GAPS for pair in ((layout, ALIGNED[1]), (ALIGNED[0], layout))]
    for layouts in (*contiguous, *with_gaps):
        _assert_resized(backend, kernel, images, 8, dtype, seed, layouts)


def assert_beyond_32_bits(backend: Backend, kernel: Kernel, dtype: str, seed: int) -> None:
    """More than 4 GiB of images, most of which no one sets, each made one pixel."""
    shape = (3, 1024, 1024)
    count = FAR // int(np.prod(shape)) + 2
    images, last = untouched(backend, (count, *shape)), noise(np.random.default_rng(seed), shape)
    images[count - 1, ...] = backend.asarray(last)
    out = backend.empty((count, 1, 1, 3), dtype)
    kernel(images, backend.asarray(SCALE), backend.asarray(SHIFT), out)
    backend.synchronize()
    got = _numbers(backend.to_numpy(out[count - 1 :, ...]))
    what = f"{backend} kernel resize (the last of {count} images, {dtype}, seed {seed})"
    _judge(what, got, reference.resize(last[None], SCALE, SHIFT, 1), dtype)


CHECKS: tuple[tuple[str, Callable[[Backend, Kernel, str, int], None]], ...] = (
    ("sizes", assert_sizes),
    ("exact", assert_exact),
    ("anywhere in memory", assert_anywhere_in_memory),
    ("batch over 4 GiB", assert_beyond_32_bits),
)


# Parts of these.


def _assert_resized(
    backend: Backend,
    kernel: Kernel,
    images: HostArray,
    size: int,
    dtype: str,
    seed: int,
    layouts: Layouts = ALIGNED,
) -> None:
    places = f"images {layouts[0].name}, out {layouts[1].name}"
    what = f"{backend} kernel resize ({images.shape} to {size}, {dtype}, {places}, seed {seed})"
    got = _run(what, backend, kernel, images, SCALE, SHIFT, size, dtype, layouts)
    if got is not None:
        _judge(what, got, reference.resize(images, SCALE, SHIFT, size), dtype)


def _run(
    what: str,
    backend: Backend,
    kernel: Kernel,
    images: HostArray,
    scale: HostArray,
    shift: HostArray,
    size: int,
    dtype: str,
    layouts: Layouts = ALIGNED,
) -> HostArray | None:
    """What the kernel makes of these images, as numbers; None if it refuses them, as it may where there are gaps."""
    shape, poison = (len(images), size, size, 3), np.array([DTYPES[dtype]], dtype)
    pixels = Placed(backend, images.shape, layouts[0], np.array([170], np.uint8), images, writable=True)
    out = Placed(backend, shape, layouts[1], poison, None, writable=True)
    given = (pixels.array, backend.asarray(scale), backend.asarray(shift), out.array)
    if not takes(what, backend, kernel, given, may_refuse=not all(layout.contiguous for layout in layouts)):
        return None
    pixels.assert_unchanged(f"{what}: changed its images", f"{what}: changed what is around its images")
    return _numbers(out.read(f"{what}: written outside"))


def _numbers(result: HostArray) -> HostArray:
    """float32, also of bfloat16's bits."""
    return result if result.dtype == np.float32 else (result.astype(np.uint32) << 16).view(np.float32)


def _judge(what: str, got: HostArray, exact: HostArray, dtype: str) -> None:
    """Each channel to float32's tolerance; in bfloat16 the nearest number of one that is so near to the exact one."""
    for c in range(3):
        of_channel, levels = got[..., c], exact[..., c]
        if dtype == "uint16":
            tolerance = STEP["float32"] * np.abs(levels).max(initial=0)
            lowest, highest = reference.bfloat16(levels - tolerance), reference.bfloat16(levels + tolerance)
            levels = np.where(of_channel < lowest, lowest, np.where(of_channel > highest, highest, of_channel))
            assert_equal(f"{what}: channel {c}", of_channel, levels)
        else:
            assert_close(f"{what}: channel {c}", of_channel, levels, STEP["float32"])
