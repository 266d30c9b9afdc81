"""The augmentations against references of their own: torchvision, padding and slicing, plain formulas, and laws."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.augment import KINDS, Plan, Policy, running
from fastmlp.augment.kinds.rotation import cosine_and_sine
from fastmlp.backends import open_backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.testing.augment_cases import noise
from fastmlp.testing.compare import assert_levels

Images = NDArray[np.uint8]
Rng = np.random.Generator

SIZES = pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 33), (24, 40), (1, 1)])


def smooth(rng: Rng, n: int, height: int, width: int) -> Images:
    """Sums of waves of at least 16 pixels' length."""
    y, x = np.mgrid[0:height, 0:width]
    images = np.full((n, 3, height, width), 127.5)
    for image in images.reshape(-1, height, width):
        for _ in range(3):
            down, across = rng.uniform(-2 / 32, 2 / 32, 2)
            image[...] += 40 * np.sin(2 * np.pi * (down * y + across * x) + rng.uniform(0, 2 * np.pi))
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


# Against torchvision and plain formulas.


@SIZES
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_rotation_equals_torchvisions(rng: Rng, kind: str, height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2")
    images = noise(rng, (4, 3, height, width)) if kind == "noise" else smooth(rng, 4, height, width)
    for degrees in (0, 90, 180, 270, -45, -90, 360, *rng.uniform(-360, 360, 12)):
        expected = transforms.functional.rotate(
            torch.from_numpy(images), float(degrees), interpolation=transforms.InterpolationMode.BILINEAR
        )
        assert_levels(f"{degrees} degrees", augment.rotate(images, degrees), expected.numpy())


def test_rotation_turns_counter_clockwise(rng: Rng) -> None:
    images = noise(rng, (2, 3, 9, 9))
    for quarters in range(-4, 5):
        expected = np.rot90(images, quarters, axes=(2, 3))
        np.testing.assert_array_equal(augment.rotate(images, 90 * quarters), expected)
        np.testing.assert_array_equal(augment.rotate(images, 90 * quarters, method="shear"), expected)


@pytest.mark.parametrize("side", [32, 33])
def test_both_rotations_agree_on_smooth_images(rng: Rng, side: int) -> None:
    """At most 4 levels apart, 0.3 on average, were measured on such waves; a wrong angle makes tens."""
    images = smooth(rng, 8, side, side)
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    inner = np.hypot(y, x) < side / 2 - 2  # what no turn moves to the edge
    for degrees in rng.uniform(-180, 180, 20):
        bilinear, shear = augment.rotate(images, degrees), augment.rotate(images, degrees, method="shear")
        difference = np.abs(bilinear.astype(int) - shear.astype(int))[:, :, inner]
        assert difference.max() <= 6
        assert difference.mean() <= 0.5


@SIZES
def test_crop_equals_padding_and_slicing(rng: Rng, height: int, width: int) -> None:
    images = noise(rng, (12, 3, height, width))
    dy, dx = rng.integers(0, 6, 12, endpoint=True), rng.integers(0, 6, 12, endpoint=True)
    dy[:4], dx[:4] = (0, 0, 6, 6), (0, 6, 0, 6)
    got = augment.crop(images, dy, dx, padding=3)
    padded = np.pad(images, ((0, 0), (0, 0), (3, 3), (3, 3)))
    for i in range(12):
        np.testing.assert_array_equal(got[i], padded[i, :, dy[i] : dy[i] + height, dx[i] : dx[i] + width])


def test_contrast_equals_its_formula(rng: Rng) -> None:
    images = noise(rng, (6, 3, 8, 9))
    factors = np.array([0, 0.25, 1, 1.7, 40, -1])
    mean = images.astype(float).mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(np.rint(mean + factors[:, None, None, None] * (images - mean)), 0, 255).astype(np.uint8)
    assert_levels("contrast", augment.contrast(images, factors), expected)
    np.testing.assert_array_equal(augment.contrast(images, 1), images)


def test_cutout_zeroes_its_square_and_nothing_else(rng: Rng) -> None:
    images = noise(rng, (5, 3, 10, 12)) | 1  # no zeros of their own
    got = augment.cutout(images, [0, 3, -2, 8, 20], [0, 5, -2, 9, 0], [4, 3, 5, 8, 2])
    expected = images.copy()
    expected[0, :, 0:4, 0:4] = 0
    expected[1, :, 3:6, 5:8] = 0
    expected[2, :, 0:3, 0:3] = 0
    expected[3, :, 8:, 9:] = 0
    np.testing.assert_array_equal(got, expected)


def test_hflip_mirrors_left_and_right(rng: Rng) -> None:
    images = noise(rng, (3, 3, 4, 5))
    got = augment.hflip(images, [True, False, True])
    np.testing.assert_array_equal(got[[0, 2]], images[[0, 2], :, :, ::-1])
    np.testing.assert_array_equal(got[1], images[1])


# Laws.

images_of_any_size = st.builds(
    lambda seed, height, width: noise(np.random.default_rng(seed), (2, 3, height, width)),
    st.integers(0, 999),
    st.integers(1, 12),
    st.integers(1, 12),
)


@given(images_of_any_size)
def test_two_flips_cancel(images: Images) -> None:
    np.testing.assert_array_equal(augment.hflip(augment.hflip(images, True), True), images)


@given(images_of_any_size, st.integers(-3, 3))
def test_whole_turns_change_nothing(images: Images, turns: int) -> None:
    np.testing.assert_array_equal(augment.rotate(images, 360 * turns), images)


@given(images_of_any_size, st.integers(0, 9))
def test_crop_at_the_padding_changes_nothing(images: Images, padding: int) -> None:
    np.testing.assert_array_equal(augment.crop(images, padding, padding, padding), images)


@given(images_of_any_size, st.integers(-15, 15), st.integers(-15, 15), st.integers(0, 15))
def test_cutout_is_zero_inside_and_the_image_outside(images: Images, top: int, left: int, size: int) -> None:
    got = augment.cutout(images, top, left, size)
    rows, columns = np.indices(images.shape[2:])
    inside = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    assert not got[:, :, inside].any()
    np.testing.assert_array_equal(got[:, :, ~inside], images[:, :, ~inside])


@given(images_of_any_size, st.floats(-720, 720))
def test_rotation_stays_within_the_images_levels(images: Images, degrees: float) -> None:
    assert (augment.rotate(images, degrees).max(axis=(2, 3)) <= images.max(axis=(2, 3))).all()


@given(images_of_any_size, st.floats(0, 1))
def test_less_contrast_brings_no_pixel_further_from_the_mean(images: Images, factor: float) -> None:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(augment.contrast(images, factor) - mean) <= np.abs(images - mean) + 0.5 + 1e-3).all()


