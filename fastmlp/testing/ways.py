"""Each way in which a backend may run ops or fused epochs, on networks that show what is particular to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from fastmlp.backends.base import Backend
from fastmlp.network.parameters import DTYPES
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.testing.check import Check, where_held
from fastmlp.testing.epochs import ADAM, assert_epochs
from fastmlp.testing.evaluations import CASES as EVALUATED
from fastmlp.testing.evaluations import assert_evaluation
from fastmlp.testing.problems import Case
from fastmlp.testing.sequences import LARGER, MANY_CLASSES, assert_together

# The most hidden units that 8 parts of 32 hold, or else 4, or else fewer, for little shared memory; inputs of which no
# part is whole; batches that are padded for every number of blocks. The last has whole tiles for tensor cores.
SIZES = ((130, 250, 10), (130, 125, 10), (66, 33, 10), (250, 60, 10))
CASES = tuple(Case(sizes, 61, 90, ADAM, centred=True) for sizes in SIZES)

# No hidden layer, and two and three, with a last one of few classes or of many; more rows than are computed at once.
OTHERS = (
    Case((130, 33), 61, 90, ADAM, centred=True, weighted=True),
    Case((130, 48, 33, 10), 61, 90, ADAM, centred=True, smoothing=0.1),
    Case((66, 48, 33, 300), 90, 140, ADAM, centred=True),
    Case((66, 48, 40, 33, 10), 530, 600, ADAM, centred=True, weighted=True),
)
# Tiles enough for a warp each on a small device. The last has fewer steps, and takes them alone.
IN_STEPS = tuple(
    Case((130, 48, 33, 10), 61, rows, ADAM, True, turn=turn) for turn, rows in enumerate((90, 90, 90, 90, 50))
)


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """In each way that ops may run, an epoch; in each that steps and fused epochs may, some, and networks together."""
    for dtype in () if quick else DTYPES:
        for way in backend.op_ways():
            yield _check(way, CASES[0], dtype, Tier.FUSED_OPS, seed)
        for way in backend.step_ways():
            for case in (CASES[0], *OTHERS):
                yield _check(way, case, dtype, Tier.FUSED_OPS, seed)
            yield _together(way, IN_STEPS, dtype, Tier.FUSED_OPS, seed)
        for way in backend.epoch_ways():
            fused = [case for case in CASES if _tier(way, case, dtype) == Tier.FUSED_EPOCH]
            others = [case for case in OTHERS if _tier(way, case, dtype) == Tier.FUSED_EPOCH]
            for case in (*fused[:1], *others):
                yield _check(way, case, dtype, Tier.FUSED_EPOCH, seed)
            if fused:
                yield from _together_and_evaluated(way, dtype, seed)


def _check(way: Backend, case: Case, dtype: str, tier: Tier, seed: int) -> Check:
    name = f"{case.method} epoch, {case.network}, {tier.label}, {way.way}, {dtype}"
    return Check(name, where_held(way, dtype, partial(assert_epochs, way, case, dtype, tier, seed)))


def _together(way: Backend, cases: Sequence[Case], dtype: str, tier: Tier | None, seed: int) -> Check:
    first, *others = cases
    name = f"{len(cases)} networks together, {first.network}, {way.way}, {dtype}"
    return Check(name, where_held(way, dtype, partial(assert_together, others, way, first, dtype, tier, seed)))


def _together_and_evaluated(way: Backend, dtype: str, seed: int) -> Iterator[Check]:
    for cases in (MANY_CLASSES,) if way.beside_host else (MANY_CLASSES, LARGER):  # which two teams share
        yield _together(way, cases, dtype, None, seed)
    for case in EVALUATED if way.fuses_evaluation else ():
        check = partial(assert_evaluation, way, case, dtype, None, seed)
        yield Check(f"evaluation, {case.network}, {way.way}, {dtype}", where_held(way, dtype, check))


def _tier(way: Backend, case: Case, dtype: str) -> Tier:
    return choose_tier(case.sizes, dtype, way, case.optimizer, case.batch_size, case.weighted, case.smoothing).tier
