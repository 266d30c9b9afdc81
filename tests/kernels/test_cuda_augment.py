"""The CUDA kernels of the augmentations, emulated, equal NumPy's array code to the bit, wherever they branch."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.augment import running
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda import augment as cuda
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import EmulatedDriver
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.testing.op_case import Inputs, OpCase, Trial

Images = NDArray[np.uint8]

# One pixel, one row, one column, odd, oblong, longer than a warp, CIFAR-10's, and too large to be staged.
SHAPES = [(2, 3, 1, 1), (2, 3, 1, 9), (2, 3, 9, 1), (3, 3, 7, 9), (2, 3, 5, 70), (2, 3, 33, 7), (3, 3, 32, 32)]
LARGE = (1, 3, 66, 66)
CASES = {case.op: case for case in AUGMENT_CASES}


def assert_equal_to_numpys(
    emulated: EmulatedBackend, op: str, images: Images, *parameters: Any, **options: Any
) -> None:
    function = getattr(augment, op)
    got = function(emulated.asarray(images), *parameters, **options, backend=emulated)
    expected = function(images, *parameters, **options, backend=NumpyBackend())
    np.testing.assert_array_equal(got, expected, err_msg=f"{op} {images.shape}")


@pytest.mark.parametrize("shape", [*SHAPES, LARGE], ids=str)
def test_every_size_emulated(emulated: EmulatedBackend, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    n, _, height, width = shape
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    assert_equal_to_numpys(emulated, "rotate", images, rng.uniform(-360, 360, n))
    assert_equal_to_numpys(emulated, "rotate", images, rng.choice([-90, 0, 45, 90, 180], n))
    assert_equal_to_numpys(emulated, "contrast", images, rng.uniform(-3, 9, n))
    assert_equal_to_numpys(emulated, "hflip", images, np.arange(n) % 2 == 0)
    top, left = rng.integers(-9, height + 3, n), rng.integers(-9, width + 3, n)
    assert_equal_to_numpys(emulated, "cutout", images, top, left, rng.integers(0, 12, n))
    for padding in (0, 4, 100):
        assert_equal_to_numpys(emulated, "crop", images, *rng.integers(0, 2 * padding, (2, n), endpoint=True), padding)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 9, 31, 32, 66])
def test_shears_of_every_angle_emulated(emulated: EmulatedBackend, rng: np.random.Generator, side: int) -> None:
    """Quarter turns with the widest shears on both sides of them; white images show whatever leaves the canvas."""
    angles = np.r_[[-180, -135, -90, -45, 0, 44.999, 45, 45.001, 90, 135, 180, 225, 270], rng.uniform(-180, 180, 7)]
    angles = angles if side < 66 else angles[[1, 8, -1]]
    images = rng.integers(0, 256, (len(angles), 3, side, side), dtype=np.uint8)
    images[::2] = 255
    assert_equal_to_numpys(emulated, "rotate", images, angles, method="shear")


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("height", [1, 2, 3])
def test_crops_by_every_offset_emulated(
    emulated: EmulatedBackend, rng: np.random.Generator, height: int, width: int
) -> None:
    """Of less than the image, of exactly it, and of more, in all directions."""
    dy, dx = (offsets.ravel() for offsets in np.indices((9, 9)))
    images = rng.integers(1, 256, (len(dy), 3, height, width), dtype=np.uint8)
    assert_equal_to_numpys(emulated, "crop", images, dy, dx, 4)


def test_parameters_of_any_size_stay_in_memory_emulated(emulated: EmulatedBackend, rng: np.random.Generator) -> None:
    images, far = rng.integers(0, 256, (4, 3, 6, 8), dtype=np.uint8), 2**61
    assert_equal_to_numpys(emulated, "cutout", images, [-far, far, -far, 0], [0, 0, -far, 1], [far, far, far, far])
    assert_equal_to_numpys(emulated, "crop", images, [0, far, 2 * far, far], [far, 0, far, 2 * far - 1], far)


def run_on_numpy(case: OpCase, inputs: Inputs) -> Images:
    out = np.full(inputs["images"].shape, 170, np.uint8)
    case.array_code(NumpyBackend.xp, *inputs.values(), out)
    return out


def run_emulated(emulated: EmulatedBackend, case: OpCase, inputs: Inputs) -> Images:
    out = emulated.asarray(np.full(inputs["images"].shape, 170, np.uint8))
    emulated.image_kernels[case.op](*map(emulated.asarray, inputs.values()), out)
    return emulated.to_numpy(out)


@pytest.mark.usefixtures("can_emulate")
@pytest.mark.parametrize("case", AUGMENT_CASES, ids=lambda case: case.op)
@pytest.mark.parametrize("shape", [(67, 3, 4, 4), (67, 3, 5, 5)], ids=str)
def test_a_block_takes_many_images_emulated(
    case: OpCase, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged or not, sixteen bytes at a time or one; each image gets its own arguments and its own mean."""
    inputs = Trial(case, shape, "uint8", "part").inputs()
    expected = run_on_numpy(case, inputs)
    for staged_bytes in (cuda.STAGED_BYTES, 0):
        monkeypatch.setattr(cuda, "STAGED_BYTES", staged_bytes)
        one = EmulatedBackend(EmulatedDriver(Device("one of a multiprocessor", 90, 1, 232_448)))
        np.testing.assert_array_equal(run_emulated(one, case, inputs), expected)