@pytest.mark.parametrize("most", [0.5, 15, 180, 1e6])
def test_cosine_and_sine_are_numpys_to_the_bit(rng: Rng, most: float) -> None:
    degrees = np.concatenate([rng.uniform(-most, most, 20_000), [0, most, -most, 90, 180, 270, 45, -90, -180, 360]])
    radians = np.deg2rad(degrees)
    cosine, sine = cosine_and_sine(degrees)
    np.testing.assert_allclose(cosine, np.cos(radians), rtol=0, atol=6e-8)
    np.testing.assert_allclose(sine, np.sin(radians), rtol=0, atol=6e-8)
    np.testing.assert_array_equal(cosine[:-10], np.cos(radians[:-10]).astype(np.float32))
    np.testing.assert_array_equal(sine[:-10], np.sin(radians[:-10]).astype(np.float32))


@pytest.mark.parametrize("spoil", [lambda array: array[::-1], lambda array: np.broadcast_to(array[:1], array.shape)])
def test_parameters_may_be_views_and_are_left_alone(rng: Rng, spoil: Callable[[Any], Any]) -> None:
    images, degrees = noise(rng, (6, 3, 9, 9)), rng.uniform(-90, 90, 6)
    given = spoil(degrees)
    before = given.copy()
    for backend in map(open_backend, ("numpy", "numba")):
        whole = augment.rotate(images, given, backend=backend)
        np.testing.assert_array_equal(whole, augment.rotate(images, before, backend=backend))
    np.testing.assert_array_equal(given, before)


