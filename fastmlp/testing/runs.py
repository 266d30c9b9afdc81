"""Whole steps, epochs and training runs of one backend against the array code on NumPy in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network.optimizers import OPTIMIZERS, SGD, Optimizer, make_optimizer
from fastmlp.network.parameters import DTYPES, Parameters, initial_parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.check import Check, where_held
from fastmlp.testing.compare import (
    HostArray,
    assert_close,
    assert_close_on_the_whole,
    assert_equal,
    assert_same_kind,
    error,
)
from fastmlp.testing.tolerances import EPOCH, RUN_ACCURACY, STEP_FLOOR, limit

ROWS = 1000  # training rows, and as many to test on: an accuracy moves by 0.1 points a row
BATCH = 64  # 1000 rows leave a last batch of 40
EPOCHS = 6
SPREAD = 4.0  # between the classes' centres, against noise of 1: a run gets most rows right, and not all
KINK = 1e-4  # how far from ReLU's kink, against a spread of 1, so that no rounding takes a value to its other side

# No, one and two hidden layers; the paper's.
SIZES: tuple[tuple[int, ...], ...] = ((24, 10), (24, 16, 10), (24, 16, 12, 10), (512, 64, 10))


@dataclass(frozen=True)
class Method:
    """How a run is trained; mean and scale standardise its features."""

    name: str
    optimizer: Optimizer
    learning_rate: float
    mean: float | None = None
    scale: float = 1.0

    def rates(self, epoch: int, epochs: int, steps: int) -> NDArray[np.float64]:
        """Another learning rate every step (steps,), and a tenth of it for the last third of the epochs."""
        drop = 0.1 if 3 * epoch >= 2 * epochs else 1.0
        return drop * self.learning_rate * np.linspace(1, 0.7, steps)


# Plain gradient descent; each other optimizer with all the rest at once.
METHODS = (
    Method("sgd", SGD(), 0.1),
    *(Method(name, make_optimizer(name, 0.3), 0.01, mean=0.25, scale=1.5) for name in OPTIMIZERS if name != SGD.name),
)


@dataclass(frozen=True)
class Problem:
    """A network's first parameters, and clusters of points to learn: features (n, d), labels int64 (n,).

    All floats are float64 holding float32 values, so that both dtypes start from the same numbers.
    """

    parameters: Parameters
    features: HostArray
    labels: NDArray[np.int64]
    test_features: HostArray
    test_labels: NDArray[np.int64]

    @classmethod
    @cache
    def draw(cls, sizes: tuple[int, ...], seed: int, rows: int = ROWS) -> Problem:
        rng = np.random.default_rng([seed, *sizes])
        labels = rng.integers(0, sizes[-1], 2 * rows)
        centres = SPREAD / np.sqrt(sizes[0]) * rng.standard_normal((sizes[-1], sizes[0]))
        features = centres[labels] + rng.standard_normal((2 * rows, sizes[0]))
        features = features.astype(np.float32).astype(np.float64)
        parameters = initial_parameters(sizes, "he", seed, "float32").astype("float64")
        return cls(parameters, features[:rows], labels[:rows], features[rows:], labels[rows:])

    def bind(self, backend: Backend, dtype: str, tier: Tier | None, method: Method = METHODS[0]) -> Trainer:
        network = Trainer(self.parameters.astype(dtype), backend, BATCH, tier, method.optimizer)
        if method.mean is not None:
            network.standardize(np.full(network.sizes[0], method.mean), method.scale)
        if tier is not None and network.tier.tier != tier:
            raise AssertionError(f"{backend}: {_tier(tier)} was requested, {network.tier} was bound")
        return network

    def order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng(epoch).permutation(len(self.labels))

    def rows_away_from_kinks(self, distance: float = KINK) -> NDArray[np.int64]:
        """The rows none of whose hidden units is that near to ReLU's kink."""
        away = np.ones(len(self.labels), dtype=bool)
        activations = self.features
        for weight, bias in zip(self.parameters.weights[:-1], self.parameters.biases[:-1], strict=True):
            z = activations @ weight + bias
            away &= (np.abs(z) > distance).all(axis=1)
            activations = np.maximum(z, 0)
        return np.flatnonzero(away)


def tiers(
    backend: Backend, sizes: tuple[int, ...], dtype: str, optimizer: Optimizer | None = None
) -> Iterator[Tier | None]:
    """What to give `Trainer` so that all its code runs: None for the best tier, and every lower one."""
    yield None
    best = choose_tier(sizes, dtype, backend, optimizer).tier
    yield from (tier for tier in Tier if tier < max(best, Tier.FUSED_OPS))


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """Steps, and by each method of training epochs and runs, in each tier; and that NaN shows."""
    for sizes in SIZES[1:2] if quick else SIZES:
        for dtype in DTYPES[:1] if quick else DTYPES:
            yield from _checks_of(backend, sizes, dtype, seed)
        for tier in tiers(backend, sizes, "float32"):
            name = f"NaN shows, {_network(sizes)}, {_label(tier)}"
            yield Check(name, partial(assert_divergence_shows, backend, sizes, tier))


