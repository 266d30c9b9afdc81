"""Epochs of networks with other activations, outputs and penalties than the paper's, against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.network.inputs import Rows, inputs_of
from fastmlp.network.objective import Objective
from fastmlp.network.objective_epoch import train_epoch
from fastmlp.network.optimizers import Optimizer
from fastmlp.network.parameters import DTYPES, Parameters
from fastmlp.testing.check import Check, where_held
from fastmlp.testing.compare import HostArray, assert_close, error
from fastmlp.testing.problems import single
from fastmlp.testing.reference import objectives as reference
from fastmlp.testing.tolerances import STEP_FLOOR, limit
from fastmlp.training.sklearn_steps import UncorrectedAdam, Velocity

EPOCHS = 2
RATES = {"velocity": 0.02, "adam": 0.003}
NESTEROV, PLAIN_VELOCITY = Velocity(momentum=0.9), Velocity(momentum=0.8, nesterov=False)
ADAM = UncorrectedAdam(beta_1=0.8, beta_2=0.95, epsilon=1e-6)


@dataclass(frozen=True)
class Case:
    """A network, its objective, and how it is trained."""

    activation: str
    output: str
    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    optimizer: Optimizer = ADAM
    alpha: float = 0.0
    weighted: bool = False

    def __str__(self) -> str:
        extras = [f"penalty {self.alpha:g}"] * (self.alpha > 0) + ["weighted"] * self.weighted
        sizes, batches = "-".join(map(str, self.sizes)), f"{self.rows} rows in batches of {self.batch_size}"
        return " ".join([self.activation, self.output, sizes, batches, *extras, "by", self.optimizer.name])

    @property
    def step(self) -> reference.Step:
        """The optimizer's, as the reference has it."""
        constants: dict[str, Any] = dict(self.optimizer.constants)
        return getattr(reference, self.optimizer.name)(**constants)


# Every activation with every output; lanes of a cache line that no unit fills; one layer, and up to four; batches in
# pieces; a last batch that is not full; and, from 100 units on, so much work that several threads share a network.
CASES = (
    Case("tanh", "identity", (33, 17, 3), 37, 90, NESTEROV, 0.4),
    Case("tanh", "logistic", (130, 125, 1), 61, 150, ADAM, 0.4, weighted=True),
    Case("tanh", "softmax", (66, 48, 40, 33, 10), 130, 280, ADAM, 2.0),
    Case("tanh", "exponential", (24, 13, 2), 530, 1100, PLAIN_VELOCITY, 0.4, weighted=True),
    Case("logistic", "identity", (130, 100, 20), 61, 150, ADAM, 2.0),
    Case("logistic", "logistic", (33, 17, 12, 5), 37, 90, NESTEROV, 0.4),
    Case("logistic", "softmax", (66, 100, 33, 30), 90, 200, ADAM, 0.4, weighted=True),
    Case("logistic", "exponential", (37, 13, 1), 1, 3, ADAM, 0.4),
    Case("identity", "identity", (130, 64, 48, 40), 600, 700, ADAM, 0.4, weighted=True),
    Case("identity", "logistic", (130, 70), 61, 150, NESTEROV, 0.4),
    Case("identity", "softmax", (24, 9, 4), 37, 90, PLAIN_VELOCITY, 5.0, weighted=True),
    Case("relu", "identity", (33, 24, 17, 1), 37, 90, ADAM, 0.4),
    Case("relu", "logistic", (130, 125, 40), 61, 150, ADAM),
    Case("relu", "softmax", (130, 250, 10), 61, 150, NESTEROV, 2.0),
    Case("relu", "exponential", (33, 16, 2), 37, 90, NESTEROV, 0.4),
)


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """Each case in each dtype; and where several threads may share a network, by some numbers of them."""
    for dtype in DTYPES:
        for case in CASES[:1] if quick else CASES:
            for way in (backend,) if quick else (backend, *_crews(backend, case, dtype)):
                name = ", ".join(["objective", str(case), *([way.way] if way.way else []), dtype])
                yield Check(name, where_held(way, dtype, partial(assert_objective, way, case, dtype, seed)))


def _crews(backend: Backend, case: Case, dtype: str) -> Iterator[Backend]:
    if case.sizes[1] >= 64 and not backend.beside_host:
        yield from backend.epoch_ways()


