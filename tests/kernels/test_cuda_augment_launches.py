"""How the augmentations and the resizing are launched: grids, blocks, shared memory, arguments."""

import array_api_compat.numpy
import numpy as np
import pytest

from fastmlp import augment
from fastmlp.augment import ops
from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda.augmentations import BLOCK, STAGED_BYTES, Augmentations
from fastmlp.kernels.cuda.resize import Resize
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.op_case import Trial
from tests.kernels.launches import BLOCKS_A_MULTIPROCESSOR, RecordingDriver

AT_ONCE = 132 * BLOCKS_A_MULTIPROCESSOR
CASES = {case.op: case for case in AUGMENT_CASES}
TYPES = {"padding": np.int64}  # of the one parameter that is no array


class RecordedBackend(CudaBackend):
    name = "recorded"
    xp = array_api_compat.numpy

    def __init__(self):
        super().__init__(None, RecordingDriver())

    @classmethod
    def probe(cls):
        raise NotImplementedError

    def asarray(self, array):
        return array

    def to_numpy(self, array):
        return array


@pytest.fixture
def driver():
    return RecordingDriver()


def launch(driver, op, shape):
    """The op's one launch, its inputs and its output."""
    inputs = Trial(CASES[op], shape, "uint8").inputs()
    out = np.empty(shape, np.uint8)
    getattr(Augmentations(driver), op)(*inputs.values(), out)
    (launched,) = driver.launched
    return launched, inputs, out


@pytest.mark.parametrize("op", ops.OPS)
def test_the_arguments_are_the_ops_and_then_the_sizes(driver, op):
    launched, inputs, out = launch(driver, op, (5, 3, 7, 7))
    assert (launched.program.file, launched.program.kernel) == (f"{op}.cu", op)
    *arrays, n, height, width = launched.arguments
    for (name, given), got in zip([*inputs.items(), ("out", out)], arrays, strict=True):
        if name in TYPES:
            assert type(got) is TYPES[name]
            assert got == given
        else:
            assert got is given, name
    assert [(type(value), int(value)) for value in (n, height, width)] == [(np.int64, 5), (np.int32, 7), (np.int32, 7)]


@pytest.mark.parametrize("op", ops.OPS)
@pytest.mark.parametrize(("n", "grid"), [(1, 1), (AT_ONCE, AT_ONCE), (AT_ONCE + 1, AT_ONCE), (70_000, AT_ONCE)])
def test_a_block_an_image_and_no_more_than_run_at_once(driver, op, n, grid):
    launched, _, _ = launch(driver, op, (n, 3, 2, 2))
    assert launched.grid == (grid,)
    assert launched.block == BLOCK == (32, 4)


@pytest.mark.parametrize("side", [1, 7, 32, 63, 64, 200])
def test_images_are_staged_where_several_fit(driver, side):
    """Twice, each from a multiple of sixteen bytes on, and 32 bytes for sums."""
    launched, _, _ = launch(driver, "contrast", (2, 3, side, side))
    both = 2 * (-(-3 * side * side // 16) * 16)
    staged = side < 64
    assert launched.constants == {"STAGED": str(int(staged))}
    assert launched.program.shared_memory == (both + 32 if staged else 32) <= STAGED_BYTES


@pytest.mark.parametrize("op", ops.OPS)
def test_no_images_are_no_launch(driver, op):
    inputs = Trial(CASES[op], (0, 3, 8, 8), "uint8").inputs()
    getattr(Augmentations(driver), op)(*inputs.values(), np.empty((0, 3, 8, 8), np.uint8))
    assert driver.launched == []


def test_arrays_with_gaps_are_refused(driver):
    images = np.zeros((2, 3, 4, 8), np.uint8)
    for pictures, out in ((images[..., ::2], images[..., :4].copy()), (images[..., :4].copy(), images[..., ::2])):
        with pytest.raises(UsageError, match="contiguous"):
            Augmentations(driver).hflip(pictures, np.array([True, False]), out)


def test_images_beyond_32_bit_places_are_refused(driver):
    class Huge:
        """One image of 2.7 GB that takes no memory."""

        shape, size, flags = (1, 3, 30_000, 30_000), 2_700_000_000, np.zeros(1).flags

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self

    with pytest.raises(UsageError, match=r"up to 2,147,483,647 bytes each, not 2,700,000,000: scale them down"):
        Augmentations(driver).hflip(Huge(), np.array([True]), np.empty(0))


# A plan.


def test_a_plan_is_one_launch(rng):
    backend = RecordedBackend()
    images = rng.integers(0, 256, (3_000, 3, 32, 32), dtype=np.uint8)
    augment.apply(backend, images, augment.draw(rng, len(images)))
    (launched,) = backend.driver.launched
    assert launched.program.kernel == "augment"
    assert launched.arguments[0] is images or launched.arguments[0].base is images


def test_a_plan_for_more_images_than_fit_is_a_launch_a_part(rng, monkeypatch):
    monkeypatch.setattr(augment, "BYTES_AT_ONCE", 40 * 3 * 8 * 8)
    backend = RecordedBackend()
    images = rng.integers(0, 256, (100, 3, 8, 8), dtype=np.uint8)
    augment.apply(backend, images, augment.draw(rng, len(images), height=8, width=8))
    assert [len(launched.arguments[0]) for launched in backend.driver.launched] == [40, 40, 20]


# Resizing.


@pytest.mark.parametrize(
    ("size", "dtype", "threads"),
    [(224, "float32", 192), (224, "uint16", 96), (1, "float32", 32), (2000, "float32", 256)],
)
def test_resizing_takes_a_block_a_row(driver, size, dtype, threads):
    images, out = np.zeros((2, 3, 5, 6), np.uint8), np.empty((2, size, size, 3), dtype)
    scale, shift = np.ones(3, "f4"), np.zeros(3, "f4")
    Resize(driver)(images, scale, shift, out)
    (launched,) = driver.launched
    assert launched.block == (threads,)
    assert launched.grid == (min(2 * size, AT_ONCE),)
    assert launched.program.shared_memory == 3 * 6 * 4
    assert launched.constants == {"BFLOAT16": "1" if dtype == "uint16" else "0"}
    assert all(got is given for got, given in zip(launched.arguments, (images, scale, shift, out), strict=False))
    assert [(type(value), int(value)) for value in launched.arguments[4:]] == [
        (np.int32, number) for number in (2 * size, 5, 6, size)
    ]


def test_resizing_no_images_is_no_launch(driver):
    Resize(driver)(np.zeros((0, 3, 5, 6), np.uint8), np.ones(3, "f4"), np.zeros(3, "f4"), np.empty((0, 8, 8, 3), "f4"))
    assert driver.launched == []
