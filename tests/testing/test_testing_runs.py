"""The checks of steps, epochs and runs are seen to fail, each for the right reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp.augment.kinds.rotation import rotate
from fastmlp.augment.running import on_rows
from fastmlp.backends import Backend
from fastmlp.backends.base import Array
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network import trainer
from fastmlp.network.tiers import FUSED, Tier
from fastmlp.network.trainer import Trainer
from fastmlp.ops.network import NetworkOps
from fastmlp.testing import augmentation, runs

BackendWith = Callable[..., Backend]

xp = NumpyBackend.xp
array_code = NetworkOps(xp)
SIZES = (24, 16, 10)


def update_leaves_biases(
    optimizer: Any, slots: Array, gradient: Array, coefficients: Any, decays: bool, out: Array
) -> None:
    array_code.update(optimizer, slots, gradient if decays else 0 * gradient, coefficients, decays, out)


# Steps, epochs and runs.


def test_a_step_that_is_right_for_full_batches_only_is_found(backend_with: BackendWith) -> None:
    def mean_of_64(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        array_code.softmax_xent(logits, labels, gradient, loss, hits)
        gradient *= len(labels) / 64

    with pytest.raises(AssertionError, match=r"step of 37 rows.*gradient of weight"):
        runs.assert_step(backend_with(softmax_xent=mean_of_64), SIZES, "float64", None)


def test_a_step_that_changes_the_features_is_found(backend_with: BackendWith) -> None:
    def standardises(source: Array, index: Array, out: Array) -> None:
        array_code.gather(source, index, out)
        if source.ndim == 2:
            source -= 1

    with pytest.raises(AssertionError, match="changed the features"):
        runs.assert_step(backend_with(gather=standardises), SIZES, "float32", None)


def test_a_step_that_loses_digits_is_found(backend_with: BackendWith) -> None:
    def matmul_loses_digits(a: Array, b: Array, out: Array) -> None:
        out[...] = (a @ b) * (1 + 3e-6)

    with pytest.raises(AssertionError, match=r"(loss|gradient of .*): error 3\S*e-06 is over the tolerance"):
        runs.assert_step(backend_with(matmul=matmul_loses_digits), SIZES, "float32", None)


def test_an_epoch_without_its_last_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole_batches_only(self: Trainer, features: Array, labels: Array, order: Array, rates: Array) -> Any:
        return original(self, features, labels, order[: len(order) // 64 * 64], rates[:-1])

    original = Trainer.train_epoch
    runs.assert_epoch(NumpyBackend(), SIZES, "float32", None)  # keeps the reference
    monkeypatch.setattr(Trainer, "train_epoch", whole_batches_only)
    with pytest.raises(AssertionError, match=r"losses: error .* over the tolerance"):
        runs.assert_epoch(NumpyBackend(), SIZES, "float32", None)


def test_an_epoch_that_leaves_the_biases_is_found(backend_with: BackendWith) -> None:
    with pytest.raises(AssertionError, match=r"epoch .* over the tolerance"):
        runs.assert_epoch(backend_with(update=update_leaves_biases), SIZES, "float32", None)


def test_a_last_update_left_out_is_found(backend_with: BackendWith) -> None:
    """The losses are right, for they come before; the weights are not."""
    calls = iter(range(10_000))

    def forgets_the_last(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
        last = next(calls) >= 15 * 2  # 16 batches, weights and biases
        array_code.update(optimizer, slots, 0 * gradient if last else gradient, row, decays, out)

    with pytest.raises(AssertionError, match=r"epoch .* over the tolerance"):
        runs.assert_epoch(backend_with(update=forgets_the_last), SIZES, "float32", None)


def test_a_run_that_does_not_repeat_is_found(backend_with: BackendWith) -> None:
    rng = np.random.default_rng(0)

    def jitters(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
        array_code.update(optimizer, slots, gradient * np.float32(1 + 1e-6 * rng.random()), row, decays, out)

    with pytest.raises(AssertionError, match="run again"):
        runs.assert_run(backend_with(update=jitters), SIZES, "float32", None)


def test_a_wrong_accuracy_is_found(backend_with: BackendWith) -> None:
    def never_hits(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        array_code.softmax_xent(logits, labels, gradient, loss, hits)
        hits[...] = 0

    with pytest.raises(AssertionError, match=r"accuracy 0.0, but 0\.\d+ in float64"):
        runs.assert_run(backend_with(softmax_xent=never_hits), SIZES, "float32", None)


def test_a_hidden_divergence_is_found(backend_with: BackendWith) -> None:
    def bias_relu_drops_nan(z: Array, bias: Array, out: Array) -> None:
        out[...] = np.fmax(z + bias, 0)

    with pytest.raises(AssertionError, match="a NaN among the features, but the epoch's loss is"):
        runs.assert_divergence_shows(backend_with(bias_relu=bias_relu_drops_nan), SIZES, None)


def test_another_tier_than_requested_is_found(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_lower_tier", lambda best, tier, backend: best)
    fused = {op: lambda *arguments: None for op in (*FUSED, "update")}
    with pytest.raises(AssertionError, match=r"array code was requested, Tier 2, fused ops.* was bound"):
        runs.assert_step(backend_with(**fused), SIZES, "float32", Tier.ARRAY_CODE)


def test_wrong_augmentations_are_found(backend_with: BackendWith) -> None:
    def rotate_clockwise(images: Array, rows: Array, cosine: Array, sine: Array, out: Array) -> None:
        on_rows(rotate)(xp, images, rows, cosine, -sine, out)

    def rotate_truncates(images: Array, rows: Array, cosine: Array, sine: Array, out: Array) -> None:
        on_rows(rotate)(xp, images, rows, cosine, sine, out)
        out[rows] &= 254  # half of the pixels are one level too dark

    with pytest.raises(AssertionError, match=r"augmentation .* levels are wrong"):
        augmentation.assert_augmentation(backend_with(rotate=rotate_clockwise))
    with pytest.raises(AssertionError, match=r"augmentation .* levels are wrong"):
        augmentation.assert_augmentation(backend_with(rotate=rotate_truncates))