def test_no_image_gives_no_image() -> None:
    none = np.empty((0, 3, 8, 8), np.uint8)
    for got in (
        augment.crop(none, 1, 1),
        augment.rotate(none, 5),
        augment.rotate(none, 5, method="shear"),
        augment.cutout(none, 1, 1, 2),
        augment.contrast(none, 2),
        augment.hflip(none, True),
        augment.apply(NumpyBackend(), none, augment.draw(np.random.default_rng(0), 0)),
    ):
        assert got.shape == none.shape
        assert got.dtype == np.uint8


# Plans.


def test_drawn_parameters_fill_the_policys_ranges(rng: Rng) -> None:
    policy = Policy(crop_padding=2, rotation_degrees=30, cutout_size=5, contrast_lowest=0.8, contrast_highest=1.1)
    plan = augment.draw(rng, 5000, policy, height=20, width=12)
    assert len(plan) == 5000
    drawn = {name: values for own in plan.parameters.values() for name, values in own.items()}
    for name, expected in (("dy", range(5)), ("dx", range(5)), ("top", range(16)), ("left", range(8))):
        assert set(drawn[name]) == set(expected)
    for numbers, low, high in ((drawn["degrees"], -30, 30), (drawn["factor"], 0.8, 1.1)):
        assert low <= numbers.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < numbers.max() <= high
    assert 0.47 < drawn["flip"].mean() < 0.53  # 4 standard deviations
    assert not augment.draw(rng, 500, policy.without_flip()).parameters["contrast"]["flip"].any()


def test_kinds_are_drawn_evenly(rng: Rng) -> None:
    n = 8000
    counts = np.bincount(augment.draw(rng, n).kind, minlength=len(KINDS))
    assert len(counts) == len(KINDS) == 4
    chi_square = ((counts - n / 4) ** 2 / (n / 4)).sum()
    assert chi_square < 16.27  # 3 degrees of freedom, 1 in 1000


def test_plans_repeat(rng: Rng) -> None:
    one, two, other = (augment.draw(np.random.default_rng(seed), 50) for seed in (5, 5, 6))
    arrays = [[plan.kind, *(a for own in plan.parameters.values() for a in own.values())] for plan in (one, two, other)]
    assert len(arrays[0]) == 8
    for array, again, of_another in zip(*arrays, strict=True):
        np.testing.assert_array_equal(array, again)
        assert (array != of_another).any()


# What a plan says of an image, by the functions people call.
ALONE: dict[str, Callable[..., Images]] = {
    "crop": lambda image, policy, dy, dx: augment.crop(image, dy, dx, policy["crop_padding"]),
    "rotation": lambda image, policy, degrees: augment.rotate(image, degrees),
    "cutout": lambda image, policy, top, left: augment.cutout(image, top, left, policy["cutout_size"]),
    "contrast": lambda image, policy, factor, flip: augment.hflip(augment.contrast(image, factor), flip),
}


def _alone(image: Images, plan: Plan) -> Images:
    kind = plan.policy.kinds[plan.kind[0]]
    return ALONE[kind.word](image, plan.policy.as_dict(), **plan.parameters[kind.word])


