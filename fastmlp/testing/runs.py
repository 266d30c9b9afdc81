"""What trains: epochs of few steps, what goes wrong in them, and whole runs of one backend, against the reference."""

from __future__ import annotations

from collections.abc import Iterator

from fastmlp.backends.base import Backend
from fastmlp.testing import epochs, evaluations, hazards, low_probabilities, objectives, sequences, ways, whole_runs
from fastmlp.testing.check import Check


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """In each tier and dtype; each optimizer by itself."""
    yield from epochs.checks(backend, seed, quick=quick)
    yield from sequences.checks(backend, seed, quick=quick)
    yield from evaluations.checks(backend, seed, quick=quick)
    yield from ways.checks(backend, seed, quick=quick)
    yield from hazards.checks(backend, seed, quick=quick)
    yield from low_probabilities.checks(backend, seed, quick=quick)
    yield from objectives.checks(backend, seed, quick=quick)
    yield from whole_runs.checks(backend, seed, quick=quick)
