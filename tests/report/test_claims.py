"""The three claims, each way: they hold, they fail, NaN fails them, and the third knows when it can't be tested."""

import math

import numpy as np
import pytest

from fastmlp import paper
from fastmlp.report.claims import check_claims, wobble


def fake_results(epochs=110):
    """The paper's own table, and test losses that wobble with the learning rate."""
    rng = np.random.default_rng(0)
    rate = 0.1 ** (np.arange(epochs) // 100)
    history = {
        model: {
            "epoch": list(range(1, epochs + 1)),
            "test_loss": list(0.58 + 0.01 * rate * rng.standard_normal(epochs)),
        }
        for model in ("original", "augmented")
    }
    return {
        "table1": {model: dict(row) for model, row in paper.TABLE1.items()},
        "config": {"learning_rate_drop": {"every": 100, "factor": 0.1}},
        "data": {"test_images": 10_000},
        "history": history,
    }


def held(results):
    return [claim["holds"] for claim in check_claims(results)]


def test_claims_hold_on_the_papers_own_table():
    results = fake_results(300)
    assert held(results) == [True, True, True]
    numbers = check_claims(results)[1]["numbers"]
    assert "80.68% against 80.14%, a gain of +0.54 points" in numbers
    assert "10,000 images, is 0.40" in numbers  # sqrt(0.8014 * 0.1986 / 10000)
    assert "-0.55 points augmented, +5.41 points original" in numbers


@pytest.mark.parametrize(
    ("model", "column", "value", "claim"),
    [
        ("original", "train_accuracy", 0.80128, 0),  # equal is not higher
        ("original", "train_accuracy", math.nan, 0),
        ("original", "train_loss", 0.9, 0),
        ("augmented", "train_loss", None, 0),
        ("augmented", "test_accuracy", 0.80140, 1),
        ("augmented", "test_accuracy", 0.6, 1),
        ("original", "test_accuracy", math.nan, 1),
        ("augmented", "test_accuracy", None, 1),
    ],
)
def test_a_claim_fails_alone(model, column, value, claim):
    results = fake_results(110)
    assert held(results) == [True, True, True]
    results["table1"][model][column] = value
    assert held(results) == [index != claim for index in range(3)]


def test_wobble_ignores_a_steady_slope_and_sees_noise():
    assert wobble([2 - 0.1 * epoch for epoch in range(10)]) == pytest.approx(0, abs=1e-15)
    assert wobble([1, 2, 1, 2, 1]) == 1
    assert math.isnan(wobble([1, None, 2]))


@pytest.mark.parametrize("model", ["original", "augmented"])
@pytest.mark.parametrize("after", ["as wild", "nan"])
def test_drop_must_calm_both_models(model, after):
    results = fake_results(110)
    losses = results["history"][model]["test_loss"]
    losses[100:110] = losses[90:100] if after == "as wild" else [math.nan] * 10
    assert held(results)[2] is False


def test_the_step_at_the_drop_is_in_neither_window():
    results = fake_results(110)
    before = check_claims(results)[2]
    for curves in results["history"].values():
        curves["test_loss"][:100] = [loss + 5 for loss in curves["test_loss"][:100]]
    assert check_claims(results)[2] == before


@pytest.mark.parametrize(
    ("epochs", "drop", "reason"),
    [
        (109, {"every": 100, "factor": 0.1}, "takes 110 epochs and this run has 109"),
        (300, None, "no step down"),
        (300, {"every": 5, "factor": 0.5}, "fewer than the 10 needed"),
    ],
)
def test_drop_is_left_untested_with_a_reason(epochs, drop, reason):
    results = fake_results(epochs)
    results["config"]["learning_rate_drop"] = drop
    claim = check_claims(results)[2]
    assert claim["holds"] is None
    assert reason in claim["numbers"]