def _checks_of(backend: Backend, sizes: tuple[int, ...], dtype: str, seed: int) -> Iterator[Check]:
    for tier in tiers(backend, sizes, dtype):
        step = partial(assert_step, backend, sizes, dtype, tier, seed)
        yield Check(f"step, {_network(sizes)}, {dtype}, {_label(tier)}", where_held(backend, dtype, step))
    for method in METHODS:
        for tier in tiers(backend, sizes, dtype, method.optimizer):
            for what, run in (("epoch", assert_epoch), ("run", assert_run)):
                check = partial(run, backend, sizes, dtype, tier, seed, method)
                name = f"{method.name} {what}, {_network(sizes)}, {dtype}, {_label(tier)}"
                yield Check(name, where_held(backend, dtype, check))


# One step.


@dataclass(frozen=True)
class Step:
    """What one step leaves: the sum of losses (1,), hits int64 (1,), and every gradient by name."""

    loss: HostArray
    hits: HostArray
    gradients: dict[str, HostArray]


def take_step(problem: Problem, backend: Backend, dtype: str, tier: Tier | None, rows: NDArray[np.int64]) -> Step:
    """The loss, hits and gradients of one batch of those rows."""
    trainer = problem.bind(backend, dtype, tier)
    features, labels = _place(backend, dtype, problem.features, problem.labels)
    loss, hits = backend.empty((1,), dtype), backend.empty((1,), "int64")
    trainer.gradients((features, labels, None), backend.asarray(rows), loss, hits)
    weights = {f"weight {i}": backend.to_numpy(g) for i, g in enumerate(trainer.network.weights.gradients)}
    biases = {f"bias {i}": backend.to_numpy(g) for i, g in enumerate(trainer.network.biases.gradients)}
    _assert_data_unchanged(backend, dtype, problem, features, labels)
    return Step(backend.to_numpy(loss), backend.to_numpy(hits), weights | biases)


def assert_step(backend: Backend, sizes: tuple[int, ...], dtype: str, tier: Tier | None, seed: int = 0) -> None:
    """One step's gradients: to 1e-12 in float64, to 1e-5 and twice NumPy's own error in float32; loss and hits too.

    A full batch and a ragged one, of rows away from ReLU's kinks.
    """
    problem = Problem.draw(sizes, seed)
    away = problem.rows_away_from_kinks()
    for rows in (away[:BATCH], away[BATCH : BATCH + 37], away[:1]):
        what = f"{backend} step of {len(rows)} rows ({_network(sizes)}, {dtype}, {_tier(tier)}, seed {seed})"
        exact = take_step(problem, NumpyBackend(), "float64", Tier.ARRAY_CODE, rows)
        by_numpy = take_step(problem, NumpyBackend(), dtype, Tier.ARRAY_CODE, rows)
        got = take_step(problem, backend, dtype, tier, rows)
        assert_equal(f"{what}: hits", got.hits, exact.hits)
        _assert_step_array(f"{what}: loss", dtype, got.loss, exact.loss, by_numpy.loss)
        for name, gradient in got.gradients.items():
            reference, own = exact.gradients[name], by_numpy.gradients[name]
            _assert_step_array(f"{what}: gradient of {name}", dtype, gradient, reference, own)


def _assert_step_array(what: str, dtype: str, got: HostArray, exact: HostArray, by_numpy: HostArray) -> None:
    assert_same_kind(what, got, exact.shape, dtype)
    assert_close(what, got, exact, limit(dtype, error(by_numpy, exact), STEP_FLOOR))


# Epochs and whole runs.


@dataclass(frozen=True)
class Run:
    """What a training run leaves: each epoch's loss and accuracy, both on the test rows, and the parameters."""

    losses: list[float]
    accuracies: list[float]
    test_loss: float
    test_accuracy: float
    parameters: Parameters


