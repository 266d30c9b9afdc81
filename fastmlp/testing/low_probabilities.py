"""Probabilities from 1 down to 1e-35, each with all its digits, which an exponential that is clamped or inexact loses.

The loss is the same without these digits, and so are gradients on the whole. So one step is taken by momentum, from no
velocity, of a network whose logits are its last biases: the velocity of a bias whose class is no row's label is its
probability, and is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.network.optimizers import make_optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.network.tiers import Tier
from fastmlp.testing.check import Check
from fastmlp.testing.compare import HostArray, assert_close
from fastmlp.testing.problems import Case, bind, checks_of, first_parameters, slots_of_trainer, tier_name
from fastmlp.testing.tolerances import STEP, STEP_FLOOR

ROWS = 16
LOWEST = -80.0  # of the logits, below a largest one of 0: its exponential is still a normal number
CASE = Case((5, 4, 300), ROWS, ROWS, make_optimizer("momentum"))
TOLERANCE = {"float64": STEP["float64"], "float32": STEP_FLOOR}


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """In each tier and dtype."""
    yield from checks_of("low probabilities", backend, CASE, seed, assert_low_probabilities, quick=quick)


def assert_low_probabilities(backend: Backend, case: Case, dtype: str, tier: Tier | None, seed: int = 0) -> None:
    """Each probability to a step's tolerance."""
    rng = np.random.default_rng(seed)
    trainer = bind(case, _with_logits(first_parameters(case, rng)), backend, dtype, tier)
    features = backend.asarray(rng.standard_normal((ROWS, case.sizes[0])).astype(dtype))
    trainer.train_epoch(features, backend.asarray(np.zeros(ROWS, np.int64)), np.arange(ROWS), np.full(1, 0.1))
    got = slots_of_trainer(trainer)["velocity of bias 1"][1:].astype(np.float64)
    exact = _probabilities()[1:]
    what = f"{backend} ({case}, {tier_name(tier)}, {dtype}, seed {seed}): probabilities, as shares of the exact ones"
    assert_close(what, got / exact, np.ones_like(exact), TOLERANCE[dtype])


def _with_logits(parameters: Parameters) -> Parameters:
    """The network whose logits are the same for every row."""
    first, last = parameters.weights
    return Parameters((first, 0 * last), (parameters.biases[0], _logits()))


def _logits() -> HostArray:
    """From 0 down, in steps that no power of two divides."""
    return np.linspace(0, LOWEST, CASE.sizes[-1]).astype(np.float32).astype(np.float64)


def _probabilities() -> HostArray:
    exponentials = np.exp(_logits())
    return exponentials / exponentials.sum()