def test_apply_equals_each_image_by_itself(rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CHUNK", 16)  # three chunks, the last one ragged
    images = noise(rng, (40, 3, 12, 10))
    images.flags.writeable = False
    plan = augment.draw(rng, 40, Policy(crop_padding=2, cutout_size=4), height=12, width=10)
    assert set(plan.kind) == set(range(4))
    got = augment.apply(NumpyBackend(), images, plan)
    for i in range(40):
        np.testing.assert_array_equal(got[[i]], _alone(images[[i]], plan[np.array([i])]))


def test_apply_leaves_images_where_they_are(rng: Rng) -> None:
    """On the host, or on the device, which nothing then leaves."""
    torch = pytest.importorskip("torch")
    backend = open_backend("torch:cpu")
    images = noise(rng, (40, 3, 8, 8))
    plan = augment.draw(rng, 40, height=8, width=8)
    on_host, on_device = (augment.apply(backend, placed, plan) for placed in (images, backend.asarray(images)))
    assert isinstance(on_host, np.ndarray)
    assert isinstance(on_device, torch.Tensor)
    np.testing.assert_array_equal(on_device.numpy(), on_host)


@pytest.mark.parametrize(
    ("kind", "name", "value", "sentence"),
    [
        ("", "kind", 4, r"kind must lie in 0\.\.3, but"),
        ("crop", "dy", 9, r"dy must lie in 0\.\.8, but"),
        ("rotation", "degrees", np.nan, "degrees must be finite numbers"),
    ],
)
def test_apply_refuses_a_plan_that_draw_does_not_draw(
    rng: Rng, kind: str, name: str, value: float, sentence: str
) -> None:
    plan = augment.draw(rng, 3)
    if name == "kind":
        plan.kind[1] = value
    else:
        plan = plan.only(plan.policy.kinds[KINDS.index(kind)])
        plan.parameters[kind][name][1] = value
    with pytest.raises(UsageError, match=sentence):
        augment.apply(NumpyBackend(), noise(rng, (3, 3, 32, 32)), plan)


# Mistakes.


@pytest.mark.parametrize(
    ("function", "arguments", "sentence"),
    [
        ("crop", (9, 0), r"dy must lie in 0\.\.8"),
        ("crop", (0, -1), r"dx must lie in 0\.\.8"),
        ("crop", (0, 0, -1), r"padding must be a whole number of pixels, 0 or more, not -1"),
        ("crop", (0, 0, 1.5), r"padding must be a whole number"),
        ("crop", (0.5, 0), r"dy must be whole numbers, not float64"),
        ("crop", ([1, 2, 3], 0), r"dy must be one number, or one per image \(2\), not of shape \(3,\)"),
        ("cutout", (0, 0, 2.0), r"size must be whole numbers"),
        ("cutout", ([[1, 2]], 0, 2), r"top must be one number, or one per image"),
        ("rotate", (np.inf,), r"degrees must be finite"),
        ("rotate", ([1.0, 2.0, 3.0],), r"degrees must be one number, or one per image"),
        ("contrast", (np.nan,), r"factor must be finite"),
        ("hflip", ([True, False, True],), r"flip must be one number, or one per image"),
    ],
)
def test_bad_parameters(function: str, arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        getattr(augment, function)(np.zeros((2, 3, 8, 8), np.uint8), *arguments)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 3, 8, 8)), np.zeros((3, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.uint8), [[1, 2]]],
    ids=["float", "one image", "channels last", "list"],
)
@pytest.mark.parametrize(("function", "arguments"), [("crop", (0, 0)), ("rotate", (5,)), ("hflip", (True,))])
def test_bad_images(function: str, arguments: tuple[Any, ...], images: Any) -> None:
    with pytest.raises(UsageError, match=r"Images must be a uint8 array \(n, 3, height, width\), not "):
        getattr(augment, function)(images, *arguments)


def test_unknown_method_and_oblong_shears() -> None:
    images = np.zeros((2, 3, 8, 9), np.uint8)
    with pytest.raises(UsageError, match="must be one of bilinear, shear, not 'nearest'"):
        augment.rotate(images, 3, method="nearest")
    with pytest.raises(UsageError, match="needs square images, not 8 x 9"):
        augment.rotate(images, 3, method="shear")


def test_a_plan_for_other_images_is_refused(rng: Rng) -> None:
    with pytest.raises(UsageError, match="The plan is for 3 images, not 2"):
        augment.apply(NumpyBackend(), noise(rng, (2, 3, 8, 8)), augment.draw(rng, 3))
