"""The references of images against libraries: PyTorch's interpolate and bfloat16, torchvision's rotation."""

import numpy as np
import pytest

from fastmlp.testing.augment_cases import noise
from fastmlp.testing.op_case import Rng
from fastmlp.testing.reference import images as reference

torch = pytest.importorskip("torch")

SCALE, SHIFT = np.array([1 / 58, -1 / 3, 2]), np.array([-2.1, 0.5, 30])


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 8), (1, 1, 5), (9, 7, 24), (40, 6, 16), (5, 33, 3)])
def test_resizing_equals_pytorchs_interpolate(rng: Rng, height: int, width: int, size: int) -> None:
    images = noise(rng, (2, 3, height, width))
    pixels = torch.from_numpy(images).double()
    enlarged = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
    expected = enlarged.permute(0, 2, 3, 1).numpy() * SCALE + SHIFT
    np.testing.assert_allclose(reference.resize(images, SCALE, SHIFT, size), expected, rtol=0, atol=1e-10)


def test_bfloat16_equals_pytorchs(rng: Rng) -> None:
    values = np.r_[rng.normal(0, 100, 1000), np.arange(250, 520), -257, 0, 2**-100, np.nan].astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(reference.bfloat16(values), expected)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (7, 12), (12, 5)])
def test_rotations_equal_torchvisions(rng: Rng, height: int, width: int) -> None:
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = noise(rng, (4, 3, height, width))
    degrees = rng.uniform(-180, 180, 4)
    radians = np.deg2rad(degrees)
    levels = reference.rotate(images, np.arange(4), np.cos(radians), np.sin(radians))["out"]
    mode = functional.InterpolationMode.BILINEAR
    for image, angle, got in zip(torch.from_numpy(images).float(), degrees, levels, strict=True):
        np.testing.assert_allclose(got, functional.rotate(image, float(angle), mode).numpy(), rtol=0, atol=0.01)


def test_rows_that_are_not_named_have_no_levels(rng: Rng) -> None:
    images, rows = noise(rng, (5, 3, 4, 4)), np.array([3, 1])
    levels = reference.hflip(images, rows, np.array([True, False]))["out"]
    np.testing.assert_array_equal(levels[3], images[3, :, :, ::-1])
    np.testing.assert_array_equal(levels[1], images[1])
    assert np.isnan(levels[[0, 2, 4]]).all()


def test_only_short_numbers_are_rounded_and_to_even() -> None:
    """Of the mean 100: 101 and 99 at half the contrast are 100.5 and 99.5."""
    images = np.array([101, 99, 101, 99, 101, 99], np.uint8).reshape(1, 3, 1, 2)
    for factor, expected in ((0.5, [100, 100]), (0.3, [100.3, 99.7])):
        levels = reference.contrast(images, np.array([0]), np.array([factor]), np.array([False]))["out"]
        np.testing.assert_allclose(levels[0, 0, 0], expected, rtol=1e-12)
