"""Rows held out of training, and when early stopping ends it."""

import numpy as np
import pytest

from fastmlp.training.held_out import hold_out
from fastmlp.training.stopping import Stopping


def test_what_is_held_out_depends_on_the_seed_alone() -> None:
    for rows in (10, 20, 300):
        labels = np.arange(rows) % 2
        kept, held = hold_out(labels, 3)
        assert len(held) == rows // 10
        np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(rows))
        np.testing.assert_array_equal(np.sort(held), held)
        np.testing.assert_array_equal(hold_out(labels, 3)[1], held)
    assert not np.array_equal(hold_out(labels, 3)[1], hold_out(labels, 4)[1])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("counts", [(500, 50, 10), (40, 2, 1), (1, 1, 1), (30,) * 40, (100, *[1] * 30)])
def test_each_class_is_held_out_in_proportion_and_never_wholly(counts: tuple[int, ...], fraction: float) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    kept, held = hold_out(labels, 0, fraction)
    assert len(held) == min(round(fraction * len(labels)), len(labels) - len(counts))
    assert (np.bincount(labels[kept], minlength=len(counts)) >= 1).all()
    free = np.array(counts) - 1  # one of each class is never held out
    expected = free * len(held) / max(1, free.sum())
    assert (np.abs(np.bincount(labels[held], minlength=len(counts)) - expected) < 1).all()


@pytest.mark.parametrize(
    ("scores", "due"),
    [
        ([], False),
        ([0.5, 0.5, 0.5], False),
        ([0.5, 0.5, 0.5, 0.5], True),
        ([0.5, 0.5, 0.5, 0.7, 0.7, 0.7], False),
        ([0.5, 0.505, 0.508, 0.509], True),  # none rises by tol
        ([0.5, 0.6, 0.61, 0.62, 0.63], False),
    ],
)
def test_training_stops_as_scikit_learns_does(scores: list[float], due: bool) -> None:
    assert Stopping(tol=0.0099, patience=2).is_due(scores) is due
