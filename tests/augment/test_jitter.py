"""Colour jitter: torchvision's numbers, and its laws."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.augment import Policy
from fastmlp.augment.kinds.jitter import Jitter, jitter
from fastmlp.augment.running import run
from fastmlp.backends import open_backend
from fastmlp.testing.augment_cases import noise
from fastmlp.testing.compare import assert_levels
from fastmlp.testing.op_case import Rng

Images = NDArray[np.uint8]


def jittered(images: Images, brightness: object, saturation: object, backend: str = "numpy") -> Images:
    given = {"brightness": brightness, "saturation": saturation}
    return run(jitter, images, Jitter().arguments(len(images), given), open_backend(backend))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_jitter_equals_torchvisions_of_float_images(rng: Rng, backend: str) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = noise(rng, (8, 3, 32, 32))
    floats = torch.from_numpy(images).float() / 255
    for brightness, saturation in (
        (1, 1),
        (0.8, 1.2),
        (1.2, 0.8),
        (0, 1),
        (1, 0),
        (3, 2.5),
        *rng.uniform(0, 2, (6, 2)),
    ):
        bright = functional.adjust_brightness(floats, float(brightness))
        expected = (functional.adjust_saturation(bright, float(saturation)) * 255).round().byte().numpy()
        assert_levels(f"{brightness}, {saturation}", jittered(images, brightness, saturation, backend), expected)


def test_factors_of_one_change_nothing_and_zeros_leave_black_and_grey(rng: Rng) -> None:
    images = noise(rng, (5, 3, 9, 7))
    np.testing.assert_array_equal(jittered(images, 1, 1), images)
    assert not jittered(images, 0, 1).any()
    grey = jittered(images, 1, 0)
    np.testing.assert_array_equal(grey, np.broadcast_to(grey[:, :1], grey.shape))


def test_each_image_has_its_own_two_factors(rng: Rng) -> None:
    plan = augment.draw(rng, 3000, Policy.parse("jitter=0.5:0.9"))
    brightness, saturation = plan.parameters["jitter"].values()
    for factors in (brightness, saturation):
        assert 0.5 <= factors.min() < 0.51 < 0.89 < factors.max() <= 0.9
    assert abs(np.corrcoef(brightness, saturation)[0, 1]) < 0.1
    images = noise(rng, (3000, 3, 4, 4))
    expected = jittered(images, brightness, saturation)
    np.testing.assert_array_equal(augment.apply(open_backend("numba"), images, plan), expected)


def test_jitter_beside_the_papers_kinds() -> None:
    policy = Policy.parse("jitter=0.8:1.2,cutout=8")
    assert str(policy) == "cutout=8,jitter=0.8:1.2"
    assert policy.as_dict() == {"cutout_size": 8, "jitter_lowest": 0.8, "jitter_highest": 1.2}
