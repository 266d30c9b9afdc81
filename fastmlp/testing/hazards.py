"""Rows and networks on which hits and losses go wrong: ties, NaN, infinities, labels beyond a byte, sums of many rows.

Each is trained on for one epoch and then evaluated, both against the reference. Hits are counted exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.network.parameters import Parameters
from fastmlp.network.tiers import Tier
from fastmlp.testing.check import Check
from fastmlp.testing.compare import HostArray, assert_close
from fastmlp.testing.epochs import assert_hits
from fastmlp.testing.problems import (
    Case,
    away_from_kinks,
    bind,
    checks_of,
    first_parameters,
    single,
    slots_of,
    slots_of_trainer,
    start,
    tier_name,
)
from fastmlp.testing.reference import training as reference
from fastmlp.testing.tolerances import STEP

RATE = 0.1
ROWS = 37
CASES = (
    *(Case(sizes, ROWS, ROWS) for sizes in ((33, 16, 10), (20, 24, 70), (5, 4, 300), (7, 40), (9, 8, 6, 40))),
    Case((33, 16, 10), 12, ROWS),
)
EXACT = Case((1, 1, 2), 1, 12)
WIDE = Case((3, 2, 33_000), 2, 5)
LARGE, ODD = 2.0**30, 101.0  # in float32 no sum holds both


@dataclass(frozen=True)
class Sample:
    """A network, the rows that it trains on in turn, but `skipped` ones at either end, and the learning rate."""

    parameters: Parameters
    features: HostArray
    labels: NDArray[np.int64]
    rate: float = RATE
    skipped: int = 0  # rows at either end

    def with_output(self, weight: float, bias: HostArray) -> Sample:
        """The last layer's weights times that number, and its biases."""
        weights, biases = self.parameters.weights, self.parameters.biases
        return replace(self, parameters=Parameters((*weights[:-1], weight * weights[-1]), (*biases[:-1], bias)))

    def with_feature(self, row: int, column: int, value: float) -> Sample:
        features = self.features.copy()
        features[row, column] = value
        return replace(self, features=features)

    def with_labels(self, labels: NDArray[np.int64]) -> Sample:
        return replace(self, labels=labels)


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """Each hazard in each tier and dtype."""
    for case in CASES[1:2] if quick else (*CASES, EXACT, WIDE):
        for name, sample in samples(case, seed).items():
            yield from checks_of(name, backend, case, seed, partial(assert_sample, name, sample), quick=quick)


@cache
def samples(case: Case, seed: int) -> dict[str, Sample]:
    """Every hazard by its name."""
    if case == EXACT:
        return {"exact sum of losses": sums_exactly()}
    if case == WIDE:
        return {"labels beyond 16 bits": labels_beyond_16_bits(seed)}
    return dict(_samples(case, seed))


