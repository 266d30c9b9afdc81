"""The checks of steps, epochs and runs are seen to fail, each for the right reason."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp.augment.kinds.rotation import rotate
from fastmlp.augment.running import on_rows
from fastmlp.backends import Backend
from fastmlp.backends.base import Array, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network import trainer
from fastmlp.network.tiers import FUSED, Tier
from fastmlp.network.trainer import Trainer
from fastmlp.ops.network import NetworkOps
from fastmlp.testing import augmentation, epochs, hazards, sequences, whole_runs
from fastmlp.testing.epochs import assert_epochs
from fastmlp.testing.problems import Case

BackendWith = Callable[..., Backend]

xp = NumpyBackend.xp
array_code = NetworkOps(xp)
CASE = Case((33, 24, 10), 37, 90, epochs.MOMENTUM, centred=True)


def update_leaves_biases(
    optimizer: Any, slots: Array, gradient: Array, coefficients: Any, decays: bool, out: Array
) -> None:
    array_code.update(optimizer, slots, gradient if decays else 0 * gradient, coefficients, decays, out)


# Epochs of few steps.


def test_a_step_that_is_right_for_full_batches_only_is_found(backend_with: BackendWith) -> None:
    def mean_of_37(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        array_code.softmax_xent(logits, labels, gradient, loss, hits)
        gradient *= len(labels) / 37

    with pytest.raises(AssertionError, match=r"value of weight 0: error .* over the tolerance"):
        assert_epochs(backend_with(softmax_xent=mean_of_37), CASE, "float64", None)


def test_a_step_that_changes_the_features_is_found(backend_with: BackendWith) -> None:
    def shifts(source: Array, index: Array, out: Array) -> None:
        array_code.gather(source, index, out)
        if source.ndim == 2 and len(index) < 37:
            source -= 1

    with pytest.raises(AssertionError, match="changed the features"):
        assert_epochs(backend_with(gather=shifts), CASE, "float32", None)


def test_a_step_that_loses_digits_is_found(backend_with: BackendWith) -> None:
    def loses_digits(inputs: Array, delta: Array, weight_gradient: Array, bias_gradient: Array) -> None:
        array_code.dense_gradients(inputs, delta, weight_gradient, bias_gradient)
        weight_gradient *= 1 + 1e-5

    with pytest.raises(AssertionError, match=r"velocity of weight 0: error \S*e-0[56] is over the tolerance"):
        assert_epochs(backend_with(dense_gradients=loses_digits), CASE, "float32", None)


@pytest.mark.parametrize("sizes", [(33, 24, 10), (200, 24, 10)], ids=["33", "200"])
def test_another_columns_mean_is_found(backend_with: BackendWith, sizes: tuple[int, ...]) -> None:
    def by_chunks(features: Array, mean: Array, scale: float, out: Array) -> None:
        columns = np.arange(len(mean)) % (sizes[0] - 1)
        array_code.standardize(features, mean[columns], scale, out)

    with pytest.raises(AssertionError, match="over the tolerance"):
        assert_epochs(backend_with(standardize=by_chunks), replace(CASE, sizes=sizes), "float32", None)


def test_an_epoch_without_its_last_batch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_but_one(self: Trainer, data: Any, order: Array, coefficients: Any, losses: Array, hits: Array) -> None:
        original(self, data, order[:74], coefficients[:-1], losses[:-1], hits[:-1])
        losses[-1:], hits[-1:] = 0, 0

    original = Trainer._take_steps
    monkeypatch.setattr(Trainer, "_take_steps", all_but_one)
    with pytest.raises(AssertionError, match=r"sum of losses: error .* over the tolerance"):
        assert_epochs(NumpyBackend(), CASE, "float32", None)


def test_an_update_that_leaves_the_biases_is_found(backend_with: BackendWith) -> None:
    with pytest.raises(AssertionError, match=r"epoch 1: sum of losses: error"):
        assert_epochs(backend_with(update=update_leaves_biases), CASE, "float32", None)


def test_a_last_update_left_out_is_found(backend_with: BackendWith) -> None:
    """The losses are right, for they come before; the weights are not."""
    calls = iter(range(100))

    def forgets_the_last(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
        last = next(calls) >= 2 * 2  # three batches, weights and biases
        array_code.update(optimizer, slots, 0 * gradient if last else gradient, row, decays, out)

    with pytest.raises(AssertionError, match=r"value of weight 0: error .* over the tolerance"):
        assert_epochs(backend_with(update=forgets_the_last), CASE, "float32", None)


@pytest.mark.parametrize("wrong", [1 - np.float32(0.999), 0.001001])
def test_a_second_moment_off_in_its_fifth_digit_is_found(backend_with: BackendWith, wrong: float) -> None:
    def update(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
        second = slots[2] * np.float32(0.999) + np.float32(wrong) * gradient**2
        array_code.update(optimizer, slots, gradient, row, decays, out)
        out[2] = second

    with pytest.raises(AssertionError, match=r"second of weight 0: error"):
        assert_epochs(backend_with(update=update), replace(CASE, optimizer=epochs.ADAM), "float32", None)


def test_one_missed_hit_is_found(backend_with: BackendWith) -> None:
    def misses_one(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        array_code.softmax_xent(logits, labels, gradient, loss, hits)
        hits -= len(labels) < 37

    with pytest.raises(AssertionError, match=r"rows were counted as hits"):
        assert_epochs(backend_with(softmax_xent=misses_one), CASE, "float32", None)


def test_another_tier_than_requested_is_found(backend_with: BackendWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_lower_tier", lambda best, tier, backend: best)
    fused = {op: lambda *arguments: None for op in (*FUSED, "update")}
    with pytest.raises(AssertionError, match=r"array code was requested, Tier 2, fused ops.* was bound"):
        assert_epochs(backend_with(**fused), CASE, "float32", Tier.ARRAY_CODE)


# Epochs in turn, networks together, features in memory.


def test_an_epoch_on_other_rows_than_its_own_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps_the_first_order(self: Trainer, data: Any, order: Array, row: Any, losses: Array, hits: Array) -> None:
        original(self, data, kept.setdefault(len(order), order), row, losses, hits)

    original, kept = Trainer._take_steps, dict[int, Any]()
    monkeypatch.setattr(Trainer, "_take_steps", keeps_the_first_order)
    case = sequences.CASES[0]
    assert_epochs(NumpyBackend(), case, "float32", None)
    kept.clear()
    with pytest.raises(AssertionError, match=r"epoch 2: sum of losses: error"):
        assert_epochs(NumpyBackend(), case, "float32", None, plan=sequences.IN_TURN)


def test_the_first_networks_rates_for_all_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_first(self: Trainer, rates: Any, rows: int) -> Any:
        return original(self, first.setdefault(len(rates), rates), rows)

    original, first = Trainer.coefficients, dict[int, Any]()
    monkeypatch.setattr(Trainer, "coefficients", of_the_first)
    with pytest.raises(AssertionError, match=r"network 4 of 5.*error"):
        sequences.assert_together(sequences.TOGETHER[1:], NumpyBackend(), sequences.TOGETHER[0], "float32", None)


def test_features_read_as_if_they_had_no_gaps_are_found(backend_with: BackendWith) -> None:
    def ignores_strides(source: Array, index: Array, out: Array) -> None:
        whole = source if source.base is None else source.base
        array_code.gather(whole.reshape(-1)[: source.size].reshape(source.shape), index, out)

    for place, right in (("read-only", True), ("every second column", False)):
        with nullcontext() if right else pytest.raises(AssertionError, match="epoch 1: sum of losses"):
            sequences.assert_refused_or_right(place, backend_with(gather=ignores_strides), CASE, "float32", None, 0)


# Hazards.


def softmax_with(**wrong: Callable[..., Array]) -> Kernel:
    """The array code, with other hits."""

    def planted(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        predicted = wrong["predicted"](logits)
        array_code.softmax_xent(logits, labels, gradient, loss, hits)
        hits[...] = (predicted == labels).sum()

    return planted


def last_largest(logits: Array) -> Array:
    return logits.shape[1] - 1 - logits[:, ::-1].argmax(axis=1)


def largest_number(logits: Array) -> Array:
    return np.nan_to_num(logits, nan=-np.inf, posinf=np.inf).argmax(axis=1)


def first_nan(logits: Array) -> Array:
    return logits.argmax(axis=1)


@pytest.mark.parametrize(
    ("predicted", "hazard"),
    [(last_largest, "ties of all classes"), (largest_number, "NaN at class 35"), (first_nan, "NaN at class 35")],
)
def test_wrong_hits_are_found(backend_with: BackendWith, predicted: Callable[..., Array], hazard: str) -> None:
    case = hazards.CASES[1]
    backend, sample = backend_with(softmax_xent=softmax_with(predicted=predicted)), hazards.samples(case, 0)[hazard]
    with pytest.raises(AssertionError, match=r"of 37 rows were counted as hits"):
        hazards.assert_sample(hazard, sample, backend, case, "float32", None, 0)


def test_losses_added_up_in_float32_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def means(losses: NDArray[Any], hits: NDArray[Any], rows: int) -> tuple[float, float]:
        return float(losses.sum()) / rows, int(hits.sum()) / rows

    monkeypatch.setattr(trainer, "means", means)
    sample = hazards.sums_exactly()
    hazards.assert_sample("sum", sample, NumpyBackend(), hazards.EXACT, "float64", None, 0)
    with pytest.raises(AssertionError, match="epoch: loss: error"):
        hazards.assert_sample("sum", sample, NumpyBackend(), hazards.EXACT, "float32", None, 0)


def test_a_hidden_divergence_is_found(backend_with: BackendWith) -> None:
    def bias_relu_drops_nan(z: Array, bias: Array, out: Array) -> None:
        out[...] = np.fmax(z + bias, 0)

    case = hazards.CASES[0]
    sample = hazards.samples(case, 0)["nan in a row"]
    with pytest.raises(AssertionError, match=r"evaluation: loss: error inf .* expected nan"):
        hazards.assert_sample("NaN", sample, backend_with(bias_relu=bias_relu_drops_nan), case, "float32", None, 0)


# Whole runs.


def test_a_run_that_does_not_repeat_is_found(backend_with: BackendWith) -> None:
    rng = np.random.default_rng(0)

    def jitters(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
        array_code.update(optimizer, slots, gradient * np.float32(1 + 1e-6 * rng.random()), row, decays, out)

    with pytest.raises(AssertionError, match="run again"):
        whole_runs.assert_run(backend_with(update=jitters), whole_runs.CASES[0], "float32", None)


def test_a_wrong_accuracy_is_found(backend_with: BackendWith) -> None:
    def never_hits(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        array_code.softmax_xent(logits, labels, gradient, loss, hits)
        hits[...] = 0

    with pytest.raises(AssertionError, match=r"accuracy 0.0, but 0\.\d+ in float64"):
        whole_runs.assert_run(backend_with(softmax_xent=never_hits), whole_runs.CASES[0], "float32", None)


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
