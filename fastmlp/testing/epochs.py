"""Epochs of few steps against the reference, slot by slot: where a fused epoch must show a wrong digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.network.evaluation import Figures
from fastmlp.network.optimizers import OPTIMIZERS, SGD, Optimizer, make_optimizer
from fastmlp.network.optimizers.momentum import Momentum
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.testing.check import Check
from fastmlp.testing.compare import HostArray, assert_close, assert_equal, assert_same_kind, error
from fastmlp.testing.problems import (
    Case,
    Data,
    Epoch,
    Placed,
    Plan,
    Problem,
    bind,
    checks_of,
    slots_of,
    slots_of_trainer,
    tier_name,
)
from fastmlp.testing.tolerances import STEP_FLOOR, limit

DECAY = 0.3
PLAIN, MOMENTUM, ADAM = SGD(), make_optimizer("momentum", DECAY), make_optimizer("adam", DECAY)
METHODS: tuple[Optimizer, ...] = (
    PLAIN,
    *(make_optimizer(name, DECAY) for name in OPTIMIZERS),
    Momentum(DECAY, nesterov=False),
)

# Sizes below, between and above each number by which a kernel cuts its work, and one beside its multiples: inputs 4, 32
# and 128, units 4, 16 and 32, classes 32, 128 and 256, rows 16, 64, 128, 256 and
# 512. No last batch is full, but of one that is all.
CASES = (
    *(Case((512, 64, 10), 64, 130, method, centred=method != PLAIN) for method in METHODS),
    Case((33, 5, 2), 37, 90, SGD(DECAY), centred=True),
    Case((130, 16, 10), 64, 150, MOMENTUM, centred=True),
    Case((200, 17, 33), 65, 131, MOMENTUM),
    Case((515, 33, 70), 64, 100, ADAM, centred=True),
    Case((130, 100, 300), 37, 60, SGD(DECAY), centred=True),
    Case((33, 100, 10), 130, 280, ADAM, centred=True),
    Case((24, 16, 10), 320, 1000, MOMENTUM, centred=True),
    Case((37, 13, 7), 1, 3, MOMENTUM, centred=True),
    Case((24, 16, 5), 64, 20, ADAM),
    Case((1, 1, 3), 5, 12, PLAIN, centred=True),
    Case((130, 10), 37, 90, ADAM, centred=True),
    *(Case((33, 24, 17, 10), 64, 100, method, centred=True) for method in METHODS[1:]),
    Case((33, 16, 10), 37, 90, MOMENTUM, centred=True, weighted=True),
    Case((33, 16, 10), 37, 90, ADAM, centred=True, smoothing=0.1),
    Case((24, 17, 12, 7), 37, 90, PLAIN, weighted=True, smoothing=0.4),
    Case((24, 70), 37, 90, MOMENTUM, smoothing=0.2),
    Case((130, 1000), 37, 50, SGD(DECAY), centred=True, weighted=True),
    Case((37, 7), 1, 3, ADAM, centred=True, weighted=True),
    Case((33, 17), 700, 1401, MOMENTUM, centred=True, weighted=True),
    Case((24, 16, 5), 1025, 1025, ADAM, centred=True),
    Case((130, 40, 33, 300), 130, 280, MOMENTUM, centred=True, weighted=True),
    Case((40, 33, 20, 5), 513, 1100, SGD(DECAY), centred=True, weighted=True, smoothing=0.1),
    Case((130, 64, 48, 33, 10), 130, 280, MOMENTUM, centred=True),
    Case((33, 24, 1, 17, 3), 37, 90, ADAM, centred=True, weighted=True),
)


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """An epoch of each case in each tier and dtype."""
    for case in CASES[6:7] if quick else CASES:
        yield from checks_of(f"{case.method} epoch", backend, case, seed, assert_epochs, quick=quick)


def assert_epochs(
    backend: Backend,
    case: Case,
    dtype: str,
    tier: Tier | None,
    seed: int = 0,
    plan: Plan | None = None,
    place: Callable[[Data, Backend, str], Placed] = Data.place,
) -> None:
    """Each epoch's loss, its hits exactly, and then every value and moment, to a step's tolerance for every step.

    plan: see `Problem.draw`; place: how the data come to the device.
    """
    problem = Problem.draw(case, seed, plan)
    what = f"{backend} ({case}, {tier_name(tier)}, {dtype}, seed {seed})"
    trainer = bind(case, problem.parameters, backend, dtype, tier)
    placed = [place(data, backend, dtype) for data in problem.data]
    for number, epoch in enumerate(problem.epochs):
        (figures,) = train_together([trainer], [epoch], placed[epoch.data], case.weighted)
        assert_figures(f"{what}: epoch {number + 1}", dtype, figures, problem, number)
    assert_network(what, dtype, trainer, problem)
    for data, arrays in zip(problem.data, placed, strict=True):
        data.assert_unchanged(what, backend, arrays)


def train_together(
    trainers: Sequence[Trainer], epochs: Sequence[Epoch], placed: Placed, weighted: bool = False
) -> list[Figures]:
    """Each trainer's mean loss and accuracy of its epoch; orders and rates must stay as they are."""
    features, labels, weights = placed
    orders, rates = [epoch.order.copy() for epoch in epochs], [epoch.rates.copy() for epoch in epochs]
    figures = train_epoch_together(trainers, features, labels, orders, rates, weights if weighted else None)
    for order, rate, epoch in zip(orders, rates, epochs, strict=True):
        assert_equal(f"{trainers[0].backend}: changed the order", order, epoch.order)
        assert_equal(f"{trainers[0].backend}: changed the learning rates", rate, epoch.rates)
    return figures


