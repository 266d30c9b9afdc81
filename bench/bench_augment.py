"""The augmentations of many images: ourselves and Kornia in batches, torchvision image by image, and a plain copy.

Everybody makes new images; parameters are drawn beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fastmlp import augment
from fastmlp.backends.base import Array, Backend

from . import ours
from .augmenting import FLIP, MIXED, Augmentation, draw
from .contenders import Bound, Contender
from .peers import kornia, torchvision

SMOKE_IMAGES = {"cpu": 1_000, "cuda": 1_000, "emulated": 20}


def augmented(backend: Backend, problem: Augmentation) -> Bound:
    """Calls the public function: all images at once with kernels, in `apply`'s batches with array code."""
    one, compiled = OURS[problem.kind], bool(backend.image_kernels)
    batches = problem.batches(len(problem.images) if compiled else augment.CHUNK)
    placed = [(backend.asarray(images), plan) for images, plan in batches]
    last = placed[-1][0]

    def run() -> None:
        nonlocal last
        for images, plan in placed:
            last = one(images, plan, backend)
        backend.synchronize()

    facts = {"code": "kernels" if compiled else "array code", "batch_size": len(batches[0][0])}
    return Bound(run, lambda: backend.to_numpy(last), facts)


def applied(backend: Backend, problem: Augmentation) -> Bound:
    """From host to host, a different augmentation for each image."""
    result = problem.images

    def run() -> None:
        nonlocal result
        result = augment.apply(backend, problem.images, problem.plan)

    return Bound(run, lambda: result)


def copied(problem: Augmentation, into_new: bool) -> Bound:
    """Each thread copies its part of the images, into new memory or always into the same."""
    images = problem.images
    copy = np.zeros_like(images)
    bounds = [len(images) * part // problem.threads for part in range(problem.threads + 1)]
    parts = [slice(*bounds[k : k + 2]) for k in range(problem.threads)]
    pool = ThreadPoolExecutor(problem.threads)

    def run() -> None:
        nonlocal copy
        if into_new:
            copy = np.empty_like(images)
        list(pool.map(lambda part: np.copyto(copy[part], images[part]), parts))

    def check(what: str) -> None:
        np.testing.assert_array_equal(copy, images, err_msg=what)

    return Bound(run, check=check)


def copied_on_device(backend: Backend, problem: Augmentation) -> Bound:
    """From device memory to device memory, always into the same."""
    images = backend.asarray(problem.images)
    copy = backend.asarray(np.zeros_like(problem.images))

    def run() -> None:
        copy[...] = images
        backend.synchronize()

    def check(what: str) -> None:
        np.testing.assert_array_equal(backend.to_numpy(copy), problem.images, err_msg=what)

    return Bound(run, check=check)


OURS: dict[str, Callable[[Array, augment.Plan, Backend], Array]] = {
    **dict.fromkeys(augment.KINDS, lambda images, plan, backend: augment.apply(backend, images, plan)),
    FLIP: lambda images, plan, backend: augment.hflip(images, plan.parameters["contrast"]["flip"], backend=backend),
}
COPIES = (
    Contender("plain copy", "floor", partial(copied, into_new=True)),
    Contender("plain copy, into memory at hand", "floor", partial(copied, into_new=False)),
)
DEVICE_COPIES = [
    replace(copy, name="plain copy on the device", kind="floor")
    for copy in ours.contenders(copied_on_device, ("cupy",))
]
BATCHED = (
    Contender("Kornia", "peer", kornia.augment, needs=("kornia",)),
    Contender("Kornia, from and to uint8", "peer", partial(kornia.augment, converting=True), needs=("kornia",)),
)
ONE_BY_ONE = (Contender("torchvision v2, image by image", "peer", torchvision.augment, needs=("torchvision",)),)


@pytest.fixture(scope="module", params=OURS)
def problem(request: pytest.FixtureRequest, threads: int, smoke: bool, device: str) -> Augmentation:
    return draw(request.param, threads, SMOKE_IMAGES[device] if smoke else 50_000, device)


@pytest.fixture(scope="module", params=OURS)
def small_problem(request: pytest.FixtureRequest, threads: int, smoke: bool, device: str) -> Augmentation:
    return draw(request.param, threads, SMOKE_IMAGES[device] // 10 if smoke else 1_000, device)


@pytest.mark.contenders(*COPIES, *ours.contenders(augmented), *BATCHED)
@pytest.mark.contenders(*DEVICE_COPIES, *ours.contenders(augmented, ("cupy",)), *BATCHED, device="gpu")
def bench_augment(measure: Callable[[Augmentation], None], problem: Augmentation) -> None:
    measure(problem)


@pytest.fixture(scope="module")
def mixed_problem(threads: int, smoke: bool, device: str) -> Augmentation:
    return draw(MIXED, threads, SMOKE_IMAGES[device] if smoke else 50_000, device)


@pytest.mark.contenders(*COPIES, *ours.contenders(applied))
@pytest.mark.contenders(*COPIES, *ours.contenders(applied, ("cupy",)), device="gpu")
def bench_augment_mixed(measure: Callable[[Augmentation], None], mixed_problem: Augmentation) -> None:
    measure(mixed_problem)


@pytest.mark.contenders(*ours.contenders(augmented), *ONE_BY_ONE)
@pytest.mark.contenders(*ours.contenders(augmented, ("cupy",)), *ONE_BY_ONE, device="gpu")
def bench_augment_one_by_one(measure: Callable[[Augmentation], None], small_problem: Augmentation) -> None:
    measure(small_problem)
