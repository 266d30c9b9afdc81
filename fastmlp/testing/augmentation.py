"""The checks of whole augmentation plans: every image by its own kind and parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from fastmlp import augment
from fastmlp.augment import Plan, Policy
from fastmlp.backends.base import Array, Backend
from fastmlp.testing.augment_cases import noise, tinted
from fastmlp.testing.check import Check
from fastmlp.testing.compare import HostArray, assert_equal, assert_rounded, assert_same_kind
from fastmlp.testing.op_case import Shape
from fastmlp.testing.reference import images as reference

ALL_KINDS = Policy.parse("crop=2,rotation=180,cutout=5,contrast=0:3,jitter=0.2:2")
MIXED: Shape = (600, 3, 32, 32)  # about 150 of each of the paper's kinds, enough for several threads
OBLONG: Shape = (150, 3, 20, 12)
CHUNKS: Shape = (2100, 3, 4, 6)  # more than array code takes at once, twice

SQUARE: Shape = (90, 3, 9, 9)

Parameters = Mapping[str, HostArray]


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    for name, check in (
        ("a mixed batch", partial(assert_augmentation, shape=MIXED)),
        ("oblong images by all kinds", partial(assert_augmentation, shape=OBLONG, policy=ALL_KINDS)),
        ("batch after batch", assert_batch_after_batch),
        ("more than a chunk", partial(assert_augmentation, shape=CHUNKS, policy=ALL_KINDS)),
        ("one kind alone", assert_one_kind_alone),
        ("images by each function", assert_functions),
    ):
        yield Check(f"augmentation of {name}", partial(check, backend, seed))


def assert_augmentation(backend: Backend, seed: int = 0, *, shape: Shape = MIXED, policy: Policy | None = None) -> None:
    """A mixed plan applied by the backend, to images on the host and on the device: the reference's, rounded."""
    rng = np.random.default_rng(seed)
    images = noise(rng, shape)
    plan = augment.draw(rng, len(images), policy, *shape[2:])
    _assert_applied(f"{backend} augmentation {shape} (seed {seed})", backend, images, plan)


def assert_one_kind_alone(backend: Backend, seed: int) -> None:
    """By each kind the same few images, one, and none."""
    rng = np.random.default_rng(seed)
    for count in (7, 1, 0):
        images = tinted(rng, (count, *OBLONG[1:]))
        plan = augment.draw(rng, count, ALL_KINDS, *OBLONG[2:])
        for kind in ALL_KINDS.kinds:
            what = f"{backend} augmentation of {count} by {kind.word} (seed {seed})"
            _assert_applied(what, backend, images, plan.only(kind))


def assert_batch_after_batch(backend: Backend, seed: int) -> None:
    """Of other sizes, and none changes the results of another."""
    rng = np.random.default_rng(seed)
    results: list[tuple[HostArray, HostArray]] = []
    for shape in ((130, 3, 9, 7), (150, 3, 9, 7), (20, 3, 5, 6), (130, 3, 9, 7)):
        plan = augment.draw(rng, shape[0], ALL_KINDS, *shape[2:])
        got = _assert_applied(f"{backend} augmentation {shape} (seed {seed})", backend, noise(rng, shape), plan)
        results.append((got, got.copy()))
    for number, (result, before) in enumerate(results):
        assert_equal(f"{backend} augmentation: the result of batch {number} after others (seed {seed})", result, before)


def assert_functions(backend: Backend, seed: int) -> None:
    """What people call, with numbers of each image's own; turns by any angle, also by several whole ones."""
    rng, each = np.random.default_rng(seed), np.arange(SQUARE[0])
    images = noise(rng, SQUARE)
    degrees = rng.permutation(np.r_[np.arange(-720, 720, 90), rng.uniform(-400, 400, len(each) - 16)])
    dy, dx, top, left, size = rng.integers(0, 7, (5, len(each)))
    factor, flip = rng.uniform(0, 3, len(each)), rng.random(len(each)) < 0.5
    for name, numbers, options, levels in (
        ("crop", (dy, dx), {"padding": 3}, reference.crop(images, each, dy - 3, dx - 3)),
        ("rotate", (degrees,), {}, _rotate(images, each, {"degrees": degrees}, {})),
        ("rotate", (degrees,), {"method": "shear"}, _rotate_by_shears(images, each, degrees)),
        ("cutout", (top, left, size), {}, reference.cutout(images, each, top, left, size)),
        ("contrast", (factor,), {}, reference.contrast(images, each, _float32(factor), flip & False)),
        ("hflip", (flip,), {}, reference.hflip(images, each, flip)),
    ):
        got = _on_host(backend, getattr(augment, name)(backend.asarray(images), *numbers, **options, backend=backend))
        what = f"{backend} augment.{name} {options} (seed {seed})"
        assert_same_kind(what, got, SQUARE, "uint8")
        assert_rounded(what, got, levels["out"], np.nan)