def assert_objective(backend: Backend, case: Case, dtype: str, seed: int = 0) -> None:
    """Each epoch's loss, and then every value and moment, to a step's tolerance for every step."""
    what, drawn = f"{backend} ({case}, {dtype}, seed {seed})", _Drawn.draw(case, seed)
    exact, by_numpy = drawn.trained_by_reference("float64"), drawn.trained_by_reference(dtype)
    got = drawn.trained_by(backend, dtype)
    steps = EPOCHS * -(-case.rows // case.batch_size)
    for name, reference_values in exact.items():
        allowed = limit(dtype, error(by_numpy[name], reference_values), steps * STEP_FLOOR)
        assert_close(f"{what}: {name}", got[name], reference_values, allowed)


@dataclass(frozen=True)
class _Drawn:
    """What a case trains: parameters, features (n, d), targets (n, outputs), weights (n,), and each epoch's order."""

    case: Case
    parameters: Parameters
    features: HostArray
    targets: HostArray
    weights: HostArray
    orders: list[HostArray]

    @classmethod
    def draw(cls, case: Case, seed: int) -> _Drawn:
        """Every number is a float32, so that in either dtype it is the same; some rows are in no epoch."""
        rng, count = np.random.default_rng(seed), case.rows + 9
        shapes = list(zip(case.sizes[:-1], case.sizes[1:], strict=True))
        weights = tuple(single(rng.standard_normal(shape) / np.sqrt(shape[0])) for shape in shapes)
        biases = tuple(single(0.3 * rng.standard_normal(outputs)) for _, outputs in shapes)
        of_rows = single(rng.uniform(0.2, 3, count)) if case.weighted else np.ones(count)
        orders = [rng.permutation(count)[: case.rows] for _ in range(EPOCHS)]
        features = single(rng.standard_normal((count, case.sizes[0])))
        return cls(case, Parameters(weights, biases), features, _targets(rng, case, count), of_rows, orders)

    def trained_by(self, backend: Backend, dtype: str) -> dict[str, HostArray]:
        """The losses and every slot, flat, after the epochs."""
        case, parameters = self.case, self.parameters.astype(dtype)
        weights = self.weights.astype(dtype)
        with backend.without_autograd():
            objective = Objective(parameters, backend, case.activation, case.output, case.alpha, case.optimizer)
            on_device = (backend.asarray(weights), weights) if case.weighted else (None, None)
            targets = backend.asarray(self.targets.astype(dtype))
            rows = Rows(backend, inputs_of(backend, self.features, dtype), targets, *on_device)
            steps = -(-case.rows // case.batch_size)
            rates = np.full(steps, RATES[case.optimizer.name])
            numbers = [case.optimizer.coefficients(rates, 1 + epoch * steps) for epoch in range(EPOCHS)]
            losses = [
                train_epoch(objective, rows, order.copy(), case.batch_size, row)
                for order, row in zip(self.orders, numbers, strict=True)
            ]
        groups = {"weights": objective.weights.slots, "biases": objective.biases.slots}
        slots = {name: np.asarray(backend.to_numpy(array)) for name, array in groups.items()}
        return {"losses": np.array(losses), **_by_slot(slots)}

    def trained_by_reference(self, dtype: str) -> dict[str, HostArray]:
        case, parameters = self.case, self.parameters.astype(dtype)
        network = reference.Descent(
            parameters.weights, parameters.biases, len(case.optimizer.moments), case.activation, case.output, case.alpha
        )
        features, targets, weights = (array.astype(dtype) for array in (self.features, self.targets, self.weights))
        rate = RATES[case.optimizer.name]
        losses = [
            network.train_epoch(features, targets, weights, order, case.batch_size, case.step, rate)
            for order in self.orders
        ]
        slots = {
            name: np.stack([np.concatenate([array.ravel() for array in slot]) for slot in zip(*layers, strict=True)])
            for name, layers in (("weights", network.weights), ("biases", network.biases))
        }
        return {"losses": np.array(losses), **_by_slot(slots)}


def _by_slot(groups: dict[str, HostArray]) -> dict[str, HostArray]:
    return {f"slot {slot} of {name}": values for name, rows in groups.items() for slot, values in enumerate(rows)}


def _targets(rng: np.random.Generator, case: Case, count: int) -> HostArray:
    shape = (count, case.sizes[-1])
    if case.output == "softmax":
        return np.eye(shape[1])[rng.integers(0, shape[1], count)]
    if case.output == "logistic":
        return rng.integers(0, 2, shape).astype(np.float64)
    return (
        rng.poisson(1.5, shape).astype(np.float64) if case.output == "exponential" else single(rng.normal(size=shape))
    )
