"""Whole runs, to convergence, against the reference: their losses and accuracies, and that they repeat bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.network.optimizers import OPTIMIZERS, SGD, make_optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.network.tiers import Tier
from fastmlp.testing.check import Check
from fastmlp.testing.compare import HostArray, assert_close, assert_equal
from fastmlp.testing.problems import (
    Case,
    Slots,
    bind,
    checks_of,
    first_parameters,
    single,
    slots_of_trainer,
    start,
    tier_name,
)
from fastmlp.testing.reference import training as reference
from fastmlp.testing.tolerances import EPOCH, RUN_ACCURACY

ROWS = 500  # training rows, and as many to test on: an accuracy moves by 0.2 points a row
BATCH = 64  # 500 rows leave a last batch of 52
EPOCHS = 4
SPREAD = 4.0  # between the classes' centres, against noise of 1: a run gets most rows right, and not all
DECAY = 0.3
RATES = {"sgd": 0.1, "momentum": 0.01, "adam": 0.01}

METHODS = (SGD(), *(make_optimizer(name, DECAY) for name in OPTIMIZERS if name != SGD.name))
CASES = (
    *(Case((24, 16, 10), BATCH, ROWS, method, centred=method != SGD()) for method in METHODS),
    *(Case(sizes, BATCH, ROWS, SGD()) for sizes in ((24, 10), (24, 16, 12, 10))),
)


@dataclass(frozen=True)
class Clusters:
    """A network's first parameters, and clusters of points to learn and to test on: features (n, d), labels (n,)."""

    parameters: Parameters
    features: HostArray
    labels: NDArray[np.int64]
    test_features: HostArray
    test_labels: NDArray[np.int64]

    @classmethod
    @cache
    def draw(cls, case: Case, seed: int) -> Clusters:
        rng = np.random.default_rng([seed, *case.sizes])
        labels = rng.integers(0, case.sizes[-1], 2 * ROWS)
        centres = SPREAD / np.sqrt(case.sizes[0]) * rng.standard_normal((case.sizes[-1], case.sizes[0]))
        mean = np.linspace(-1, 2, case.sizes[0]) * case.centred
        features = single(mean + centres[labels] + rng.standard_normal((2 * ROWS, case.sizes[0])))
        return cls(first_parameters(case, rng), features[:ROWS], labels[:ROWS], features[ROWS:], labels[ROWS:])


@dataclass(frozen=True)
class Run:
    """What a run leaves: each epoch's loss and accuracy, at last those of the test rows, and what was trained."""

    losses: Sequence[float]
    accuracies: Sequence[float]
    slots: Slots


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """A run of each case in each tier and dtype."""
    for case in CASES[1:2] if quick else CASES:
        yield from checks_of(f"{case.method} run", backend, case, seed, assert_run, quick=quick)


def assert_run(backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int = 0) -> None:
    """All losses to 1e-4, accuracies within 0.3 points, and a second run ends bit for bit the same."""
    what = f"{backend} run ({case}, {tier_name(tier)}, {dtype}, seed {seed})"
    got, (losses, accuracies) = train(backend, case, dtype, tier, seed), exact_run(case, seed)
    assert_close(f"{what}: losses", np.array(got.losses), np.array(losses), EPOCH[dtype])
    for one, two in zip(got.accuracies, accuracies, strict=True):
        if not abs(one - two) <= RUN_ACCURACY:
            raise AssertionError(f"{what}: accuracy {one}, but {two} in float64")
    again = train(backend, case, dtype, tier, seed)
    if again.losses != got.losses:
        raise AssertionError(f"{what}: losses {got.losses}, but {again.losses} when run again")
    for name, slot in got.slots.items():
        assert_equal(f"{what}: {name}, run again", again.slots[name], slot)


def train(backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int) -> Run:
    """All epochs by the backend, the last of them with smaller rates."""
    clusters = Clusters.draw(case, seed)
    trainer = bind(case, clusters.parameters, backend, dtype, tier)
    features, test_features = (
        backend.asarray(rows.astype(dtype)) for rows in (clusters.features, clusters.test_features)
    )
    labels, test_labels = (backend.asarray(labels.copy()) for labels in (clusters.labels, clusters.test_labels))
    figures = [trainer.train_epoch(features, labels, *_plan(case, epoch)) for epoch in range(EPOCHS)]
    losses, accuracies = zip(*figures, trainer.evaluate(test_features, test_labels), strict=True)
    return Run(losses, accuracies, slots_of_trainer(trainer))


@cache
def exact_run(case: Case, seed: int) -> tuple[Sequence[float], Sequence[float]]:
    """The losses and accuracies of the same run by the reference in float64."""
    clusters = Clusters.draw(case, seed)
    network = start(case, clusters.parameters, "float64")
    sums = []
    for epoch in range(EPOCHS):
        order, rates = _plan(case, epoch)
        sums.append(reference.train(network, clusters.features, clusters.labels, order, BATCH, rates))
    sums.append(reference.evaluate(network, clusters.test_features, clusters.test_labels))
    return [loss / ROWS for loss, _ in sums], [hits / ROWS for _, hits in sums]


def _plan(case: Case, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The order and the learning rates of an epoch: another rate every step, a tenth for the last third of the run."""
    rates = RATES[case.optimizer.name] * np.linspace(1, 0.7, -(-ROWS // BATCH))
    order = np.random.default_rng(epoch).permutation(ROWS)
    return order, rates * (0.1 if 3 * epoch >= 2 * EPOCHS else 1)
