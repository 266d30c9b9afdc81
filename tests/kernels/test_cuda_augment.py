"""The CUDA kernels of the augmentations, emulated, equal NumPy's array code to the bit, wherever they branch."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.augment import ops
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.kernels.cuda import augmentations
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import EmulatedDriver
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.testing.op_case import Trial

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


@pytest.mark.usefixtures("can_emulate")
@pytest.mark.parametrize("op", ops.OPS)
@pytest.mark.parametrize("shape", [(37, 3, 4, 4), (37, 3, 5, 5)], ids=str)
def test_a_block_takes_many_images_emulated(op: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Staged or not, sixteen bytes at a time or one; each image gets its own parameters and its own mean."""
    inputs = Trial(CASES[op], shape, "uint8").inputs()
    expected = np.empty(shape, np.uint8)
    ops.OPS[op](NumpyBackend.xp, *inputs.values(), expected)
    for staged_bytes in (augmentations.STAGED_BYTES, 0):
        monkeypatch.setattr(augmentations, "STAGED_BYTES", staged_bytes)
        one = EmulatedBackend(EmulatedDriver(Device("one of a multiprocessor", 90, 1, 232_448)))
        placed = [one.asarray(value) if isinstance(value, np.ndarray) else value for value in inputs.values()]
        out = one.empty(shape, "uint8")
        one.kernels[op](*placed, out)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("op", ["hflip", "contrast"])
@pytest.mark.parametrize("start", [1, 8, 15])
def test_images_anywhere_in_memory_emulated(emulated: EmulatedBackend, op: str, start: int) -> None:
    """As a view has them: the kernel may take sixteen bytes at a time only where they lie at multiples of sixteen."""
    shape = (3, 3, 8, 8)
    images, parameter = Trial(CASES[op], shape, "uint8").inputs().values()
    memory, results = emulated.empty((start + images.size,), "uint8"), emulated.empty((start + images.size,), "uint8")
    view, out = memory[start:].reshape(shape), results[start:].reshape(shape)
    view[...] = images
    emulated.kernels[op](view, emulated.asarray(parameter), out)
    expected = np.empty(shape, np.uint8)
    ops.OPS[op](NumpyBackend.xp, images, parameter, expected)
    np.testing.assert_array_equal(out, expected)


def test_a_plan_equals_its_kinds_emulated(emulated: EmulatedBackend, rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (60, 3, 12, 10), dtype=np.uint8)
    plan = augment.draw(rng, 60, height=12, width=10)
    assert set(plan.kind) == set(range(4))
    np.testing.assert_array_equal(augment.apply(emulated, images, plan), augment.apply(NumpyBackend(), images, plan))
