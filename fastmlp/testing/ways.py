"""Every way in which a backend may train (`Backend.ways`), on networks that show what is particular to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
# part is whole; batches that are padded for every number of blocks.
CASES = tuple(Case(sizes, 61, 90, ADAM, centred=True) for sizes in ((130, 250, 10), (130, 125, 10), (66, 33, 10)))


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """In every dtype that has a fused epoch, in each way: an epoch by fused ops and a fused one, networks together."""
    for way in () if quick else backend.ways():
        for dtype in DTYPES:
            fused = [case for case in CASES if _tier(way, case, dtype) == Tier.FUSED_EPOCH]
            for name, run in _of_way(way, fused[0], dtype, seed) if fused else ():
                yield Check(f"{name}, {way.way}, {dtype}", where_held(way, dtype, run))


def _of_way(way: Backend, case: Case, dtype: str, seed: int) -> Iterator[tuple[str, Callable[[], None]]]:
    for tier in (Tier.FUSED_OPS, Tier.FUSED_EPOCH):
        yield f"{case.method} epoch, {case.network}, {tier.label}", partial(assert_epochs, way, case, dtype, tier, seed)
    for cases in (MANY_CLASSES,) if way.beside_host else (MANY_CLASSES, LARGER):  # which two teams of threads share
        name = f"{len(cases)} networks together, {cases[0].network}"
        yield name, partial(assert_together, way, cases, dtype, None, seed)
    for evaluated in EVALUATED if way.fuses_evaluation else ():
        yield f"evaluation, {evaluated.network}", partial(assert_evaluation, way, evaluated, dtype, None, seed)


def _tier(way: Backend, case: Case, dtype: str) -> Tier:
    return choose_tier(case.sizes, dtype, way, case.optimizer, case.batch_size).tier