def _assert_applied(what: str, backend: Backend, images: HostArray, plan: Plan) -> HostArray:
    """The plan's images, wherever they lie; returns them."""
    before, levels = images.copy(), _levels(images, plan)
    images.flags.writeable = False
    for where, placed in (("device", backend.asarray(images)), ("host", images)):
        got = _on_host(backend, augment.apply(backend, placed, plan))
        assert_same_kind(what, got, images.shape, "uint8")
        assert_equal(f"{what}: changed the images on the {where}", _on_host(backend, placed), before)
        assert_rounded(f"{what}, images on the {where}", got, levels, np.nan)
    return got


def _on_host(backend: Backend, array: Array) -> HostArray:
    return array if isinstance(array, np.ndarray) else np.asarray(backend.to_numpy(array))


# What a plan says, by the reference alone.


def _levels(images: HostArray, plan: Plan) -> HostArray:
    """What the plan makes of the images, not yet rounded."""
    levels, ranges = np.full(images.shape, np.nan), plan.policy.as_dict()
    for number, kind in enumerate(plan.policy.kinds):
        rows = np.flatnonzero(plan.kind == number)
        parameters = {name: values[rows] for name, values in plan.parameters[kind.word].items()}
        levels[rows] = REFERENCES[kind.word](images, rows, parameters, ranges)["out"][rows]
    return levels


def _crop(images: HostArray, rows: HostArray, drawn: Parameters, ranges: Mapping[str, float]) -> reference.Truth:
    padding = int(ranges["crop_padding"])
    return reference.crop(images, rows, drawn["dy"] - padding, drawn["dx"] - padding)


def _rotate(images: HostArray, rows: HostArray, drawn: Parameters, ranges: Mapping[str, float]) -> reference.Truth:
    radians = drawn["degrees"] * np.pi / 180
    return reference.rotate(images, rows, _float32(np.cos(radians)), _float32(np.sin(radians)))


def _rotate_by_shears(images: HostArray, rows: HostArray, degrees: HostArray) -> reference.Truth:
    """By as many quarter turns as leave 45 degrees at most."""
    quarters = np.floor(degrees / 90 + 0.5)
    rest = (degrees - 90 * quarters) * np.pi / 180
    turns = (quarters % 4).astype(np.int64)
    return reference.rotate_by_shears(images, rows, turns, _float32(np.tan(rest / 2)), _float32(np.sin(rest)))


def _cutout(images: HostArray, rows: HostArray, drawn: Parameters, ranges: Mapping[str, float]) -> reference.Truth:
    size = np.full(len(rows), int(ranges["cutout_size"]))
    return reference.cutout(images, rows, drawn["top"], drawn["left"], size)


def _contrast(images: HostArray, rows: HostArray, drawn: Parameters, ranges: Mapping[str, float]) -> reference.Truth:
    return reference.contrast(images, rows, _float32(drawn["factor"]), drawn["flip"])


def _jitter(images: HostArray, rows: HostArray, drawn: Parameters, ranges: Mapping[str, float]) -> reference.Truth:
    return reference.jitter(images, rows, _float32(drawn["brightness"]), _float32(drawn["saturation"]))


def _float32(numbers: HostArray) -> HostArray:
    """As kernels take them."""
    return numbers.astype(np.float32)


REFERENCES: Mapping[str, Callable[..., Any]] = {
    "crop": _crop,
    "rotation": _rotate,
    "cutout": _cutout,
    "contrast": _contrast,
    "jitter": _jitter,
}
