"""Numba's augmentations equal NumPy's array code to the bit, at sizes, layouts and parameters where kernels branch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.backends import open_backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.op_case import OpCase, Trial

Images = NDArray[np.uint8]

# One pixel, one row, one column, odd, oblong, CIFAR-10's, and enough images for two threads.
SHAPES = [(2, 3, 1, 1), (3, 3, 1, 9), (3, 3, 9, 1), (5, 3, 7, 33), (5, 3, 33, 7), (4, 3, 32, 32), (150, 3, 6, 5)]
LAYOUTS: dict[str, Callable[[Images], Images]] = {
    "contiguous": lambda images: images,
    "channels last": lambda images: np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "every second column": lambda images: np.repeat(images, 2, axis=3)[..., ::2],
    "upside down": lambda images: images[:, :, ::-1, ::-1],
    "one image over and over": lambda images: np.broadcast_to(images[:1], images.shape),
}


def assert_equal_to_numpys(op: str, images: Images, *parameters: Any) -> None:
    got, expected = (
        getattr(augment, op)(images, *parameters, backend=open_backend(name, threads=2)) for name in ("numba", "numpy")
    )
    np.testing.assert_array_equal(got, expected, err_msg=f"{op} {images.shape}")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_size_and_layout(rng: np.random.Generator, shape: tuple[int, ...], layout: str) -> None:
    n, _, height, width = shape
    images = LAYOUTS[layout](rng.integers(0, 256, shape, dtype=np.uint8))
    assert_equal_to_numpys("rotate", images, rng.uniform(-360, 360, n))
    assert_equal_to_numpys("rotate", images, rng.choice([-90, 0, 45, 90, 180], n))
    assert_equal_to_numpys("contrast", images, rng.uniform(-3, 9, n))
    assert_equal_to_numpys("hflip", images, rng.random(n) < 0.5)
    top, left = rng.integers(-9, height + 3, n), rng.integers(-9, width + 3, n)
    assert_equal_to_numpys("cutout", images, top, left, rng.integers(0, 12, n))
    for padding in (0, 1, 4, 50):
        assert_equal_to_numpys("crop", images, *rng.integers(0, 2 * padding, (2, n), endpoint=True), padding)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("height", [1, 2, 3, 4])
def test_crops_by_every_offset(rng: np.random.Generator, height: int, width: int) -> None:
    """Of less than the image, of exactly it, and of more, in all directions."""
    dy, dx = (offsets.ravel() for offsets in np.indices((13, 13)))
    images = rng.integers(1, 256, (len(dy), 3, height, width), dtype=np.uint8)
    assert_equal_to_numpys("crop", images, dy, dx, 6)


@pytest.mark.parametrize("shape", [(700, 3, 12, 10), (3, 3, 7, 9), (0, 3, 8, 8)], ids=str)
def test_plans(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """Of several parts and two threads, of no image of some kinds, and of none at all."""
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    images.flags.writeable = False
    plan = augment.draw(rng, len(images), height=shape[2], width=shape[3])
    got, expected = (augment.apply(open_backend(name, threads=2), images, plan) for name in ("numba", "numpy"))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("case", AUGMENT_CASES, ids=lambda case: case.op)
def test_an_output_of_any_layout_is_filled(case: OpCase) -> None:
    shape = (150, 3, 6, 6)
    inputs = Trial(case, shape, "uint8", "part").inputs().values()
    expected, whole = np.full(shape, 170, np.uint8), np.full((150, 3, 6, 12), 170, np.uint8)
    case.array_code(NumpyBackend.xp, *inputs, expected)
    open_backend("numba", threads=2).image_kernels[case.op](*inputs, whole[..., ::2])
    np.testing.assert_array_equal(whole[..., ::2], expected)
    assert (whole[..., 1::2] == 170).all()
