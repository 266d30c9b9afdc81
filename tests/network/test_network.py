"""The network itself: first parameters, tiers, what it refuses, and what its passes return."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp.backends import Backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import UsageError
from fastmlp.network.evaluation import ROWS, softmax
from fastmlp.network.optimizers import SGD, Optimizer, make_optimizer
from fastmlp.network.optimizers.adam import Adam
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.tiers import FUSED, Tier, choose_tier
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.ops import Array, names_of
from fastmlp.ops.network import NetworkOps

PAPER = (512, 64, 10)
KERNELS = (*FUSED, "update")


def train(trainer: Trainer, features: Any, labels: Any, order: Any, learning_rate: float) -> tuple[float, float]:
    """One epoch of the same learning rate for every step."""
    rates = np.full(-(-len(order) // trainer.batch_size), learning_rate)
    return trainer.train_epoch(features, labels, order, rates)


# Parameters.


def test_the_papers_initial_parameters_bit_for_bit() -> None:
    legacy = np.random.RandomState(0)  # the stream of numpy.random.seed(0)
    W1, W2 = legacy.randn(512, 64) / 1000, legacy.randn(64, 10) / 1000
    for dtype in ("float64", "float32"):
        parameters = initial_parameters(PAPER, "paper", 0, dtype)
        np.testing.assert_array_equal(parameters.weights[0], W1.astype(dtype))
        np.testing.assert_array_equal(parameters.weights[1], W2.astype(dtype))
        assert [bias.shape for bias in parameters.biases] == [(64,), (10,)]
        assert not any(bias.any() for bias in parameters.biases)
        assert parameters.dtype == dtype
        assert parameters.sizes == PAPER


def test_drawing_parameters_leaves_numpys_global_stream_alone() -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    initial_parameters((4, 3), "paper", 0)
    assert np.random.rand() == expected


def test_he_initialisation_scales_to_the_fan_in() -> None:
    parameters = initial_parameters((800, 200, 50), "he", 5)
    for weight in parameters.weights:
        assert weight.std() == pytest.approx(np.sqrt(2 / weight.shape[0]), rel=0.03)
        assert abs(weight.mean()) < 0.05 * weight.std()


@pytest.mark.parametrize("init", ["paper", "he"])
def test_seeds_repeat_and_differ(init: str) -> None:
    one, two, other = (initial_parameters((5, 4, 3), init, seed).weights[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (((5,),), r"Layer sizes must be two or more positive numbers, not \(5,\)"),
        (((5, 0, 3),), r"Layer sizes must be two or more positive numbers, not \(5, 0, 3\)"),
        (((5, 3), "xavier"), "init must be 'paper' or 'he', not 'xavier'"),
        (((5, 3), "he", 0, "float16"), "dtype must be one of float32, float64, not 'float16'"),
    ],
)
def test_parameters_that_cannot_be(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        initial_parameters(*arguments)


# Tiers.


def nothing(*arguments: Array) -> None: ...


def test_choose_tier_depends_on_its_arguments_alone(backend_with: Callable[..., Backend]) -> None:
    bare, fused = backend_with(), backend_with(**dict.fromkeys(KERNELS, nothing))
    partly = backend_with(**dict.fromkeys(KERNELS[1:], nothing))
    assert choose_tier(PAPER, "float32", bare) == choose_tier(PAPER, "float32", bare)
    assert choose_tier(PAPER, "float32", bare).tier == Tier.ARRAY_CODE
    assert choose_tier(PAPER, "float32", fused).tier == Tier.FUSED_OPS
    assert choose_tier(PAPER, "float32", partly).tier == Tier.ARRAY_CODE


def test_a_tiers_reason_names_what_is_missing_and_for_which_network(backend_with: Callable[..., Backend]) -> None:
    partly = backend_with(**dict.fromkeys(KERNELS[1:], nothing))
    choice = choose_tier(PAPER, "float32", partly)
    assert choice.reason == f"planted has no kernel for {FUSED[0]} (512-64-10 float32)"
    fused = backend_with(**dict.fromkeys(KERNELS, nothing))
    assert "has a kernel for every fused op (512-64-10 float64)" in choose_tier(PAPER, "float64", fused).reason


class Adamax(Adam):
    """An optimizer of somebody's with Adam's moments, and no kernel anywhere."""

    name = "adamax"

    def step(self, xp: Any, gradient: Any, moments: Any, coefficients: Any) -> Any:
        largest = xp.where(xp.abs(gradient) > 0.999 * moments[1], xp.abs(gradient), 0.999 * moments[1])
        first = 0.9 * moments[0] + 0.1 * gradient
        return coefficients[0] * first / (largest + 1e-8), (first, largest)


class Averaged(SGD):
    """One with a single moment."""

    name = "averaged"
    moments = ("mean",)

    def step(self, xp: Any, gradient: Any, moments: Any, coefficients: Any) -> Any:
        mean = 0.5 * moments[0] + 0.5 * gradient
        return coefficients[0] * mean, (mean,)


@pytest.mark.parametrize("optimizer", [Adamax(), Averaged()], ids=lambda optimizer: optimizer.name)
def test_an_optimizer_without_kernels_trains_by_its_own_step(backend: Backend, optimizer: Optimizer) -> None:
    choice = choose_tier(PAPER, "float32", backend, optimizer)
    assert choice.tier == Tier.ARRAY_CODE
    assert f"{optimizer.name}_update" in choice.reason
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((30, 6)), rng.integers(0, 4, 30)
    trainers = [Trainer(initial_parameters((6, 5, 4), "he", 1, "float64"), engine, 8, optimizer=optimizer)
                for engine in (NumpyBackend(), backend)]  # fmt: skip
    for trainer in trainers:
        place = trainer.backend.asarray
        train(trainer, place(features.copy()), place(labels.copy()), np.arange(30), 0.05)
    expected, got = (trainer.state for trainer in trainers)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-10, atol=1e-13, err_msg=name)


def counting_backend(backend_with: Callable[..., Backend], calls: list[str]) -> Backend:
    """Every op is a kernel that notes its call and runs the array code."""
    array_code = NetworkOps(NumpyBackend.xp)

    def counted(op: str) -> Callable[..., None]:
        def kernel(*arguments: Array) -> None:
            calls.append(op)
            getattr(array_code, op)(*arguments)

        return kernel

    return backend_with(**{op: counted(op) for op in names_of(NetworkOps)})


def test_an_op_without_a_kernel_calls_those_of_its_parts(backend_with: Callable[..., Backend]) -> None:
    calls: list[str] = []

    def counted_matmul(a: Array, b: Array, out: Array) -> None:
        calls.append("matmul")
        np.matmul(a, b, out=out)

    a, weight, bias, out = np.ones((2, 3)), np.ones((3, 4)), -np.arange(4.0), np.empty((2, 4))
    backend_with(matmul=counted_matmul).network_ops.dense_relu(a, weight, bias, out)
    assert calls == ["matmul"]
    assert out.tolist() == 2 * [[3, 2, 1, 0]]


def test_the_best_tier_calls_the_kernels_and_array_code_does_not(backend_with: Callable[..., Backend]) -> None:
    calls: list[str] = []
    backend = counting_backend(backend_with, calls)
    features, labels, order = np.ones((5, 4), "f4"), np.zeros(5, np.int64), np.arange(5)
    best = Trainer(initial_parameters((4, 3, 2), "he"), backend, 4)
    assert best.tier.tier == Tier.FUSED_OPS
    train(best, features, labels, order, 0.1)
    layers = {"dense", "dense_relu", "dense_backward", "dense_gradients"}
    assert set(calls) == layers | {"gather", "softmax_xent", "update"}
    assert calls.count("softmax_xent") == 2
    calls.clear()
    lower = Trainer(initial_parameters((4, 3, 2), "he"), backend, 4, tier=Tier.ARRAY_CODE)
    assert (lower.tier.tier, lower.tier.reason) == (Tier.ARRAY_CODE, "requested")
    train(lower, features, labels, order, 0.1)
    assert calls == []


@pytest.mark.parametrize("tier", [Tier.FUSED_OPS, Tier.FUSED_EPOCH])
def test_a_tier_that_is_not_there_is_refused(tier: Tier) -> None:
    with pytest.raises(UsageError, match=f"Backend numpy has no tier {tier.value} for this network: its best is 1"):
        Trainer(initial_parameters((4, 3)), NumpyBackend(), 8, tier)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_holds_at_least_one_row(batch_size: int) -> None:
    with pytest.raises(UsageError, match=f"The batch size must be 1 or more, not {batch_size}"):
        Trainer(initial_parameters((4, 3)), NumpyBackend(), batch_size)


# Passes.


def bound(sizes: tuple[int, ...] = (6, 5, 4), batch_size: int = 8, dtype: str = "float64") -> Trainer:
    return Trainer(initial_parameters(sizes, "he", 1, dtype), NumpyBackend(), batch_size)


def sample(rows: int, dtype: str = "float64") -> tuple[Any, Any]:
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, 6)).astype(dtype), rng.integers(0, 4, rows)


def mean_loss_and_accuracy(parameters: Parameters, features: Any, labels: Any) -> tuple[float, float]:
    hidden = np.maximum(features @ parameters.weights[0] + parameters.biases[0], 0)
    logits = hidden @ parameters.weights[1] + parameters.biases[1]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean()), float((logits.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("rows", [1, 7, ROWS, ROWS + 1, 2 * ROWS + 3])
def test_evaluate_is_the_mean_over_all_rows_whatever_the_parts(rows: int) -> None:
    trainer = bound()
    features, labels = sample(rows)
    expected = mean_loss_and_accuracy(trainer.parameters, features, labels)
    assert trainer.evaluate(features, labels) == pytest.approx(expected, rel=1e-12)


def test_evaluating_changes_nothing() -> None:
    trainer = bound()
    features, labels = sample(30)
    before, copy = trainer.parameters, features.copy()
    trainer.evaluate(features, labels)
    trainer.logits(features)
    np.testing.assert_array_equal(features, copy)
    for one, two in zip(before.weights, trainer.parameters.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_logits_keep_the_rows_order_over_several_parts() -> None:
    trainer = bound()
    features, _ = sample(ROWS + 50)
    logits = trainer.logits(features)
    np.testing.assert_allclose(logits[[0, ROWS, -1]], trainer.logits(features[[0, ROWS, -1]]))
    assert trainer.logits(features[:0]).shape == (0, 4)


def test_an_epochs_loss_and_accuracy_are_means_over_rows_not_batches() -> None:
    """With no learning the epoch sees one model; a ragged last batch must not weigh as much as a full one."""
    trainer = bound(batch_size=8)
    features, labels = sample(13)
    expected = mean_loss_and_accuracy(trainer.parameters, features, labels)
    order = np.random.default_rng(0).permutation(13)
    assert train(trainer, features, labels, order, 0.0) == pytest.approx(expected, rel=1e-12)


def test_a_ragged_batchs_gradient_is_a_mean_over_its_own_rows() -> None:
    features, labels = sample(13)
    whole, alone = bound(batch_size=8), bound(batch_size=5)
    train(whole, features, labels, np.arange(8), 0.0)
    train(whole, features, labels, np.arange(8, 13), 0.5)  # 5 rows in a workspace for 8
    train(alone, features, labels, np.arange(8, 13), 0.5)
    for one, two in zip(whole.parameters.weights, alone.parameters.weights, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-13)


def test_a_batch_larger_than_the_data_is_one_step() -> None:
    features, labels = sample(5)
    large, exact = bound(batch_size=64), bound(batch_size=5)
    for trainer in (large, exact):
        train(trainer, features, labels, np.arange(5), 0.5)
    np.testing.assert_array_equal(large.parameters.weights[0], exact.parameters.weights[0])


def test_one_row_trains() -> None:
    trainer = bound(batch_size=1)
    features, labels = sample(1)
    first, _ = train(trainer, features, labels, np.arange(1), 0.1)
    second, accuracy = train(trainer, features, labels, np.arange(1), 0.1)
    assert second < first
    assert accuracy in (0.0, 1.0)


def test_no_rows_have_no_mean() -> None:
    trainer = bound()
    features, labels = sample(0)
    with pytest.raises(UsageError, match="There are no rows to take the mean loss of: give at least one"):
        trainer.evaluate(features, labels)
    with pytest.raises(UsageError, match="There are no rows"):
        train(trainer, features, labels, np.arange(0), 0.1)


def test_training_starts_from_a_copy_of_the_parameters() -> None:
    parameters = initial_parameters((6, 5, 4), "he", 1, "float64")
    before = parameters.weights[0].copy()
    features, labels = sample(20)
    trainer = Trainer(parameters, NumpyBackend(), 8)
    snapshot = trainer.parameters
    train(trainer, features, labels, np.arange(20), 0.5)
    np.testing.assert_array_equal(parameters.weights[0], before)
    np.testing.assert_array_equal(snapshot.weights[0], before)
    assert (trainer.parameters.weights[0] != before).any()


def test_order_decides_which_rows_are_seen_and_when() -> None:
    features, labels = sample(16)
    shuffled, sorted_ = bound(), bound()
    order = np.random.default_rng(3).permutation(16)
    train(shuffled, features, labels, order, 0.5)
    train(sorted_, features[order], labels[order], np.arange(16), 0.5)
    np.testing.assert_array_equal(shuffled.parameters.weights[0], sorted_.parameters.weights[0])


def test_divergence_shows_as_a_loss_that_is_not_finite() -> None:
    trainer = bound(dtype="float32")
    features, labels = sample(64, "float32")
    with np.errstate(all="ignore"):
        losses = [train(trainer, features, labels, np.arange(64), 1e8)[0] for _ in range(12)]
        evaluated, accuracy = trainer.evaluate(features, labels)
    assert np.isnan(losses[-1])
    assert np.isnan(evaluated)
    assert accuracy == 0  # a row whose logits are NaN is no hit


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_step_needs_its_learning_rate(count: int) -> None:
    features, labels = sample(13)
    with pytest.raises(UsageError, match=f"Give one learning rate per step, 2 here, not {count}"):
        bound().train_epoch(features, labels, np.arange(13), np.ones(count))


# What is trained.


def full(optimizer: str = "adam") -> Trainer:
    """Everything at once: an optimizer with moments, weight decay, and standardised features."""
    trainer = Trainer(
        initial_parameters((6, 5, 4), "he", 1), NumpyBackend(), 8, optimizer=make_optimizer(optimizer, 0.1)
    )
    trainer.standardize(np.linspace(-1, 2, 6), 0.7)
    return trainer


def test_parameters_are_views_of_one_array_each() -> None:
    trainer = bound()
    for group in (trainer.network.weights, trainer.network.biases):
        assert all(np.shares_memory(array, group.slots) for array in group.values)
        assert all(np.shares_memory(array, group.gradient) for array in group.gradients)
    trainer.network.weights.values[1][2, 3] = 42
    assert trainer.parameters.weights[1][2, 3] == 42
    assert trainer.state["weights"][6 * 5 + 2 * 4 + 3] == 42


def test_standardising_is_training_on_standardised_features() -> None:
    """And `parameters`, evaluation and logits are for features as they are."""
    features, labels = sample(40)
    mean, scale = np.linspace(-3, 2, 6), 0.7
    standardized, plain = bound(), bound()
    standardized.standardize(mean, scale)
    np.testing.assert_allclose(standardized.logits(features), plain.logits((features - mean) * scale), rtol=1e-12)
    for trainer, rows in ((standardized, features), (plain, (features - mean) * scale)):
        train(trainer, rows, labels, np.arange(40), 0.5)
    np.testing.assert_allclose(standardized.network.weights.values[0], plain.network.weights.values[0], rtol=1e-12)
    assert standardized.evaluate(features, labels) == pytest.approx(plain.evaluate((features - mean) * scale, labels))
    alone = Trainer(standardized.parameters, NumpyBackend(), 8)
    np.testing.assert_array_equal(alone.logits(features), standardized.logits(features))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_network_goes_on_from_its_state_bit_for_bit(optimizer: str) -> None:
    features, labels = sample(40, "float32")
    order = np.random.default_rng(0).permutation(40)
    unbroken, broken, resumed = full(optimizer), full(optimizer), bound(dtype="float32")
    resumed = Trainer(resumed.parameters, NumpyBackend(), 8, optimizer=broken.optimizer)
    for trainer in (unbroken, unbroken, broken):
        train(trainer, features, labels, order, 0.01)
    resumed.state = broken.state
    train(resumed, features, labels, order, 0.01)
    assert resumed.state.keys() == unbroken.state.keys()
    for name, value in unbroken.state.items():
        np.testing.assert_array_equal(resumed.state[name], value, err_msg=name)
    assert unbroken.steps == 10


def test_the_state_is_a_copy() -> None:
    trainer = full()
    before = trainer.state
    features, labels = sample(40, "float32")
    train(trainer, features, labels, np.arange(40), 0.01)
    assert not before["moment_1_weights"].any()
    assert (trainer.state["weights"] != before["weights"]).any()


def test_networks_trained_together_end_as_if_alone() -> None:
    features, labels = sample(30, "float32")
    orders = [np.random.default_rng(k).permutation(30) for k in range(3)]
    rates = [np.linspace(0.1, 0.01 * k, 4) for k in range(3)]
    together, alone = ([full("adam"), full("sgd"), bound(dtype="float32")] for _ in range(2))
    figures = train_epoch_together(together, features, labels, orders, rates)
    for k, trainer in enumerate(alone):
        assert figures[k] == trainer.train_epoch(features, labels, orders[k], rates[k])
        np.testing.assert_array_equal(together[k].state["weights"], trainer.state["weights"])


# Softmax on the host.


@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), min_size=1, max_size=5))
def test_probabilities_are_probabilities(logits: list[list[float]]) -> None:
    probabilities = softmax(np.array(logits))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    chosen = probabilities[np.arange(len(logits)), np.argmax(logits, axis=1)]
    np.testing.assert_array_equal(chosen, probabilities.max(axis=1))
