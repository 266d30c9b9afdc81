"""The checks of augmentations' kernels by where images lie, how many and how large they are, and by threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle, product

import numpy as np

from fastmlp.backends.base import Array, Backend, Kernel
from fastmlp.common.errors import BackendError
from fastmlp.testing.augment_cases import AUGMENT_CASES, SQUARES
from fastmlp.testing.check import Check, SkipError
from fastmlp.testing.compare import HostArray, assert_rounded
from fastmlp.testing.image_layouts import WITH_GAPS, starting_at
from fastmlp.testing.layouts import Layout, Placed
from fastmlp.testing.op_case import Inputs, OpCase, Shape, Trial
from fastmlp.testing.parity import takes

POISONS = (170, 0, 85)
STARTS = (0, 1, 4, 8)
ALIGNED = (starting_at(0, 0), starting_at(0))
LAYOUTS = (
    *((starting_at(images, 0), starting_at(results)) for images, results in product(STARTS, repeat=2)),
    (starting_at(15, 0), starting_at(15)),
    *((layout, ALIGNED[1]) for layout in WITH_GAPS),
    *((ALIGNED[0], layout) for layout in WITH_GAPS),
    *((layout, layout) for layout in WITH_GAPS),
)
MANY = {"hflip": 70_000}  # more than 16 bits count; of other ops OTHERS, more than any GPU runs blocks at once
OTHERS = 5000
DIFFERENT = 47  # of them, which divides no number of blocks or threads
THREADS = (1, 2, 3, 5, 1000)
SHARED = 333  # images: no two of five threads get equally many
FAR = 2**32  # bytes: places beyond are no numbers of 32 bits
# More columns, rows or pixels than 16 bits count; lines so long only of what float32 keeps exactly.
LONG: tuple[Shape, ...] = ((2, 3, 2, 33_000), (2, 3, 33_000, 2))
LARGE = {
    "rotate": (("ties", LONG[0]), ("ties", LONG[1]), ("plain", (1, 3, 262, 270))),
    "rotate_by_shears": (("plain", (1, 3, 201, 201)),),
    "contrast": (
        ("ties", LONG[0]),
        ("hard", (1, 3, 512, 512)),  # whose sum float32 does not hold
        ("hard", (1, 3, 1680, 1680)),  # nor, all white, 32 bits
    ),
}


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """For each kernel of an augmentation; large images for array code too."""
    for case in () if quick else AUGMENT_CASES:
        array_code = partial(case.array_code, backend.xp)
        large = partial(assert_large, backend, case, array_code, seed, "array code")
        yield Check(f"{case.op}, large images, array code, uint8", large)
    for case in AUGMENT_CASES:
        if (kernel := case.kernel(backend)) is None:
            continue
        for hazard, check in CHECKS[:2] if quick else CHECKS:
            yield Check(f"{case.op}, {hazard}, kernel, uint8", partial(check, backend, case, kernel, seed))


def assert_anywhere_in_memory(backend: Backend, case: OpCase, kernel: Kernel, seed: int) -> None:
    """Contiguous images and results starting at any byte; with gaps, a kernel may refuse them."""
    poisons = cycle(POISONS)
    for shape in ((5, 3, 4, 4),) if _only_squares(case) else ((5, 3, 4, 4), (5, 3, 6, 4)):
        trial = Trial(case, shape, "uint8", "part", seed=seed)
        inputs, levels = trial.inputs(), _levels(trial.case, trial.inputs())
        for of_images, of_results in LAYOUTS:
            what = f"{backend} kernel {trial}, images {of_images.name}, out {of_results.name}"
            _assert_placed(what, backend, kernel, inputs, levels, (of_images, of_results), next(poisons))


def assert_many(backend: Backend, case: OpCase, kernel: Kernel, seed: int) -> None:
    """Small images, of which each block of a GPU has to take several."""
    count = MANY.get(case.op, OTHERS)
    inputs, levels = _repeated(case, count, seed)
    _assert_placed(f"{backend} kernel {case.op} ({count} images, seed {seed})", backend, kernel, inputs, levels)


def assert_shared_out(backend: Backend, case: OpCase, kernel: Kernel, seed: int) -> None:
    """By one thread, by several with unequal shares, and by more threads than there are images."""
    inputs, levels = _repeated(case, SHARED, seed)
    before = backend.threads
    try:
        for threads in THREADS:
            backend.set_threads(threads)
            what = f"{backend} kernel {case.op} ({SHARED} images, {threads} threads, seed {seed})"
            _assert_placed(what, backend, kernel, inputs, levels)
    finally:
        backend.set_threads(before)


def assert_large(backend: Backend, case: OpCase, kernel: Kernel, seed: int, code: str = "kernel") -> None:
    """Images whose places and sums need more than 16 bits, or more than float32 has."""
    otherwise = tuple(("hard" if "hard" in case.draws else "plain", shape) for shape in LONG)
    for variant, shape in LARGE.get(case.op, otherwise):
        trial = Trial(case, shape, "uint8", variant, seed=seed)
        inputs = trial.inputs()
        _assert_placed(f"{backend} {code} {trial}", backend, kernel, inputs, _levels(case, inputs))


def assert_beyond_32_bits(backend: Backend, case: OpCase, kernel: Kernel, seed: int) -> None:
    """Three of more than 4 GiB of images, most of which no one touches, so that the system need not have the memory."""
    inputs = Trial(case, (3, 3, 32, 32), "uint8", "plain", seed=seed).inputs()
    count = FAR // inputs["images"][0].nbytes + 3
    far = np.array([count - 1, 1, count // 2 + 2])
    images, out = (untouched(backend, (count, 3, 32, 32)) for _ in range(2))
    for row, image in zip(far, inputs["images"], strict=True):
        images[int(row), ...] = backend.asarray(image)
    kernel(images, *map(backend.asarray, (far[inputs["rows"]], *list(inputs.values())[2:])), out)
    backend.synchronize()
    got = np.stack([backend.to_numpy(out[int(row), ...]) for row in far])
    what = f"{backend} kernel {case.op} (images {far.tolist()} of {count}, seed {seed})"
    assert_rounded(what, got, _levels(case, inputs), 0)


CHECKS = (
    ("anywhere in memory", assert_anywhere_in_memory),
    ("many images", assert_many),
    ("shared among threads", assert_shared_out),
    ("large images", assert_large),
    ("batch over 4 GiB", assert_beyond_32_bits),
)


# Parts of these.


def _assert_placed(
    what: str,
    backend: Backend,
    kernel: Kernel,
    inputs: Inputs,
    levels: HostArray,
    layouts: tuple[Layout, Layout] = ALIGNED,
    poison: int = POISONS[0],
) -> None:
    """The kernel makes these levels of images and in results laid out so, or refuses where there are gaps."""
    pictures, *others = inputs.values()
    full = np.array([poison], np.uint8)
    images = Placed(backend, pictures.shape, layouts[0], full, pictures, writable=True)
    out = Placed(backend, pictures.shape, layouts[1], full, None, writable=True)
    given = (images.array, *map(backend.asarray, others), out.array)
    if takes(what, backend, kernel, given, may_refuse=not all(layout.contiguous for layout in layouts)):
        images.assert_unchanged(f"{what}: changed its images", f"{what}: changed what is around its images")
        assert_rounded(what, out.read(f"{what}: written outside"), levels, poison)


def _levels(case: OpCase, inputs: Inputs) -> HostArray:
    levels: HostArray = case.truth(**inputs)["out"]
    return levels


def _repeated(case: OpCase, count: int, seed: int) -> tuple[Inputs, HostArray]:
    """So many images, of which few are different, in random order, and the levels of the results."""
    shape = (DIFFERENT, 3, 3, 3) if _only_squares(case) else (DIFFERENT, 3, 2, 3)
    few = Trial(case, shape, "uint8", "plain", seed=seed).inputs()
    few_levels = _levels(case, few)
    which, rows = np.arange(count) % DIFFERENT, np.random.default_rng(seed).permutation(count)
    inputs = {name: values[which] for name, values in few.items()}
    inputs["images"], levels = np.empty((count, *shape[1:]), np.uint8), np.empty((count, *shape[1:]))
    inputs["rows"], inputs["images"][rows], levels[rows] = (
        rows,
        few["images"][few["rows"]][which],
        few_levels[few["rows"]][which],
    )
    return inputs, levels


def _only_squares(case: OpCase) -> bool:
    return case.shapes == SQUARES


def untouched(backend: Backend, shape: Shape) -> Array:
    """An array on the device that is not set. Raises SkipError if it cannot be had without its memory."""
    if type(backend).empty is Backend.empty:
        raise SkipError(f"{backend} copies what its arrays begin with, so this would take {2 * FAR:,} bytes of memory")
    try:
        return backend.empty(shape, "uint8")
    except (MemoryError, BackendError) as error:
        raise SkipError(f"there is no room for {FAR:,} bytes of images and as many of results: {error}") from None
