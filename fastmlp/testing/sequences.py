"""Epochs one after another in one trainer, of several networks together, and of features anywhere in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.network.tiers import Tier
from fastmlp.testing.check import Check
from fastmlp.testing.epochs import ADAM, MOMENTUM, assert_epochs, assert_figures, assert_network, train_together
from fastmlp.testing.problems import PLAIN, Case, Data, Placed, Plan, Problem, bind, checks_of, tier_name

# In one trainer: the same number of rows in another order, other data, fewer rows, a single short batch. A recording of
# steps keeps addresses and numbers, and would show.
IN_TURN: Plan = ((0, 90), (0, 90), (0, 90), (1, 90), (0, 50), (0, 7))
CASES = tuple(Case((33, 16, 10), 37, 90, method, centred=True) for method in (PLAIN, MOMENTUM, ADAM))

MANY_STEPS = Case((5, 4, 3), 2, 262)  # more than are recorded at once
AGAIN: Plan = ((0, 262), (0, 262), (0, 262))

TOGETHER = tuple(
    Case((33, 17, 10), 37, rows, MOMENTUM, True, turn=turn) for turn, rows in enumerate((90, 37, 60, 80, 5))
)
# Classes for three lanes, and so many rows that each warp of a block owns several.
MANY_CLASSES = tuple(Case((20, 13, 70), 150, rows, MOMENTUM, turn=turn) for turn, rows in enumerate((180, 150, 5)))
LARGER = tuple(Case((200, 40, 10), 64, 100, ADAM, True, turn=turn) for turn in range(2))  # each worth two threads


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """In each tier and dtype."""
    for case in CASES[1:2] if quick else CASES:
        in_turn = partial(assert_epochs, plan=IN_TURN)
        yield from checks_of(f"{case.method} epochs in turn", backend, case, seed, in_turn, quick=quick)
    again = partial(assert_epochs, plan=AGAIN)
    for check in () if quick else checks_of("epochs of many steps", backend, MANY_STEPS, seed, again, quick=quick):
        if tier_name(None) not in check.name:  # a fused epoch records no steps
            yield check
    for first, *others in (TOGETHER[:2], TOGETHER, LARGER):
        what, together = f"{1 + len(others)} networks together", partial(assert_together, others)
        yield from checks_of(what, backend, first, seed, together, quick=quick)
    for case in (CASES[1], replace(CASES[1], sizes=(40, 16, 10))):  # of which packs of four numbers fill a row
        for place in PLACES:
            placed = partial(assert_refused_or_right, place)
            yield from checks_of(f"features in memory {place}", backend, case, seed, placed, quick=quick)


def assert_together(
    others: Sequence[Case], backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int = 0
) -> None:
    """The case's network and others, of no more rows, each end as the reference does, which trains them alone."""
    first = Problem.draw(case, seed)
    problems = [first, *(Problem.draw(other, seed + other.turn, given=first.data) for other in others)]
    (data,) = first.data
    trainers = [bind(problem.case, problem.parameters, backend, dtype, tier) for problem in problems]
    placed = data.place(backend, dtype)
    figures = train_together(trainers, [problem.epochs[0] for problem in problems], placed)
    for trainer, figure, problem in zip(trainers, figures, problems, strict=True):
        number = f"network {problem.case.turn + 1} of {len(problems)}"
        what = f"{backend} ({number}, {problem.case}, {tier_name(tier)}, {dtype}, seed {seed})"
        assert_figures(what, dtype, figure, problem)
        assert_network(what, dtype, trainer, problem)
    data.assert_unchanged(f"{backend}", backend, placed)


# Features in memory.


def read_only(data: Data, backend: Backend, dtype: str) -> Placed:
    features = data.features.astype(dtype)
    features.flags.writeable = False
    _, labels, weights = data.place(backend, dtype)
    return backend.asarray(features), labels, weights


def one_number_on(data: Data, backend: Backend, dtype: str) -> Placed:
    """The features' address is a multiple of no more than a number's size."""
    _, labels, weights = data.place(backend, dtype)
    more = backend.asarray(np.concatenate([np.zeros(1), data.features.ravel()]).astype(dtype))
    return backend.xp.reshape(more[1:], data.features.shape), labels, weights


def every_second_column(data: Data, backend: Backend, dtype: str) -> Placed:
    _, labels, weights = data.place(backend, dtype)
    return backend.asarray(np.repeat(data.features.astype(dtype), 2, axis=1))[:, ::2], labels, weights


PLACES = {"read-only": read_only, "one number on": one_number_on, "every second column": every_second_column}


def assert_refused_or_right(place: str, backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int) -> None:
    """Features with gaps a backend may refuse by a UsageError, which says what to do."""
    try:
        assert_epochs(backend, case, dtype, tier, seed, place=PLACES[place])
    except UsageError:
        if place != "every second column":
            raise
