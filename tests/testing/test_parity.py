"""Every backend beside NumPy where the public check does not look: calls as people write them, and mistakes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastmlp import augment
from fastmlp.augment.kinds import KINDS
from fastmlp.backends import Backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.network.optimizers import OPTIMIZERS
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import FLOPS_WORTH_THREADS, Trainer
from fastmlp.ops import names_of
from fastmlp.ops.logistic import softmax_residuals
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps
from fastmlp.testing import CASES
from fastmlp.testing.augment_cases import noise
from fastmlp.testing.compare import assert_levels
from fastmlp.testing.problems import Case, Problem, Slots, bind, slots_of_trainer

BEST_TIER = {"numpy": 1, "numba": 3, "torch": 2, "cupy": 3, "emulated": 3}


def test_every_op_has_a_case() -> None:
    images = {"hflip", "rotate_by_shears", *(kind.op.__name__ for kind in KINDS.values())}
    functions = {*images, softmax_residuals.__name__}
    assert {case.op for case in CASES.values()} == {*names_of(NetworkOps), *names_of(PatchOps), *functions}
    assert {f"{name} update" for name in OPTIMIZERS} <= set(CASES)


def test_the_tier_is_the_one_we_claim(backend: Backend) -> None:
    tier = choose_tier((512, 64, 10), "float32", backend)
    assert tier.tier == BEST_TIER.get(backend.name, tier.tier)
    assert backend.name in tier.reason


def test_two_threads_repeat_bit_for_bit(backend: Backend, seed: int) -> None:
    """Batches of 500 make products that are worth a second thread."""
    assert FLOPS_WORTH_THREADS < 2 * 500 * 512 * 64
    problem = Problem.draw(Case((512, 64, 10), 500, 1000), seed)
    with threadpool_limits():  # sets the threads back at the end
        backend.set_threads(2)
        one, two = (_train_in_large_batches(problem, backend) for _ in range(2))
    for name, got in one.items():
        np.testing.assert_array_equal(got, two[name])


def _train_in_large_batches(problem: Problem, backend: Backend) -> Slots:
    trainer = bind(problem.case, problem.parameters, backend, "float32", None)
    ((data,), (epoch,)) = problem.data, problem.epochs
    features, labels, _ = data.place(backend, "float32")
    for _ in range(2):
        trainer.train_epoch(features, labels, epoch.order, epoch.rates)
    return slots_of_trainer(trainer)


# Augmentations, as people call them.


AUGMENTATIONS: dict[str, Callable[..., object]] = {
    "crop": lambda images, **options: augment.crop(images, 0, 7, **options),
    "crop each": lambda images, **options: augment.crop(images, [0, 3, 8], [8, 4, 0], **options),
    "rotate": lambda images, **options: augment.rotate(images, 33.3, **options),
    "rotate each": lambda images, **options: augment.rotate(images, [-90, 12.5, 200], **options),
    "shear": lambda images, **options: augment.rotate(images, -130, method="shear", **options),
    "cutout": lambda images, **options: augment.cutout(images, -3, 20, 9, **options),
    "contrast": lambda images, **options: augment.contrast(images, [0.3, 1, 2.5], **options),
    "hflip": lambda images, **options: augment.hflip(images, True, **options),
    "hflip each": lambda images, **options: augment.hflip(images, [False, True, False], **options),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_function(backend: Backend, name: str, rng: np.random.Generator) -> None:
    images = noise(rng, (3, 3, 32, 32))
    expected = AUGMENTATIONS[name](images)
    placed = backend.asarray(images.copy())
    for options in ({}, {"backend": backend}):
        got = backend.to_numpy(AUGMENTATIONS[name](placed, **options))
        assert got.dtype == np.uint8
        assert_levels(f"{backend} {name} {options}", got, np.asarray(expected))
    assert np.array_equal(backend.to_numpy(placed), images)


def test_real_images(backend: Backend, cifar10_folder: Path, rng: np.random.Generator) -> None:
    records = np.fromfile(cifar10_folder / "data_batch_1.bin", np.uint8, count=600 * 3073).reshape(600, 3073)
    images = records[:, 1:].reshape(600, 3, 32, 32)
    plan = augment.draw(rng, len(images))
    got, expected = augment.apply(backend, images, plan), augment.apply(NumpyBackend(), images, plan)
    assert_levels(f"{backend} on CIFAR-10", got, expected)


# The same mistake gives the same sentence on every backend.

MISTAKES: dict[str, Callable[[Backend], object]] = {
    "no batch": lambda backend: Trainer(initial_parameters((4, 3)), backend, 0),
    "no such tier": lambda backend: Trainer(initial_parameters((1024, 2100, 3)), backend, 4, tier=Tier.FUSED_EPOCH),
    "float images": lambda backend: augment.hflip(backend.asarray(np.zeros((2, 3, 8, 8), "f4")), True),
    "two channels": lambda backend: augment.contrast(_images(backend, channels=2), 1.0),
    "float offset": lambda backend: augment.crop(_images(backend), 1.5, 2, backend=backend),
    "offset too far": lambda backend: augment.crop(_images(backend), 9, 2, backend=backend),
    "NaN degrees": lambda backend: augment.rotate(_images(backend), np.nan, backend=backend),
    "too many factors": lambda backend: augment.contrast(_images(backend), [1, 2, 3], backend=backend),
    "too many flips": lambda backend: augment.hflip(_images(backend), [True] * 3, backend=backend),
    "shears of oblongs": lambda backend: augment.rotate(_images(backend, width=9), 3, method="shear"),
}


def _images(backend: Backend, channels: int = 3, width: int = 8) -> object:
    return backend.asarray(np.zeros((2, channels, 8, width), np.uint8))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_read_the_same_everywhere(backend: Backend, mistake: str) -> None:
    with pytest.raises(UsageError) as expected:
        MISTAKES[mistake](NumpyBackend())
    with pytest.raises(UsageError) as got:
        MISTAKES[mistake](backend)
    if mistake != "no such tier":  # its sentence names the backend and what that has instead
        assert str(got.value) == str(expected.value)
