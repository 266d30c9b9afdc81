"""Epochs one after another in one trainer, of several networks together, and of features anywhere in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.network.parameters import DTYPES
from fastmlp.network.tiers import Tier
from fastmlp.testing.check import Check, where_held
from fastmlp.testing.epochs import ADAM, MOMENTUM, assert_epochs, assert_figures, assert_network, train_together
from fastmlp.testing.problems import PLAIN, Case, Data, Placed, Plan, Problem, bind, tier_name

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
    for dtype in DTYPES[:1] if quick else DTYPES:
        for case in CASES[1:2] if quick else CASES:
            for tier in case.tiers(backend, dtype):
                what = f"{case.network}, {tier_name(tier)}, {dtype}"
                in_turn = partial(assert_epochs, backend, case, dtype, tier, seed, IN_TURN)
                yield Check(f"{case.method} epochs in turn, {what}", where_held(backend, dtype, in_turn))
        for tier in MANY_STEPS.tiers(backend, dtype):
            if tier is not None and not quick:
                what = f"{MANY_STEPS.network}, {tier_name(tier)}, {dtype}"
                again = partial(assert_epochs, backend, MANY_STEPS, dtype, tier, seed, AGAIN)
                yield Check(f"epochs of many steps, {what}", where_held(backend, dtype, again))
        yield from _together(backend, seed, dtype)
        yield from _in_memory(backend, seed, dtype)


def _together(backend: Backend, seed: int, dtype: str) -> Iterator[Check]:
    for cases in (TOGETHER[:2], TOGETHER, LARGER):
        for tier in cases[0].tiers(backend, dtype):
            check = partial(assert_together, backend, cases, dtype, tier, seed)
            what = f"{len(cases)} networks together, {cases[0].network}, {tier_name(tier)}, {dtype}"
            yield Check(what, where_held(backend, dtype, check))


def _in_memory(backend: Backend, seed: int, dtype: str) -> Iterator[Check]:
    for case in (CASES[1], replace(CASES[1], sizes=(40, 16, 10))):  # of which packs of four numbers fill a row
        for tier in case.tiers(backend, dtype):
            for place in PLACES:
                check = partial(assert_refused_or_right, backend, case, dtype, tier, seed, place)
                what = f"features in memory {place}, {case.network}, {tier_name(tier)}, {dtype}"
                yield Check(what, where_held(backend, dtype, check))


def assert_together(backend: Backend, cases: Sequence[Case], dtype: str, tier: Tier | None, seed: int = 0) -> None:
    """Each network ends as the reference does, which trains it alone; the first has the most rows."""
    first = Problem.draw(cases[0], seed)
    others = [Problem.draw(case, seed + case.turn, given=first.data) for case in cases[1:]]
    problems, (data,) = [first, *others], first.data
    trainers = [bind(problem.case, problem.parameters, backend, dtype, tier) for problem in problems]
    placed = data.place(backend, dtype)
    figures = train_together(trainers, [problem.epochs[0] for problem in problems], placed)
    for trainer, figure, problem in zip(trainers, figures, problems, strict=True):
        number = f"network {problem.case.turn + 1} of {len(cases)}"
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


def assert_refused_or_right(backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int, place: str) -> None:
    """Features with gaps a backend may refuse by a UsageError, which says what to do."""
    try:
        assert_epochs(backend, case, dtype, tier, seed, place=PLACES[place])
    except UsageError:
        if place != "every second column":
            raise