@pytest.mark.parametrize("op", ["hflip", "contrast"])
@pytest.mark.parametrize("start", [1, 8, 15])
def test_images_anywhere_in_memory_emulated(emulated: EmulatedBackend, op: str, start: int) -> None:
    """As a view has them: the kernel may take sixteen bytes at a time only where they lie at multiples of sixteen."""
    shape = (3, 3, 8, 8)
    inputs = Trial(CASES[op], shape, "uint8").inputs()
    images, *others = inputs.values()
    memory, results = emulated.empty((start + images.size,), "uint8"), emulated.empty((start + images.size,), "uint8")
    view, out = memory[start:].reshape(shape), results[start:].reshape(shape)
    view[...] = images
    emulated.image_kernels[op](view, *map(emulated.asarray, others), out)
    np.testing.assert_array_equal(out, run_on_numpy(CASES[op], inputs))


def test_arrays_with_gaps_are_refused_emulated(emulated: EmulatedBackend) -> None:
    images, rows, flip = np.zeros((2, 3, 4, 8), np.uint8), np.arange(2), np.array([True, False])
    wide, narrow = images[..., ::2], images[..., :4].copy()
    for pictures, out in ((wide, narrow), (narrow, wide)):
        with pytest.raises(UsageError, match="contiguous"):
            emulated.image_kernels["hflip"](pictures, rows, flip, out)


def test_images_beyond_32_bit_places_are_refused_emulated(emulated: EmulatedBackend) -> None:
    class Huge:
        """One image of 2.7 GB that takes no memory."""

        shape, size, flags = (1, 3, 30_000, 30_000), 2_700_000_000, np.zeros(1).flags

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> "Huge":
            return self

    with pytest.raises(UsageError, match=r"up to 2,147,483,647 bytes each, not 2,700,000,000: scale them down"):
        emulated.image_kernels["hflip"](Huge(), np.arange(1), np.array([True]), np.empty(0))


# Plans.


def test_a_plan_equals_its_kinds_emulated(
    emulated: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one for more images than fit at once."""
    images = rng.integers(0, 256, (60, 3, 12, 10), dtype=np.uint8)
    plan = augment.draw(rng, 60, height=12, width=10)
    assert set(plan.kind) == set(range(4))
    expected = augment.apply(NumpyBackend(), images, plan)
    np.testing.assert_array_equal(augment.apply(emulated, images, plan), expected)
    monkeypatch.setattr(running, "BYTES_AT_ONCE", 25 * images[0].nbytes)
    np.testing.assert_array_equal(augment.apply(emulated, images, plan), expected)


def test_kernels_run_all_of_a_plan_emulated(emulated: EmulatedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kind of the paper's falls back to array code: there is none to fall back to here."""
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    plan = augment.draw(np.random.default_rng(0), 40, height=8, width=8)
    monkeypatch.delattr(running, "on_rows")
    assert (augment.apply(emulated, images, plan) != images).any()