def _samples(case: Case, seed: int) -> Iterator[tuple[str, Sample]]:
    classes, last = case.sizes[-1], case.sizes[-1] - 1
    plain = draw(case, seed)
    zeros = np.zeros(classes)
    yield "ties of all classes", plain.with_output(0, zeros).with_labels(_with(plain.labels, (1, 2, 3, 5, 8), 0))
    tied = (1, min(33, last)) if classes > 2 else (0, 1)
    highest = _with(zeros, tied, 1.0)
    yield "ties of two classes", plain.with_output(0, highest).with_labels(np.resize(tied, ROWS))
    yield (
        "equal logits at the last class",
        plain.with_output(0, _with(zeros, (last,), 1.0)).with_labels(np.full(ROWS, last)),
    )
    for place in sorted({0, classes // 2, last}):
        bias = _with(plain.parameters.biases[-1], (place,), np.nan)
        labels = np.where(np.arange(ROWS) % 3 == 0, place, _second_best(case, plain, place))
        yield f"NaN at class {place}", plain.with_output(1, bias).with_labels(labels)
        yield f"infinity at class {place}", plain.with_output(1, _with(bias, (place,), np.inf)).with_labels(labels)
        yield f"minus infinity at class {place}", plain.with_output(1, _with(bias, (place,), -np.inf))
    for value in (np.nan, np.inf, -np.inf):
        labels = _with(plain.labels, (5, ROWS - 1), last)
        yield f"{value} in a row", plain.with_feature(ROWS - 1, 2, value).with_labels(labels)
    yield "NaN in a whole row", replace(plain, features=_with(plain.features, (5,), np.nan))
    rest = _with(plain.features, (0, ROWS - 1), np.nan)
    yield "NaN in rows left out", replace(plain, features=rest, skipped=1)
    weight = _with(plain.parameters.weights[0], (3,), np.nan)
    weights = Parameters((weight, *plain.parameters.weights[1:]), plain.parameters.biases)
    yield "NaN in the weights", replace(plain, parameters=weights)


def draw(case: Case, seed: int) -> Sample:
    """Rows away from kinks and ties."""
    rng = np.random.default_rng([seed, *case.sizes])
    parameters = first_parameters(case, rng)
    features = single(rng.standard_normal((4 * ROWS, case.sizes[0])))
    features = features[away_from_kinks(start(case, parameters, "float64"), features)][:ROWS]
    return Sample(parameters, features, rng.integers(0, case.sizes[-1], ROWS))


def labels_beyond_16_bits(seed: int) -> Sample:
    """Some of them: the first would be as right in a signed number of that many bits."""
    plain = draw(WIDE, seed)
    return replace(plain, features=plain.features[: WIDE.rows], labels=2**15 - 2 + np.arange(WIDE.rows))


def sums_exactly() -> Sample:
    """Logits (x, 0) of the label 1 lose exactly x: one row a lot, all others little; the network stays as it is."""
    one, zero = np.ones((1, 1)), np.zeros(1)
    parameters = Parameters((one, np.array([[1.0, 0.0]])), (zero, np.zeros(2)))
    features = np.full((EXACT.rows, 1), ODD)
    features[0] = LARGE
    return Sample(parameters, features, np.ones(EXACT.rows, np.int64), rate=0.0)


def assert_sample(
    name: str, sample: Sample, backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int
) -> None:
    """One epoch's loss, hits and what it leaves, and before it the evaluation's; NaN and infinities in their places."""
    what = f"{backend} {name} ({case}, {tier_name(tier)}, {dtype}, seed {seed})"
    trainer = bind(case, sample.parameters, backend, dtype, tier)
    features, labels = backend.asarray(sample.features.astype(dtype)), backend.asarray(sample.labels.copy())
    first, stop = sample.skipped, len(sample.labels) - sample.skipped
    order = np.arange(first, stop)
    rates = np.full(-(-len(order) // case.batch_size), sample.rate)
    tested = features[first:stop, ...], labels[first:stop]
    with np.errstate(all="ignore"):
        network = start(case, sample.parameters, "float64")
        evaluated = reference.evaluate(network, sample.features[order], sample.labels[order])
        trained = reference.train(network, sample.features, sample.labels, order, case.batch_size, rates)
        _assert_figures(f"{what}: evaluation", dtype, trainer.evaluate(*tested), evaluated, len(order))
        got = trainer.train_epoch(features, labels, order, rates)
        tolerance = 0.0 if case == EXACT else STEP[dtype]
        _assert_figures(f"{what}: epoch", dtype, got, trained, len(order), tolerance)
        slots = slots_of_trainer(trainer)
    for slot, exact in slots_of(network).items():
        assert_close(f"{what}: {slot}", slots[slot], exact, STEP[dtype])


def _assert_figures(
    what: str,
    dtype: str,
    got: tuple[float, float],
    exact: tuple[float, int],
    rows: int,
    tolerance: float | None = None,
) -> None:
    loss, accuracy = got
    tolerance = STEP[dtype] if tolerance is None else tolerance
    assert_close(f"{what}: loss", np.array([loss]), np.array([exact[0] / rows]), tolerance)
    assert_hits(what, accuracy, exact[1], rows)


def _with(array: HostArray, places: tuple[int, ...], value: float) -> HostArray:
    changed = array.copy()
    changed[list(places)] = value
    return changed


def _second_best(case: Case, sample: Sample, place: int) -> NDArray[np.int64]:
    """Each row's class with the largest logit, that one left out."""
    logits = reference.logits_of(start(case, sample.parameters, "float64"), sample.features)
    logits[:, place] = -np.inf
    best: NDArray[np.int64] = logits.argmax(axis=1)
    return best
