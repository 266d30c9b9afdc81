"""The kernel that enlarges and normalises, emulated, against PyTorch's interpolate and exact arithmetic."""

import numpy as np
import pytest

from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import EmulatedDriver
from fastmlp.kernels.cuda.resize import Resize
from fastmlp.testing.compare import assert_close
from fastmlp.testing.emulated import EmulatedBackend

torch = pytest.importorskip("torch")

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's
SCALE, SHIFT = (1 / (255 * STD)).astype("f4"), (-MEAN / STD).astype("f4")
ROUNDING = 1e-6  # of a few steps in float32; a wrong neighbour or weight is 1e-2 off
ROUNDING_OF_PLACES = 1e-5  # and of a place of up to 32 pixels, times a step from black to white
# (n, height, width, size): sixteen bytes at a time where 3 size is a multiple of four, or of eight; else one by one.
SHAPES = [(1, 1, 1, 1), (2, 1, 1, 4), (2, 7, 9, 20), (3, 9, 7, 24), (2, 7, 9, 10), (1, 5, 33, 40), (1, 32, 32, 224)]


def resized(backend, images, size, dtype="float32"):
    """By the kernel, into memory between guard zones."""
    out = backend.empty((len(images), size, size, 3), dtype)
    placed = [backend.asarray(array) for array in (images, SCALE, SHIFT)]
    pixels, scale, shift = placed
    Resize(backend.driver)(pixels, scale, shift, out)
    return backend.to_numpy(out)


def by_torch(images, size, dtype):
    """(n, size, size, 3) by PyTorch's interpolate, in that precision."""
    pixels = torch.as_tensor(images).to(dtype)
    pixels = pixels * torch.as_tensor(SCALE).to(dtype).view(3, 1, 1) + torch.as_tensor(SHIFT).to(dtype).view(3, 1, 1)
    shaped = torch.nn.functional.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
    return shaped.permute(0, 2, 3, 1).numpy()


def draw(rng, n, height, width):
    return rng.integers(0, 256, (n, 3, height, width), dtype=np.uint8)


@pytest.mark.parametrize(("n", "height", "width", "size"), SHAPES)
def test_resized_is_interpolated_emulated(emulated, rng, n, height, width, size):
    images = draw(rng, n, height, width)
    got = resized(emulated, images, size)
    assert_close("exactly", got, by_torch(images, size, torch.float64), ROUNDING_OF_PLACES)
    assert_close("by PyTorch", got, by_torch(images, size, torch.float32), ROUNDING_OF_PLACES)


def test_whole_pixels_are_only_normalised_emulated(emulated, rng):
    """At the images' own size, where no place has to be rounded."""
    images = draw(rng, 3, 8, 8)
    expected = images.transpose(0, 2, 3, 1) * SCALE.astype("f8") + SHIFT
    assert_close("normalised", resized(emulated, images, 8), expected, ROUNDING)


@pytest.mark.parametrize(("n", "height", "width", "size"), SHAPES)
def test_bfloat16_is_the_nearest_one_emulated(emulated, rng, n, height, width, size):
    images = draw(rng, n, height, width)
    expected = torch.as_tensor(resized(emulated, images, size)).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(resized(emulated, images, size, "uint16"), expected)


def test_a_block_makes_several_rows_emulated(emulated, rng, monkeypatch):
    one = EmulatedBackend(EmulatedDriver(Device("one of a multiprocessor", 90, 1, 232_448)))
    images = draw(rng, 5, 6, 8)
    blocks = one.driver.blocks_at_once
    monkeypatch.setattr(one.driver, "blocks_at_once", lambda program, threads: min(3, blocks(program, threads)))
    np.testing.assert_array_equal(resized(one, images, 12), resized(emulated, images, 12))


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_no_images_are_no_launch_emulated(emulated, dtype):
    assert resized(emulated, np.empty((0, 3, 32, 32), np.uint8), 224, dtype).shape == (0, 224, 224, 3)


def test_an_output_that_is_not_aligned_is_written_number_by_number_emulated(emulated, rng):
    images = draw(rng, 2, 5, 6)
    memory = emulated.empty((1 + 2 * 8 * 8 * 3,), "float32")
    out = memory[1:].reshape(2, 8, 8, 3)
    pixels, scale, shift = (emulated.asarray(array) for array in (images, SCALE, SHIFT))
    Resize(emulated.driver)(pixels, scale, shift, out)
    np.testing.assert_array_equal(out, resized(emulated, images, 8))
