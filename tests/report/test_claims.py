"""The three claims, each way: they hold, they fail, NaN fails them, and they know when a run cannot decide them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fastmlp import paper
from fastmlp.report.claims import check_claims, wobble
from fastmlp.report.document import Document, Section, Verdict, to_markdown

RUNS = Path(__file__).parents[2] / "docs" / "results"


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
        "data": {"train_images": 50_000, "augmented_images": 100_000, "test_images": 10_000},
        "only_right": {"original": 400, "augmented": 454},
        "history": history,
    }


def held(results):
    return [claim["holds"] for claim in check_claims(results)]


def test_claims_hold_on_the_papers_own_table():
    """The second only if its models disagree on few images: its table alone leaves that open."""
    results = fake_results(300)
    assert held(results) == [True, None, True]
    results["only_right"] = {"original": 100, "augmented": 154}
    assert held(results) == [True, True, True]
    numbers = check_claims(results)[1]["numbers"]
    assert "80.68% against 80.14%, a gain of +0.54 points over 10,000 images" in numbers
    assert "below 0.32 points" in numbers  # (1.96 sqrt(254) + 1) / 10000
    assert "-0.55 points augmented, +5.41 points original" in numbers
    del results["only_right"]
    assert held(results) == [True, None, True]
    assert "below 1.10 points" in check_claims(results)[1]["numbers"]  # 1.96 sqrt(2 * 0.8 * 0.2 / 10000), nearly


@pytest.mark.parametrize("images", [359, 10_000])
@pytest.mark.parametrize("errors", [-2.1, -1.9, -0.5, 0, 0.5, 1.9, 2.1])
def test_a_lead_within_chance_is_not_decided(errors, images):
    results = fake_results()
    results["data"] = dict.fromkeys(results["data"], images)
    del results["only_right"]
    error = math.sqrt(2 * 0.6 * 0.4 / images)
    for split, better, other in (("test", "augmented", "original"), ("train", "original", "augmented")):
        results["table1"][better][f"{split}_accuracy"] = 0.6 + errors * error / 2
        results["table1"][other][f"{split}_accuracy"] = 0.6 - errors * error / 2
    verdict = None if abs(errors) < 1.96 else errors > 0
    assert held(results)[:2] == [verdict, verdict]
    for claim in check_claims(results)[:2]:
        assert ("more --seeds may decide" in claim["numbers"]) == (verdict is None)


@pytest.mark.parametrize(
    ("alone", "verdict"),  # the exact sign test of 5 to 0 has p = 0.062, of 6 to 0 p = 0.031
    [
        ((5, 0), None),
        ((6, 0), True),
        ((0, 5), None),
        ((0, 6), False),
        ((0, 0), None),
        ((40, 20), True),
        ((35, 20), None),
    ],
)
def test_models_are_compared_on_the_images_that_one_alone_got_right(alone, verdict):
    augmented, original = alone
    results = fake_results()
    results["data"]["test_images"] = 359
    results["only_right"] = {"original": original, "augmented": augmented}
    results["table1"]["original"]["test_accuracy"] = 0.9
    results["table1"]["augmented"]["test_accuracy"] = 0.9 + (augmented - original) / 359
    assert held(results)[1] is verdict


@pytest.mark.parametrize(
    ("model", "column", "value", "claim"),
    [
        ("original", "train_accuracy", 0.79, 0),
        ("original", "train_accuracy", math.nan, 0),
        ("original", "train_loss", 0.9, 0),
        ("augmented", "train_loss", None, 0),
        ("augmented", "test_accuracy", 0.6, 1),
        ("original", "test_accuracy", math.nan, 1),
        ("augmented", "test_accuracy", None, 1),
    ],
)
def test_a_claim_fails_alone(model, column, value, claim):
    results = fake_results(110)
    results["only_right"] = {"original": 100, "augmented": 154}
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


@pytest.mark.parametrize("path", sorted(RUNS.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_the_committed_runs_are_judged_by_the_same_rules(path):
    results = json.loads(path.read_text())
    assert results["claims"] == check_claims(results)
    page = to_markdown(
        Document("title", "overline", [], [Section("Claims", [Verdict(**claim)]) for claim in results["claims"]])
    )
    for line in page.splitlines():
        if line.startswith("**"):
            assert line in path.with_name("report.md").read_text().splitlines()
