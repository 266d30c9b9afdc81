"""Bugs that even, small or contiguous inputs hide: each is planted, and must be found by the case made for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastmlp.backends import Backend
from fastmlp.backends.base import Array, Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network.optimizers.adam import Adam
from fastmlp.network.optimizers.momentum import Momentum
from fastmlp.testing import CASES, assert_parity
from fastmlp.testing.far_rows import assert_far_rows
from tests.array_code import run

BackendWith = Callable[..., Backend]


# Layouts.


def gather_of_aligned_rows(source: Array, index: Array, out: Array) -> None:
    """Right where 16 bytes can be stored at once, or cannot be read."""
    run("gather", source, index, out)
    if out.size and out.ctypes.data % 16 and out.strides[0] % 16 == 0 and source.ctypes.data % 16 == 0:
        out[-1] = source[0]


def column_sum_at_least_what_was_there(values: Array, out: Array) -> None:
    """A maximum with NaN is the number."""
    sums = np.empty_like(out)
    run("column_sum", values, sums)
    np.fmax(out, sums, out=out)


def relu_backward_in_one_layout(gradient: Array, activation: Array, out: Array) -> None:
    """Right if both inputs lie in memory alike."""
    same = gradient.strides == activation.strides
    run("relu_backward", gradient, activation if same else activation[:, ::-1], out)


# Numbers.


def standardize_difference_of_products(features: Array, mean: Array, scale: float, out: Array) -> None:
    multiplier = out.dtype.type(scale)
    out[...] = features * multiplier - mean * multiplier


def add_bias_of_the_first_128(z: Array, bias: Array, out: Array) -> None:
    run("add_bias", z, bias[np.arange(len(bias)) % 128], out)


def bias_relu_at_zero(z: Array, bias: Array, out: Array) -> None:
    biased = z + bias
    run("bias_relu", z, bias, out)
    out[biased == 0] = 1


def column_sum_of_the_first_128(values: Array, out: Array) -> None:
    run("column_sum", values[:128], out)


def gather_32_bits(source: Array, index: Array, out: Array) -> None:
    run("gather", source.astype(np.int32).astype(source.dtype) if source.dtype == np.int64 else source, index, out)


def matmul_without_last_of_many_columns(a: Array, b: Array, out: Array) -> None:
    run("matmul", a, b, out)
    if out.size > 60_000:
        out[:, -1] = 0


def softmax_sums_in_its_own_precision(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, labels]
    run("softmax_xent", logits, labels, gradient, loss, hits)
    if losses.size:
        loss[0] = np.cumsum(losses)[-1]  # one after the other


def softmax_clamps(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    largest = logits.max(axis=1, keepdims=True)
    clamped = np.where(logits < largest - 80, largest - 80, logits)
    losses, counted = np.empty_like(loss), np.empty_like(hits)
    run("softmax_xent", logits, labels, np.empty_like(gradient), losses, counted)
    run("softmax_xent", clamped, labels, gradient, loss, hits)
    loss[...], hits[...] = losses, counted


def softmax_16_bit_labels(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    run("softmax_xent", logits, labels.astype(np.int16).astype(np.int64) % logits.shape[1], gradient, loss, hits)


def softmax_counts_with_fmax(logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    """NaN is passed over, as by a maximum in C."""
    without = np.where(np.isnan(logits), -np.inf, logits)
    counted = np.sum(without.argmax(axis=1) == labels)
    run("softmax_xent", logits, labels, gradient, loss, hits)
    hits[...] = counted


def softmax_weighs_in_groups(
    logits: Array, labels: Array, weights: Array, gradient: Array, loss: Array, hits: Array
) -> None:
    """Right but for weights a thousandth of the largest."""
    run("weighted_softmax_xent", logits, labels, weights, gradient, loss, hits)
    gradient[weights < 1e-3 * weights.max(initial=0)] *= 2


# Updates.


def adam_rounds_before_subtracting(
    optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array
) -> None:
    kind = slots.dtype.type
    beta = optimizer.beta_2 if slots.dtype == np.float64 else float(kind(optimizer.beta_2))
    run("update", replace(optimizer, beta_2=beta), slots, gradient, row, decays, out)


def adam_of_the_paper(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", Adam(optimizer.weight_decay), slots, gradient, row, decays, out)


def momentum_of_nesterov(optimizer: Any, slots: Array, gradient: Array, row: Any, decays: bool, out: Array) -> None:
    run("update", Momentum(optimizer.weight_decay, optimizer.momentum), slots, gradient, row, decays, out)


HIDDEN: list[tuple[str, Kernel, str]] = [
    ("gather", gather_of_aligned_rows, r"plain, misaligned out, .*elements differ"),
    ("column_sum", column_sum_at_least_what_was_there, r"plain, misaligned, .*got [01.]+\d*e\+30"),
    ("relu_backward", relu_backward_in_one_layout, r"plain, mixed, .*over the tolerance"),
    ("standardize", standardize_difference_of_products, "far means, .*over the tolerance"),
    ("add_bias", add_bias_of_the_first_128, r"shape \(5, 200\).*over the tolerance"),
    ("bias_relu", bias_relu_at_zero, r"kinks, .*over the tolerance"),
    ("column_sum", column_sum_of_the_first_128, r"shape \(130, 5\).*over the tolerance"),
    ("gather, labels", gather_32_bits, "elements differ"),
    ("matmul, medium tiles", matmul_without_last_of_many_columns, "over the tolerance"),
    ("matmul, large tiles", matmul_without_last_of_many_columns, "over the tolerance"),
    ("softmax_xent, many rows", softmax_sums_in_its_own_precision, "loss: error .* over the tolerance"),
    ("softmax_xent, low probabilities", softmax_clamps, r"gradient\[:, \d+\]: error .* over the tolerance"),
    ("softmax_xent, many classes", softmax_16_bit_labels, r"shape \(3, 33000\).*over the tolerance"),
    ("softmax_xent, not finite", softmax_counts_with_fmax, "hits: 1 of 1 elements differ"),
    ("weighted_softmax_xent, weights of all sizes", softmax_weighs_in_groups, r"gradient\[\d+\]: error 1 is over"),
    ("adam update, first step", adam_rounds_before_subtracting, r"out\[[02]\]: error .* over the tolerance"),
    ("adam update, other constants", adam_of_the_paper, r"out\[[012]\]: error .* over the tolerance"),
    ("momentum update, without Nesterov", momentum_of_nesterov, r"out\[0\]: error .* over the tolerance"),
]


@pytest.mark.parametrize(("name", "bug", "sentence"), HIDDEN, ids=[bug.__name__ for _, bug, _ in HIDDEN])
def test_a_hidden_bug_is_found(backend_with: BackendWith, name: str, bug: Kernel, sentence: str, seed: int) -> None:
    with pytest.raises(AssertionError, match=rf"planted kernel {name} \(.*{sentence}"):
        assert_parity(CASES[name], backend_with(**{CASES[name].op: bug}), seed=seed)


def test_rows_in_places_of_32_bits_are_found(backend_with: BackendWith) -> None:
    def gather_32_bit_rows(source: Array, index: Array, out: Array) -> None:
        np.take(source, index.astype(np.uint32).astype(np.int64), axis=0, out=out)

    with pytest.raises(AssertionError, match=r"rows \(4294967303, .*\): 2 of 4 elements differ; .* got 0"):
        assert_far_rows(CASES["gather"], backend_with(gather=gather_32_bit_rows), "int64")


def test_every_hazard_has_a_hidden_bug() -> None:
    ours = {case.hazard for case in CASES.values() if case.family != "images"}
    assert ours == {"", *(CASES[name].hazard for name, _, _ in HIDDEN)}


def test_array_code_is_judged_by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong number that array code and kernels share."""
    right = Adam.coefficients
    monkeypatch.setattr(Adam, "coefficients", lambda self, rates, first_step: right(self, rates, first_step + 1))
    for kernels in (False, True):
        with pytest.raises(AssertionError, match=r"out\[0\]: error .* over the tolerance"):
            assert_parity(CASES["adam update"], NumpyBackend(), kernels=kernels)