def train(problem: Problem, backend: Backend, dtype: str, tier: Tier | None, epochs: int, method: Method) -> Run:
    """That many epochs."""
    network = problem.bind(backend, dtype, tier, method)
    features, labels = _place(backend, dtype, problem.features, problem.labels)
    losses, accuracies = [], []
    for epoch in range(epochs):
        rates = method.rates(epoch, epochs, -(-len(problem.labels) // BATCH))
        loss, accuracy = network.train_epoch(features, labels, problem.order(epoch), rates)
        losses.append(loss)
        accuracies.append(accuracy)
    tested = network.evaluate(*_place(backend, dtype, problem.test_features, problem.test_labels))
    _assert_data_unchanged(backend, dtype, problem, features, labels)
    return Run(losses, accuracies, *tested, network.parameters)


@cache
def _exact_run(sizes: tuple[int, ...], seed: int, epochs: int, method: Method) -> Run:
    return train(Problem.draw(sizes, seed), NumpyBackend(), "float64", Tier.ARRAY_CODE, epochs, method)


def assert_epoch(
    backend: Backend,
    sizes: tuple[int, ...],
    dtype: str,
    tier: Tier | None,
    seed: int = 0,
    method: Method = METHODS[0],
) -> None:
    """One epoch with a ragged last batch: its loss and every parameter to 1e-4 in float32 (1e-10 in float64).

    Adam's parameters in float32 on the whole: it divides a gradient by its own size, so where that is all but 0 its
    rounding decides a whole step of that one weight.
    """
    problem = Problem.draw(sizes, seed)
    what = f"{backend} {method.name} epoch ({_network(sizes)}, {dtype}, {_tier(tier)}, seed {seed})"
    exact = _exact_run(sizes, seed, 1, method)
    got = train(problem, backend, dtype, tier, 1, method)
    _assert_run(what, dtype, got, exact)
    close = assert_close_on_the_whole if "second" in method.optimizer.moments and dtype == "float32" else assert_close
    for name in ("weights", "biases"):
        for layer, reference in enumerate(getattr(exact.parameters, name)):
            parameter = getattr(got.parameters, name)[layer]
            assert_same_kind(f"{what}: {name} {layer}", parameter, reference.shape, dtype)
            close(f"{what}: {name} {layer}", parameter, reference, EPOCH[dtype])


def assert_run(
    backend: Backend,
    sizes: tuple[int, ...],
    dtype: str,
    tier: Tier | None,
    seed: int = 0,
    method: Method = METHODS[0],
) -> None:
    """A whole run: all losses to 1e-4, accuracies within 0.3 points, and a second run ends bit for bit the same."""
    problem = Problem.draw(sizes, seed)
    what = f"{backend} {method.name} run ({_network(sizes)}, {dtype}, {_tier(tier)}, seed {seed})"
    got = train(problem, backend, dtype, tier, EPOCHS, method)
    _assert_run(what, dtype, got, _exact_run(sizes, seed, EPOCHS, method))
    again = train(problem, backend, dtype, tier, EPOCHS, method)
    if again.losses != got.losses:
        raise AssertionError(f"{what}: losses {got.losses}, but {again.losses} when run again")
    for name in ("weights", "biases"):
        for layer, (one, two) in enumerate(
            zip(getattr(got.parameters, name), getattr(again.parameters, name), strict=True)
        ):
            assert_equal(f"{what}: {name} {layer}, run again", two, one)


def _assert_run(what: str, dtype: str, got: Run, exact: Run) -> None:
    got_losses, exact_losses = np.array([*got.losses, got.test_loss]), np.array([*exact.losses, exact.test_loss])
    assert_close(f"{what}: losses", got_losses, exact_losses, EPOCH[dtype])
    accuracies = zip([*got.accuracies, got.test_accuracy], [*exact.accuracies, exact.test_accuracy], strict=True)
    for one, two in accuracies:
        if not abs(one - two) <= RUN_ACCURACY:
            raise AssertionError(f"{what}: accuracy {one}, but {two} in float64")


def assert_divergence_shows(backend: Backend, sizes: tuple[int, ...], tier: Tier | None) -> None:
    """One NaN among the features makes the epoch's loss NaN, and weights of every layer."""
    problem = Problem.draw(sizes, 0)
    features = problem.features.copy()
    features[500, 3] = np.nan
    problem = replace(problem, features=features)
    with np.errstate(all="ignore"):
        got = train(problem, backend, "float32", tier, 1, METHODS[0])
    what = f"{backend} ({_network(sizes)}, {_tier(tier)})"
    if not np.isnan(got.losses[0]):
        raise AssertionError(f"{what}: a NaN among the features, but the epoch's loss is {got.losses[0]}")
    for layer, weight in enumerate(got.parameters.weights):
        if not np.isnan(weight).any():
            raise AssertionError(f"{what}: a NaN among the features, but none in the weights of layer {layer}")


# Small parts.


def _place(backend: Backend, dtype: str, features: HostArray, labels: NDArray[np.int64]) -> tuple[Any, Any]:
    return backend.asarray(features.astype(dtype)), backend.asarray(labels.copy())


def _assert_data_unchanged(backend: Backend, dtype: str, problem: Problem, features: Any, labels: Any) -> None:
    assert_equal(f"{backend}: changed the features", backend.to_numpy(features), problem.features.astype(dtype))
    assert_equal(f"{backend}: changed the labels", backend.to_numpy(labels), problem.labels)


def _network(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def _tier(tier: Tier | None) -> str:
    return "best tier" if tier is None else tier.label


def _label(tier: Tier | None) -> str:
    return "best tier" if tier is None else f"tier {tier.value}"
