"""Evaluations and logits against the reference, of a row, of less and of more rows than are evaluated at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.network.evaluation import ROWS
from fastmlp.network.tiers import Tier
from fastmlp.testing.check import Check
from fastmlp.testing.compare import assert_close, assert_equal, assert_same_kind, error
from fastmlp.testing.epochs import ADAM, assert_hits
from fastmlp.testing.problems import (
    Case,
    away_from_kinks,
    bind,
    checks_of,
    first_parameters,
    single,
    slots_of_trainer,
    start,
    tier_name,
)
from fastmlp.testing.reference import training as reference
from fastmlp.testing.tolerances import STEP_FLOOR, limit

CASES = (
    Case((33, 17, 10), 37, 1, ADAM, centred=True),
    Case((33, 17, 10), 37, ROWS + 38, ADAM, centred=True),
    Case((130, 40, 70), 64, 200, ADAM),
    Case((200, 33), 64, 100, ADAM, centred=True),
    Case((33, 24, 17, 300), 64, 100, ADAM, centred=True),
)


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """Each case in each tier and dtype."""
    for case in CASES[1:2] if quick else CASES:
        yield from checks_of("evaluation", backend, case, seed, assert_evaluation, quick=quick)


def assert_evaluation(backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int = 0) -> None:
    """The loss and the logits to a step's tolerance, the hits exactly; the network and the rows stay as they are."""
    rng = np.random.default_rng([seed, *case.sizes, case.rows])
    parameters = first_parameters(case, rng)
    network, by_numpy = start(case, parameters, "float64"), start(case, parameters, "float32")
    features = single(case.mean + rng.standard_normal((2 * case.rows + 20, case.sizes[0])))
    features = features[away_from_kinks(network, features)][: case.rows]
    labels = rng.integers(0, case.sizes[-1], case.rows)
    trainer = bind(case, parameters, backend, dtype, tier)
    before = slots_of_trainer(trainer)
    placed = backend.asarray(features.astype(dtype)), backend.asarray(labels.copy())
    (loss, accuracy), got_logits = trainer.evaluate(*placed), trainer.logits(placed[0])
    what = f"{backend} evaluation ({case}, {tier_name(tier)}, {dtype}, seed {seed})"
    exact_loss, hits = reference.evaluate(network, features, labels)
    own = np.array([reference.evaluate(by_numpy, features.astype(np.float32), labels)[0]])
    exact = np.array([exact_loss])
    assert_close(f"{what}: loss", np.array([loss * case.rows]), exact, limit(dtype, error(own, exact), STEP_FLOOR))
    assert_hits(what, accuracy, hits, case.rows)
    logits, own = reference.logits_of(network, features), reference.logits_of(by_numpy, features.astype(np.float32))
    assert_same_kind(f"{what}: logits", got_logits, logits.shape, dtype)
    assert_close(f"{what}: logits", got_logits, logits, limit(dtype, error(own, logits), STEP_FLOOR))
    for name, slot in slots_of_trainer(trainer).items():
        assert_equal(f"{what}: changed the {name}", slot, before[name])
    assert_equal(f"{what}: changed the features", backend.to_numpy(placed[0]), features.astype(dtype))
    assert_equal(f"{what}: changed the labels", backend.to_numpy(placed[1]), labels)
