"""Policies: as text, as a dict, in results and stores; what is drawn from them; and kinds that are not ours."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastmlp import augment
from fastmlp.augment import Plan, Policy
from fastmlp.augment.kind import Given, Kind, Parameters
from fastmlp.augment.kinds import KINDS, PAPER
from fastmlp.augment.kinds.contrast import Contrast
from fastmlp.augment.kinds.crop import Crop
from fastmlp.backends import Backend, open_backend
from fastmlp.backends.base import Array
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.testing.augment_cases import noise
from fastmlp.testing.cases import CASES

PAPERS = "crop=4,rotation=15,cutout=8,contrast=0.5:1.5"


def digest(*arrays: NDArray[Any]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(str((array.dtype, array.shape)).encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


# The paper's policy is as it was when the four kinds were written out: stores and results hold what it gave.


def test_the_papers_policy_has_the_dict_that_stores_and_results_hold() -> None:
    expected = (
        '{"crop_padding": 4, "rotation_degrees": 15.0, "cutout_size": 8, '
        '"contrast_lowest": 0.5, "contrast_highest": 1.5, "flip_probability": 0.5}'
    )
    assert json.dumps(Policy().as_dict()) == json.dumps(Policy.parse(PAPERS).as_dict()) == expected
    assert json.dumps(Policy().without_flip().as_dict()) == expected.replace('ity": 0.5', 'ity": 0.0')
    assert augment.KINDS == ("crop", "rotation", "cutout", "contrast + flip")


@pytest.mark.parametrize(
    ("policy", "labels"),
    [
        (Policy(), ["crop", "rotation", "cutout", "contrast + flip"]),
        (Policy().without_flip(), ["crop", "rotation", "cutout", "contrast"]),
        (Policy.parse("contrast=0.5:1.5,flip=0"), ["contrast"]),
        (Policy.parse("contrast=0.5:1.5,flip=0.1"), ["contrast + flip"]),
    ],
)
def test_figures_name_what_a_kind_does(policy: Policy, labels: list[str]) -> None:
    assert [kind.label for kind in policy.kinds] == labels


@pytest.mark.parametrize("policy", [Policy(), Policy.parse(PAPERS)])
def test_the_papers_policy_draws_what_it_drew(policy: Policy) -> None:
    rng = np.random.default_rng(0)
    images = noise(rng, (1000, 3, 32, 32))
    plan = augment.draw(rng, len(images), policy)
    drawn = [array for own in plan.parameters.values() for array in own.values()]
    assert digest(plan.kind, *drawn) == "8b7080a8d3f84333"
    for name in ("numpy", "numba"):
        assert digest(augment.apply(open_backend(name), images, plan)) == "052c582e325b4c76"


# Text.


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("crop=2", {"crop_padding": 2}),
        (" rotation = 7.5 , crop=0", {"crop_padding": 0, "rotation_degrees": 7.5}),
        ("contrast=0:2", {"contrast_lowest": 0.0, "contrast_highest": 2.0, "flip_probability": 0.5}),
        ("flip=0,contrast=1:1", {"contrast_lowest": 1.0, "contrast_highest": 1.0, "flip_probability": 0.0}),
    ],
)
def test_text_names_kinds_in_any_order(text: str, ranges: dict[str, float]) -> None:
    policy = Policy.parse(text)
    assert list(policy.as_dict().items()) == list(ranges.items())
    assert [type(value) for value in policy.as_dict().values()] == [type(value) for value in ranges.values()]
    assert Policy.parse(str(policy)) == policy


def test_a_policy_as_text_is_short() -> None:
    assert str(Policy()) == PAPERS
    assert str(Policy(flip_probability=0.25, crop_padding=2)) == PAPERS.replace("crop=4", "crop=2") + ",flip=0.25"
    assert str(Policy(Contrast(0.1, 1e-7 + 1), Crop())) == "crop=4,contrast=0.1:1.0000001"


@given(st.permutations(list(KINDS)), st.integers(1, len(KINDS)), st.randoms())
def test_the_order_in_text_does_not_matter(words: list[str], count: int, random: Any) -> None:
    items = [str(KINDS[word]()) for word in words[:count]]
    policy = Policy.parse(",".join(items))
    random.shuffle(items)
    assert Policy.parse(",".join(items)) == policy
    one, two = (
        augment.draw(np.random.default_rng(0), 20, Policy.parse(",".join(each))) for each in (items, items[::-1])
    )
    np.testing.assert_array_equal(one.kind, two.kind)
    assert list(one.parameters) == list(two.parameters) == [kind.word for kind in policy.kinds]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("crop=-1", "crop=-1: crop_padding must be a whole number of pixels, 0 or more, not -1."),
        ("corp=3", "corp=3: there is no augmentation 'corp', did you mean crop: choose one of crop, rotation, cutout,"),
        ("rotation=5,", ": there is no augmentation ''"),
        ("crop", "crop: give it as in crop=4."),
        ("crop=x", "crop=x: give it as in crop=4."),
        ("crop=1.5", "crop=1.5: give it as in crop=4."),
        ("contrast=1", "contrast=1: give it as in contrast=0.5:1.5."),
        ("contrast=1.5:0.5", "contrast=1.5:0.5: the lowest contrast comes first, not 1.5 before 0.5."),
        ("contrast=-1:1", "contrast=-1:1: the lowest contrast must be a number from 0 to 1,000,000, not -1.0."),
        ("contrast=0:1,flip=2", "contrast=0:1,flip=2: flip_probability must be a number from 0 to 1, not 2.0."),
        ("flip=0.5", "flip=0.5: it belongs to contrast, so give contrast=0.5:1.5 too."),
        ("crop=3, crop=4", "crop=4: crop is there twice, give it once."),
        ("rotation=nan", "rotation=nan: rotation_degrees must be a number from 0 to 1,000,000, not nan."),
        ("cutout=" + 30 * "9", "cutout_size is larger than any image, " + 30 * "9"),
    ],
)
def test_an_error_begins_with_what_was_typed(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as failure:
        Policy.parse(text)
    assert str(failure.value).startswith("--augment ")
    assert sentence in str(failure.value)
    with pytest.raises(UsageError, match=r"^augment "):
        Policy.parse(text, "augment")


@given(st.text("crop=4,:.0flincotras ", max_size=30))
def test_any_text_is_a_policy_or_one_sentence(text: str) -> None:
    try:
        policy = Policy.parse(text)
    except UsageError:
        return
    assert Policy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    "ranges",
    [
        {"crop_padding": -1},
        {"rotation_degrees": -1},
        {"contrast_lowest": 2},
        {"flip_probability": 1.5},
        {"crop_padding": 1.5},
    ],
)
def test_ranges_that_nothing_can_be_drawn_from(ranges: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Policy(**ranges)


def test_mistaken_policies() -> None:
    with pytest.raises(UsageError, match="A policy has each kind once, not crop, crop"):
        Policy(Crop(), Crop(2))
    with pytest.raises(TypeError, match="No kind of crop has the range cutout_size"):
        Policy(Crop(), cutout_size=3)


# Draws.


def test_only_the_kinds_of_a_policy_happen(rng: np.random.Generator) -> None:
    plan = augment.draw(rng, 400, Policy.parse("cutout=3,crop=1"), 9, 9)
    assert list(plan.parameters) == ["crop", "cutout"]
    assert set(plan.kind) == {0, 1}
    images = noise(rng, (400, 3, 9, 9))
    got = augment.apply(NumpyBackend(), images, plan)
    crops, cutouts = np.flatnonzero(plan.kind == 0), np.flatnonzero(plan.kind == 1)
    own = plan.parameters["crop"]
    np.testing.assert_array_equal(got[crops], augment.crop(images[crops], own["dy"][crops], own["dx"][crops], 1))
    own = plan.parameters["cutout"]
    expected = augment.cutout(images[cutouts], own["top"][cutouts], own["left"][cutouts], 3)
    np.testing.assert_array_equal(got[cutouts], expected)


def test_a_plan_of_only_one_kind_keeps_its_parameters(rng: np.random.Generator) -> None:
    plan = augment.draw(rng, 30)
    images = noise(rng, (30, 3, 32, 32))
    for kind in plan.policy.kinds:
        one = plan.only(kind)
        assert one.parameters is plan.parameters
        mine = plan.policy.kinds[plan.kind[4]] == kind
        got = augment.apply(NumpyBackend(), images, one)[4]
        assert (got == augment.apply(NumpyBackend(), images, plan)[4]).all() == mine


# Kinds without kernels, and kinds of others.


@pytest.mark.parametrize("missing", PAPER)
def test_a_kind_without_a_kernel_alone_falls_back_to_array_code(
    backend_with: Callable[..., Backend], rng: np.random.Generator, missing: str
) -> None:
    called: list[str] = []

    def counted(op: str) -> Callable[..., None]:
        def kernel(*arguments: Array) -> None:
            called.append(op)
            CASES[op].array_code(NumpyBackend.xp, *arguments)

        return kernel

    others = [KINDS[word].op.__name__ for word in PAPER if word != missing]
    images, plan = noise(rng, (50, 3, 12, 12)), augment.draw(rng, 50, None, 12, 12)
    got = augment.apply(backend_with(**{op: counted(op) for op in others}), images, plan)
    assert called == others
    np.testing.assert_array_equal(got, augment.apply(open_backend("numba"), images, plan))


def invert(xp: Any, images: Array, most: Array, out: Array) -> None:
    out[...] = most[:, None, None, None] - images


@dataclass(frozen=True)
class Invert(Kind):
    """A kind of one's own, which no kernel knows."""

    darkest: int = 250

    settings: ClassVar = {"an inverse": ("darkest",)}
    op = staticmethod(invert)

    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        return {"most": rng.integers(self.darkest, 255, n, endpoint=True)}

    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        return (np.asarray(parameters["most"], np.uint8),)


def test_a_kind_of_ones_own_joins_ours(rng: np.random.Generator) -> None:
    images = noise(rng, (60, 3, 8, 8)) // 2
    policy = Policy(Invert(), Crop(1))
    assert [kind.name for kind in policy.kinds] == ["crop", "an inverse"]
    assert policy.as_dict() == {"crop_padding": 1, "darkest": 250}
    plan: Plan = augment.draw(rng, 60, policy, 8, 8)
    got = augment.apply(open_backend("numba"), images, plan)
    rows = np.flatnonzero(plan.kind == 1)
    most = plan.parameters["an inverse"]["most"][rows].astype(np.uint8)
    np.testing.assert_array_equal(got[rows], most[:, None, None, None] - images[rows])
