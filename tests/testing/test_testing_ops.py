"""`assert_parity` is seen to fail: bugs are planted in every op, and each must be found, for the right reason."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from fastmlp.augment.kinds.contrast import hflip
from fastmlp.augment.running import on_rows
from fastmlp.backends import Backend
from fastmlp.backends.base import Array, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network.optimizers import OPTIMIZERS
from fastmlp.network.optimizers.adam import EPSILON
from fastmlp.ops.logistic import softmax_residuals
from fastmlp.testing import CASES, assert_parity, logistic_cases
from tests.array_code import run

BackendWith = Callable[..., Backend]


# Bugs planted in kernels. Each takes what its op takes, fills most of it rightly, and must be found.


def gather_next_row(source: Array, index: Array, out: Array) -> None:
    run("gather", source, np.minimum(index + 1, len(source) - 1), out)


def gather_rounds(source: Array, index: Array, out: Array) -> None:
    run("gather", source, index, out)
    if out.dtype.kind == "f":
        out *= 1 + np.finfo(out.dtype).eps


def matmul_loses_digits(a: Array, b: Array, out: Array) -> None:
    """Within 1e-5, but not within twice NumPy's own error."""
    run("matmul", a, b, out)
    out *= 1 + (3e-6 if out.dtype == np.float32 else 3e-12)


def matmul_ignores_transposition(a: Array, b: Array, out: Array) -> None:
    run("matmul", np.ascontiguousarray(a) if a.flags.c_contiguous else a.T.reshape(a.shape), b, out)


def matmul_overwrites_an_input(a: Array, b: Array, out: Array) -> None:
    run("matmul", a, b, out)
    for owner in (b.base, b):
        if owner is not None and owner.size:
            owner.flags.writeable = True
    b *= 2


def add_bias_subtracts(z: Array, bias: Array, out: Array) -> None:
    run("add_bias", z, -bias, out)


def add_bias_down_the_rows(z: Array, bias: Array, out: Array) -> None:
    swapped = z.shape[0] == z.shape[1]
    run("add_bias", z.T if swapped else z, bias, out.T if swapped else out)


def bias_relu_drops_nan(z: Array, bias: Array, out: Array) -> None:
    with np.errstate(all="ignore"):
        out[...] = np.fmax(z + bias, 0)


def bias_relu_passes_minus_infinity(z: Array, bias: Array, out: Array) -> None:
    with np.errstate(all="ignore"):
        biased = z + bias
        out[...] = biased * (biased > 0)


def bias_relu_after_overwriting(z: Array, bias: Array, out: Array) -> None:
    """Right unless out is z."""
    out[...] = 0
    run("bias_relu", z, bias, out)


def relu_backward_passes_all(gradient: Array, activation: Array, out: Array) -> None:
    run("relu_backward", gradient, np.abs(activation) + 1, out)


def relu_backward_drops_nan(gradient: Array, activation: Array, out: Array) -> None:
    out[...] = np.where(activation > 0, gradient, 0)


def relu_backward_for_ones(gradient: Array, activation: Array, out: Array) -> None:
    """Right if every upstream gradient is one."""
    run("relu_backward", np.ones_like(gradient), activation, out)


def column_sum_is_mean(values: Array, out: Array) -> None:
    run("column_sum", values, out)
    out /= max(len(values), 1)


def column_sum_skips_last_column(values: Array, out: Array) -> None:
    run("column_sum", values[:, :-1], out[:-1])


def column_sum_writes_outside(values: Array, out: Array) -> None:
    run("column_sum", values, out)
    np.lib.stride_tricks.as_strided(out, (len(out) + 1,))[-1] = 0


def dense_forgets_bias(a: Array, weight: Array, bias: Array, out: Array) -> None:
    run("matmul", a, weight, out)


def dense_relu_drops_nan(a: Array, weight: Array, bias: Array, out: Array) -> None:
    run("dense", a, weight, bias, out)
    np.fmax(out, 0, out=out)


def dense_backward_passes_all(delta: Array, weight: Array, activation: Array, out: Array) -> None:
    run("matmul", delta, weight, out)