def assert_figures(what: str, dtype: str, figures: Figures, problem: Problem, number: int = 0) -> None:
    """The mean loss and the accuracy of the problem's epoch of that number."""
    epoch, (loss, accuracy) = problem.epochs[number], figures
    rows = len(epoch.order)
    got, exact, own = (np.array([sum_]) for sum_ in (loss * rows, epoch.loss, problem.single_losses[number]))
    assert_close(f"{what}: sum of losses", got, exact, _limit(dtype, own, exact, problem.steps))
    assert_hits(what, accuracy, epoch.hits, rows)


def assert_hits(what: str, accuracy: float, hits: int, rows: int) -> None:
    if accuracy != hits / rows:
        raise AssertionError(f"{what}: {accuracy * rows:g} of {rows} rows were counted as hits, and {hits} are")


def assert_network(what: str, dtype: str, trainer: Trainer, problem: Problem) -> None:
    """Every value and moment of every layer; the mean is as it was."""
    exact, by_numpy, slack = slots_of(problem.exact), slots_of(problem.single), problem.slack[dtype]
    got = slots_of_trainer(trainer)
    for name, reference_slot in exact.items():
        one, own = (within(array[name], reference_slot, slack[name]) for array in (got, by_numpy))
        assert_same_kind(f"{what}: {name}", got[name], reference_slot.shape, dtype)
        assert_close(f"{what}: {name}", one, reference_slot, _limit(dtype, own, reference_slot, problem.steps))
    if trainer.network.mean is not None:
        assert_equal(
            f"{what}: changed the mean",
            np.asarray(trainer.backend.to_numpy(trainer.network.mean)),
            problem.case.mean.astype(dtype),
        )


def within(got: HostArray, exact: HostArray, slack: HostArray) -> HostArray:
    """What is off by up to the slack is moved to the exact values, the rest towards them."""
    difference = got - exact
    return exact + np.sign(difference) * np.maximum(np.abs(difference) - slack, 0)


def _limit(dtype: str, by_numpy: HostArray, exact: HostArray, steps: int) -> float:
    return limit(dtype, error(by_numpy, exact), steps * STEP_FLOOR)
