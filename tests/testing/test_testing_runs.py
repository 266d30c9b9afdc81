"""The checks of steps, epochs, runs and whole backends are seen to fail, each for the right reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp.augment.kinds.rotation import rotate
from fastmlp.augment.running import on_rows
from fastmlp.backends import Backend
from fastmlp.backends.base import Array, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network import trainer
from fastmlp.network.tiers import FUSED, Tier
from fastmlp.network.trainer import Trainer
from fastmlp.ops.network import NetworkOps
from fastmlp.testing import CASES, Report, Result, assert_signature, augmentation, check_backend, op_checks, runs

BackendWith = Callable[..., Backend]

xp = NumpyBackend.xp
array_code = NetworkOps(xp)
SIZES = (24, 16, 10)


def add_bias_subtracts(z: Array, bias: Array, out: Array) -> None:
    array_code.add_bias(z, -bias, out)


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

    with pytest.raises(AssertionError, match=r"augmentation .* levels at"):
        augmentation.assert_augmentation(backend_with(rotate=rotate_clockwise))
    with pytest.raises(AssertionError, match=r"augmentation .* off by one level, where at most"):
        augmentation.assert_augmentation(backend_with(rotate=rotate_truncates))


# The whole check.


def test_a_kernel_must_have_the_arguments_of_its_array_code() -> None:
    def swapped(bias: Array, z: Array, out: Array) -> None: ...

    def renamed(z: Array, biases: Array, out: Array) -> None: ...

    for kernel in (swapped, renamed):
        with pytest.raises(AssertionError, match=r"kernel add_bias has the arguments .*, but its array code"):
            assert_signature(CASES["add_bias"], kernel)


class Dispatcher:
    """As Numba's: it takes anything, and keeps the Python function."""

    def __init__(self, py_func: Kernel) -> None:
        self.py_func = py_func

    def __call__(self, *arguments: Any) -> None:
        self.py_func(*arguments)


def test_a_dispatchers_own_function_gives_the_arguments() -> None:
    assert_signature(CASES["add_bias"], Dispatcher(add_bias_subtracts))
    with pytest.raises(AssertionError):
        assert_signature(CASES["add_bias"], Dispatcher(update_leaves_biases))


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of few cases, for tests of the report."""
    monkeypatch.setattr(op_checks, "CASES", {op: CASES[op] for op in ("gather", "matmul", "add_bias", "hflip")})
    monkeypatch.setattr(runs, "SIZES", (SIZES,))


def test_a_sound_backend_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    seen: list[Result] = []
    report = check_backend("numpy", on_result=seen.append)
    report.raise_for_failures()
    assert report.ok
    assert report.exit_status == 0
    assert seen == report.results
    assert str(report) == f"numpy: {len(seen)} passed, 0 failed, 0 skipped (seed 0)"


def test_a_broken_backend_fails_by_name(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    report = check_backend(backend_with(add_bias=add_bias_subtracts, blur=lambda images, out: None))
    failed = {result.name for result in report.having("failed")}
    assert {"kernel blur has a case", "add_bias, kernel, float32", "add_bias, kernel, float64"} <= failed
    assert not any("array code" in name or "tier 1" in name for name in failed)
    assert not report.ok
    assert report.exit_status == 1
    with pytest.raises(AssertionError, match=r"no case in fastmlp.testing.cases covers the kernel 'blur'"):
        report.raise_for_failures()


def test_a_backend_that_raises_fails_and_the_check_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(NumpyBackend):
        name = "dead"

        def to_numpy(self, array: Array) -> Array:
            raise RuntimeError("the device is gone")

    quick(monkeypatch)
    report = check_backend(Dead())
    assert len(report.having("failed")) > 5
    assert any("the device is gone" in result.message for result in report.having("failed"))


def test_a_dtype_that_the_device_lacks_is_skipped_and_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Single(NumpyBackend):
        name = "single"

        def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
            if dtype == "float64":
                raise TypeError("no float64 on this device")
            return super().empty(shape, dtype)

    quick(monkeypatch)
    report = check_backend(Single())
    assert report.ok
    assert {result.name for result in report.having("skipped")} >= {"add_bias, array code, float64"}
    assert all("no float64 on this device" in result.message for result in report.having("skipped"))
    assert f"{len(report.having('skipped'))} skipped" in str(report)


def test_nothing_checked_is_a_failure() -> None:
    report = Report("none", 0, [Result("all", "skipped", "not today")])
    assert not report.ok
    assert report.exit_status == 1
    with pytest.raises(AssertionError, match="none: 0 passed, 0 failed, 1 skipped"):
        report.raise_for_failures()