def dense_backward_drops_nan(delta: Array, weight: Array, activation: Array, out: Array) -> None:
    run("dense_backward", delta, weight, activation, out)
    out[~(activation > 0)] = 0


def dense_gradients_without_last_row(inputs: Array, delta: Array, weights: Array, biases: Array) -> None:
    run("dense_gradients", inputs[:, :-1], delta[:-1], weights, biases)


def dense_gradients_mean_of_biases(inputs: Array, delta: Array, weights: Array, biases: Array) -> None:
    run("dense_gradients", inputs, delta, weights, biases)
    biases /= max(len(delta), 1)


def softmax_without_mean(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    run("softmax_xent", logits, labels, gradient, loss, hits)
    gradient *= max(len(labels), 1)


def softmax_downhill(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    run("softmax_xent", logits, labels, gradient, loss, hits)
    gradient *= -1


def softmax_overflows(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    with np.errstate(all="ignore"):
        at_label = logits[np.arange(len(labels)), labels]
        losses = np.log(np.exp(logits).sum(axis=1)) - at_label
        run("softmax_xent", logits, labels, gradient, loss, hits)
        loss[...] = np.sum(losses)


def softmax_counts_every_tie(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    rows = np.arange(len(labels))
    tied = np.sum(logits[rows, labels] == logits.max(axis=1))
    run("softmax_xent", logits, labels, gradient, loss, hits)
    hits[...] = tied


def softmax_counts_after_overwriting(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    """Right unless gradient is logits, whose rounded log-softmax has ties of its own."""
    counted = np.empty_like(hits)
    run("softmax_xent", logits, labels, np.empty_like(gradient), loss, counted)
    with np.errstate(all="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
        rounded = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    if np.shares_memory(logits, gradient):
        counted[...] = np.sum(rounded.argmax(axis=1) == labels)
    run("softmax_xent", logits, labels, gradient, loss, hits)
    hits[...] = counted


def softmax_counts_nan(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    counted = np.sum(logits.argmax(axis=1) == np.where(np.isnan(logits).any(axis=1), logits.argmax(axis=1), labels))
    run("softmax_xent", logits, labels, gradient, loss, hits)
    hits[...] = counted


def softmax_forgets_weights(
    logits: Array, labels: Array, weights: Array, gradient: Array, loss: Array, hits: Array
) -> None:
    run("weighted_softmax_xent", logits, labels, np.ones_like(weights), gradient, loss, hits)


def softmax_weighs_hits(
    logits: Array, labels: Array, weights: Array, gradient: Array, loss: Array, hits: Array
) -> None:
    run("weighted_softmax_xent", logits.copy(), labels, weights, gradient, loss, hits)
    hits[...] = np.sum((logits.argmax(axis=1) == labels) * weights).astype(np.int64) if labels.size else 0


def labels_smoothed_by_half(
    logits: Array, labels: Array, weights: Array, smoothing: float, gradient: Array, loss: Array, *smoothed: Array
) -> None:
    run("smooth_labels", logits, labels, weights, smoothing / 2, gradient, loss, *smoothed)


def update_uphill(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", optimizer, slots, -gradient, row, decays, out)


def update_forgets_biases(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", optimizer, slots, gradient if decays else 0 * gradient, row, decays, out)


def update_forgets_decay(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", optimizer, slots, gradient, row, False, out)


def update_decays_biases(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", optimizer, slots, gradient, row, True, out)


def update_decays_gradients(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", optimizer, slots, gradient + 0.1 * slots[0], row, decays, out)


def update_keeps_moments(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    before = slots[1:].copy()
    run("update", optimizer, slots, gradient, row, decays, out)
    out[1:] = before


def adam_epsilon_in_the_root(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    kept, step_size, correction = row
    value = slots[0] * (kept if decays else 1)
    run("update", optimizer, slots, gradient, row, decays, out)
    out[0] = value - step_size * out[1] / (np.sqrt(out[2] + EPSILON**2) * correction)


def adam_uses_old_moments(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    kept, step_size, correction = row
    stepped = slots[0] * (kept if decays else 1) - step_size * slots[1] / (np.sqrt(slots[2]) * correction + EPSILON)
    run("update", optimizer, slots, gradient, row, decays, out)
    out[0] = stepped


def standardize_adds(features: Array, mean: Array, scale: float, out: Array) -> None:
    run("standardize", features, -mean, scale, out)


def standardize_divides(features: Array, mean: Array, scale: float, out: Array) -> None:
    run("standardize", features, mean, 1 / scale, out)


def patches_by_sample_variance(images: Array, mean: Array, out: Array) -> None:
    """Divided by 107 in place of 108."""
    run("extract_patches", images, 0 * mean, out)
    out *= np.sqrt(1 - 1 / len(mean))
    out -= mean[:, None]


def patches_down_columns(images: Array, mean: Array, out: Array) -> None:
    run("extract_patches", images.swapaxes(2, 3), mean, out)


def features_forget_the_mean(
    images: Array, mean: Array, triangle: Array, centroids: Array, lengths: Array, out: Array
) -> None:
    run("patch_features", images, 0 * mean, triangle, centroids, lengths, out)


def sums_lack_the_last_row(values: Array, nearest: Array, out: Array) -> None:
    run("cluster_sums", values[:-1], nearest[:-1], out)


def squares_forget_total(values: Array, total: Array, out: Array) -> None:
    run("add_squares", values, 0 * total, out)


def squares_drop_infinity(values: Array, total: Array, out: Array) -> None:
    run("add_squares", np.where(np.isinf(values), 0, values), total, out)


def triangle_pool_unclamped(products: Array, squares: Array, lengths: Array, columns: int, out: Array) -> None:
    """The root of a square that rounding made negative is NaN."""
    run("triangle_pool", products, squares, lengths, columns, out)
    negative = (squares[:, None, :] - 2 * products + lengths[:, None] < 0).any(axis=(1, 2))
    out[negative] = np.nan


def triangle_pool_splits_early(products: Array, squares: Array, lengths: Array, columns: int, out: Array) -> None:
    """The smaller half first: as if positions came in reverse, and the quadrants with them."""
    run("triangle_pool", products[:, :, ::-1], squares[:, ::-1], lengths, columns, out)
    out[...] = out.reshape(len(out), 4, len(lengths))[:, ::-1].reshape(out.shape)


def logistic_overflows(z: Array, out: Array) -> None:
    with np.errstate(all="ignore"):
        out[...] = np.exp(z) / (1 + np.exp(z))


def tanh_of_half(z: Array, out: Array) -> None:
    run("tanh", z / 2, out)


def exponential_of_two(z: Array, out: Array) -> None:
    with np.errstate(all="ignore"):
        out[...] = 2**z


def softmax_keeps_the_largest(logits: Array, out: Array) -> None:
    with np.errstate(all="ignore"):
        out[...] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def logistic_backward_forgets_a_factor(gradient: Array, activation: Array, out: Array) -> None:
    out[...] = gradient * activation


def tanh_backward_forgets_the_square(gradient: Array, activation: Array, out: Array) -> None:
    out[...] = gradient * (1 - activation)


def squared_error_is_whole(predictions: Array, targets: Array, losses: Array) -> None:
    run("squared_error", predictions, targets, losses)
    losses *= 2


def log_loss_of_the_impossible(probabilities: Array, targets: Array, least: float, losses: Array) -> None:
    run("log_loss", probabilities, targets, 0.0, losses)


def binary_log_loss_of_yes(probabilities: Array, targets: Array, least: float, losses: Array) -> None:
    run("log_loss", probabilities, targets, least, losses)


def poisson_deviance_of_no_counts(predictions: Array, targets: Array, losses: Array) -> None:
    with np.errstate(all="ignore"):
        losses[...] = targets * np.log(targets / predictions) - targets + predictions


def residual_reversed(predictions: Array, targets: Array, out: Array) -> None:
    out[...] = targets - predictions


def rows_weighed_twice(values: Array, weights: Array, out: Array) -> None:
    run("weigh_rows", values, weights**2, out)


def penalty_of_every_row(sums: Array, values: Array, alpha: float, total: float, out: Array) -> None:
    out[...] = sums / total + alpha * values


WITH_MOMENTS = [kind for kind in OPTIMIZERS.values() if kind.moments]
BUGS: list[tuple[str, Kernel, str]] = [
    ("gather", gather_next_row, "elements differ"),
    ("gather", gather_rounds, "elements differ"),
    ("matmul", matmul_loses_digits, r"error [23](\.\d+)?e-06 is over the tolerance"),
    ("matmul", matmul_ignores_transposition, r"(transposed a|strided).*over the tolerance"),
    ("matmul", matmul_overwrites_an_input, "changed its input b"),
    ("add_bias", add_bias_subtracts, "over the tolerance"),
    ("add_bias", add_bias_down_the_rows, r"shape \(64, 64\).*over the tolerance"),
    ("bias_relu", bias_relu_drops_nan, r"nan, .*error inf"),
    ("bias_relu", bias_relu_passes_minus_infinity, r"inf, .*error inf"),
    ("bias_relu", bias_relu_after_overwriting, r"aliased, .*over the tolerance"),
    ("relu_backward", relu_backward_passes_all, "over the tolerance"),
    ("relu_backward", relu_backward_drops_nan, r"(nan|inf), .*error inf"),
    ("relu_backward", relu_backward_for_ones, "over the tolerance"),
    ("column_sum", column_sum_is_mean, "over the tolerance"),
    ("column_sum", column_sum_skips_last_column, "error inf .* got nan"),
    ("column_sum", column_sum_writes_outside, "written outside, around it: 1 of 128 elements differ"),
    ("dense", dense_forgets_bias, "over the tolerance"),
    ("dense_relu", dense_relu_drops_nan, r"nan, .*error inf"),
    ("dense_backward", dense_backward_passes_all, "over the tolerance"),
    ("dense_backward", dense_backward_drops_nan, r"(nan|inf), .*error inf"),
    ("dense_gradients", dense_gradients_without_last_row, "_gradient: error .* over the tolerance"),
    ("dense_gradients", dense_gradients_mean_of_biases, "bias_gradient: error .* over the tolerance"),
    ("softmax_xent", softmax_without_mean, "gradient: error .* over the tolerance"),
    ("softmax_xent", softmax_downhill, "gradient: error 2 is over the tolerance"),
    ("softmax_xent", softmax_overflows, r"huge, .*loss: error inf"),
    ("softmax_xent", softmax_counts_every_tie, r"ties, .*hits: 1 of 1 elements differ"),
    ("softmax_xent", softmax_counts_after_overwriting, r"aliased, .*hits: 1 of 1 elements differ"),
    ("softmax_xent", softmax_counts_nan, r"nan, .*hits: 1 of 1 elements differ"),
    ("weighted_softmax_xent", softmax_forgets_weights, "over the tolerance"),
    ("weighted_softmax_xent", softmax_weighs_hits, "hits: 1 of 1 elements differ"),
    ("smooth_labels", labels_smoothed_by_half, "over the tolerance"),
    *((f"{name} update", update_uphill, "over the tolerance") for name in OPTIMIZERS),
    *((f"{name} update", update_forgets_biases, r"undecayed.*over the tolerance") for name in OPTIMIZERS),
    *((f"{name} update", update_forgets_decay, "over the tolerance") for name in OPTIMIZERS),
    *((f"{name} update", update_decays_biases, r"undecayed.*over the tolerance") for name in OPTIMIZERS),
    *((f"{name} update", update_decays_gradients, "over the tolerance") for name in OPTIMIZERS),
    *(
        (f"{name} update", update_keeps_moments, "over the tolerance")
        for name in OPTIMIZERS
        if OPTIMIZERS[name].moments
    ),
    ("adam update", adam_epsilon_in_the_root, r"tiny, .*out\[0\]: error .* over the tolerance"),
    ("adam update", adam_uses_old_moments, r"out\[0\]: error .* over the tolerance"),
    ("logistic", logistic_overflows, r"far, .*error inf"),
    ("tanh", tanh_of_half, "over the tolerance"),
    ("exponential", exponential_of_two, "over the tolerance"),
    ("softmax", softmax_keeps_the_largest, r"far, .*error inf"),
    ("logistic_backward", logistic_backward_forgets_a_factor, "over the tolerance"),
    ("tanh_backward", tanh_backward_forgets_the_square, "over the tolerance"),
    ("squared_error", squared_error_is_whole, "error 1 is over the tolerance"),
    ("log_loss", log_loss_of_the_impossible, r"certain, .*error inf"),
    ("binary_log_loss", binary_log_loss_of_yes, "over the tolerance"),
    ("poisson_deviance", poisson_deviance_of_no_counts, "error inf"),
    ("residual", residual_reversed, "over the tolerance"),
    ("weigh_rows", rows_weighed_twice, "over the tolerance"),
    ("penalized_mean", penalty_of_every_row, "over the tolerance"),
    ("standardize", standardize_adds, "over the tolerance"),
    ("standardize", standardize_divides, "over the tolerance"),
    ("patch_features", features_forget_the_mean, "over the tolerance"),
    ("cluster_sums", sums_lack_the_last_row, "over the tolerance"),
    ("extract_patches", patches_by_sample_variance, "over the tolerance"),
    ("extract_patches", patches_down_columns, "over the tolerance"),
    ("add_squares", squares_forget_total, "over the tolerance"),
    ("add_squares", squares_drop_infinity, r"inf, .*error inf"),
    ("triangle_pool", triangle_pool_unclamped, r"coinciding, .*error inf"),
    ("triangle_pool", triangle_pool_splits_early, r"shape \(3, 7, 4, 3\).*over the tolerance"),
]


@pytest.mark.parametrize(("name", "bug", "sentence"), BUGS, ids=[f"{name}-{bug.__name__}" for name, bug, _ in BUGS])
def test_a_planted_bug_is_found(backend_with: BackendWith, name: str, bug: Kernel, sentence: str, seed: int) -> None:
    with pytest.raises(AssertionError, match=rf"planted kernel {name} \(.*{sentence}") as failure:
        assert_parity(CASES[name], backend_with(**{CASES[name].op: bug}), seed=seed)
    assert f"seed {seed}): " in str(failure.value)


def test_every_op_has_a_planted_bug() -> None:
    ours = {name for name, case in CASES.items() if case.family not in ("images", "logistic") and not case.hazard}
    assert {name for name, _, _ in BUGS} == ours


def residuals_from_one(xp: Any, logits: Array, is_label: Array) -> tuple[Array, Array]:
    losses, residuals = softmax_residuals(xp, logits.copy(), is_label)
    return losses, np.where(is_label, (np.exp(-losses) - 1)[:, None], residuals)


def residuals_of_exponentials_as_they_are(xp: Any, logits: Array, is_label: Array) -> tuple[Array, Array]:
    exponentials = np.exp(logits)
    sums = exponentials.sum(axis=1)
    losses = np.log(sums) - np.log(np.where(is_label, exponentials, 0).sum(axis=1))
    return losses, exponentials / sums[:, None] - is_label


@pytest.mark.parametrize("bug", [residuals_from_one, residuals_of_exponentials_as_they_are])
def test_a_planted_bug_of_logistic_regression_is_found(monkeypatch: pytest.MonkeyPatch, bug: Kernel) -> None:
    monkeypatch.setattr(logistic_cases, "softmax_residuals", bug)
    with pytest.raises(AssertionError, match=r"array code softmax_residuals \(.*error"):
        assert_parity(CASES["softmax_residuals"], NumpyBackend())


def test_with_ones_upstream_a_wrong_gradient_passes() -> None:
    """Why upstream gradients are drawn at random."""
    ones, activation, out = np.ones((4, 3)), np.array([[0.0, 1, 2]] * 4), np.empty((4, 3))
    expected = np.empty((4, 3))
    relu_backward_for_ones(ones, activation, out)
    run("relu_backward", ones, activation, expected)
    np.testing.assert_array_equal(out, expected)


def test_an_unwritten_integer_or_byte_is_found(backend_with: BackendWith) -> None:
    def forgets_hits(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        run("softmax_xent", logits, labels, gradient, loss, np.empty_like(hits))

    def forgets_last_row(images: Array, rows: Array, flip: Array, out: Array) -> None:
        changed = np.copy(out[rows])
        hflip(NumpyBackend.xp, images[rows, :, :-1], flip, changed[:, :, :-1])
        out[rows] = changed

    with pytest.raises(AssertionError, match=r"hits: 1 of 1 elements differ.*got -7777777"):
        assert_parity(CASES["softmax_xent"], backend_with(softmax_xent=forgets_hits))
    with pytest.raises(AssertionError, match=r"levels are wrong.*got 170"):
        assert_parity(CASES["hflip"], backend_with(hflip=forgets_last_row))


def test_writing_before_the_output_is_found(backend_with: BackendWith) -> None:
    def underruns(images: Array, rows: Array, flip: Array, out: Array) -> None:
        on_rows(hflip)(NumpyBackend.xp, images, rows, flip, out)
        if out.size:
            out.base.reshape(-1)[: out.base.size // 2 - out.size // 2][-1] ^= 1

    with pytest.raises(AssertionError, match="written outside, around it: 1 of"):
        assert_parity(CASES["hflip"], backend_with(hflip=underruns))


def test_a_float64_leak_is_found() -> None:
    class Widening(NumpyBackend):
        name = "widening"
        kernels: ClassVar[Mapping[str, Kernel]] = {}

        def asarray(self, array: Array) -> Array:
            return super().asarray(array).astype(np.float64) if array.dtype == np.float32 else super().asarray(array)

    with pytest.raises(AssertionError, match=r"got float64 \(0, 10\), expected float32 \(0, 10\)"):
        assert_parity(CASES["add_bias"], Widening(), dtype="float32")


def test_a_kernel_that_raises_fails_the_check(backend_with: BackendWith) -> None:
    def broken(z: Array, bias: Array, out: Array) -> None:
        raise TypeError("no")

    with pytest.raises(AssertionError, match=r"planted kernel add_bias \(plain, .*: raised TypeError: no"):
        assert_parity(CASES["add_bias"], backend_with(add_bias=broken))


def test_only_strided_inputs_may_be_refused(backend_with: BackendWith) -> None:
    def contiguous_only(values: Array, out: Array) -> None:
        if not values.flags.c_contiguous:
            raise ValueError("values must be C-contiguous")
        run("column_sum", values, out)

    def transposed_refused(a: Array, b: Array, out: Array) -> None:
        if not (a.flags.c_contiguous and b.flags.c_contiguous):
            raise ValueError("a and b must be C-contiguous")
        run("matmul", a, b, out)

    def read_as_packed(values: Array, out: Array) -> None:
        run("column_sum", np.lib.stride_tricks.as_strided(values, strides=packed_strides(values)), out)

    def packed_strides(values: Array) -> tuple[int, int]:
        return values.shape[1] * values.itemsize, values.itemsize

    def padded_read_as_packed(values: Array, out: Array) -> None:
        if values.strides[-1] != values.itemsize or not out.flags.c_contiguous:
            raise ValueError("columns must be contiguous")
        read_as_packed(values, out)

    assert_parity(CASES["column_sum"], backend_with(column_sum=contiguous_only))
    with pytest.raises(AssertionError, match=r"transposed ., .* raised ValueError"):
        assert_parity(CASES["matmul"], backend_with(matmul=transposed_refused))
    with pytest.raises(AssertionError, match=r"mixed, .*over the tolerance"):
        assert_parity(CASES["column_sum"], backend_with(column_sum=read_as_packed))
    with pytest.raises(AssertionError, match=r"padded values, .*error inf"):
        assert_parity(CASES["column_sum"], backend_with(column_sum=padded_read_as_packed))


def test_kernels_off_runs_array_code(backend_with: BackendWith) -> None:
    assert_parity(CASES["add_bias"], backend_with(add_bias=add_bias_subtracts), kernels=False)
