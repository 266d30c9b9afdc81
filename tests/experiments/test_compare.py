"""Runs side by side: what their folders tell, or what their models answer to the same rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.cli.main import main
from fastmlp.experiments.config import Config
from fastmlp.experiments.reproduce import reproduce
from fastmlp.report import comparison
from tests.report.test_report import Page

MACHINE = ["--backend", "numpy", "--threads", "1", "--quiet"]
FILES = ["--features", "x.npy", "--labels", "y.npy"]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def heads(own_folders: None, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Two heads on the same rows, good and poor, and their file."""
    monkeypatch.setattr("fastmlp.report.head.write", lambda *_: None)  # which takes a second
    labels = rng.integers(0, 3, 400)
    np.save("x.npy", np.eye(3)[labels].repeat(2, axis=1) + rng.normal(0, 0.5, (400, 6)))
    np.save("y.npy", labels)
    train("good", "--epochs", "8")
    train("poor", "--epochs", "1", "--learning-rate", "0.0001")


def train(out: str, *options: str) -> None:
    assert main(["train", *FILES, "--preset", "fast", "--out", out, *options, *MACHINE]) == 0


def compared(capsys: Captured, *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["compare", *options, "--json", *MACHINE]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told == json.loads(Path("runs/compare/results.json").read_text())
    return told


def refused(capsys: Captured, *options: str, code: int) -> str:
    capsys.readouterr()
    assert main(["compare", *options, *MACHINE]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not Path("runs/compare/results.json").exists()
    return captured.err


def test_runs_on_the_same_rows_are_ranked(capsys: Captured) -> None:
    told = compared(capsys, "poor", "good/head")
    assert told["tested_on"] == "same rows"
    assert [row["run"] for row in told["runs"]] == ["good/head", "poor/head"]
    for row in told["runs"]:
        results = json.loads((Path(row["run"]) / "results.json").read_text())
        assert row["test_accuracy"] == results["figures"]["test_accuracy"]
        assert row["train_accuracy"] == results["figures"]["train_accuracy"]
        assert row["sizes"] == [6, 64, 3]
        assert row["test_rows"] == results["data"]["rows"]["test"]
        assert row["standard_error"] == pytest.approx(
            (row["test_accuracy"] * (1 - row["test_accuracy"]) / row["test_rows"]) ** 0.5
        )
    text = comparison.table_text(told)
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["good/head", "poor/head"]
    page = Page(Path("runs/compare/report.html").read_text())
    shown = " ".join(page.text)
    assert f"{told['runs'][0]['test_accuracy']:.2%}" in shown
    assert "svg" in {tag for tag, _ in page.elements}
    assert Path("runs/compare/figures/comparison.png").stat().st_size > 1000


def test_runs_on_different_rows_are_told_apart(capsys: Captured) -> None:
    train("other", "--epochs", "1", "--seed", "5")
    told = compared(capsys, "other", "good")
    assert told["tested_on"] == "different rows"
    assert "not fair" in told["note"]
    assert [row["run"] for row in told["runs"]] == ["other/head", "good/head"]


def test_other_features_of_the_same_things_are_told(capsys: Captured) -> None:
    np.save("x2.npy", np.load("x.npy")[:, :4])
    assert main(["train", "--features", "x2.npy", "--labels", "y.npy", "--epochs", "1", "--out", "four", *MACHINE]) == 0
    assert compared(capsys, "good", "four")["tested_on"] == "same labels"


def test_models_are_compared_on_rows_that_are_given(capsys: Captured, rng: np.random.Generator) -> None:
    train("other", "--epochs", "1", "--seed", "5")
    labels = rng.integers(0, 3, 90)
    np.savez("new.npz", features=np.eye(3)[labels].repeat(2, axis=1) + rng.normal(0, 0.5, (90, 6)), labels=labels)
    told = compared(capsys, "poor", "other", "good", "--features", "new.npz")
    assert told["tested_on"] == "same rows"
    best, *others = told["runs"]
    assert best["run"] == "good/head"
    assert best["behind_best"] is None
    for row in told["runs"]:
        assert (row["test_rows"], row["rows_trained_on"]) == (90, 0)
    for row in others:
        assert row["behind_best"]["mean"] == pytest.approx(best["test_accuracy"] - row["test_accuracy"])
        assert 0 <= row["behind_best"]["p_value"] <= 1
    assert "behind the best" in comparison.table_text(told)


def test_rows_trained_on_are_told_and_held_out_ones_can_be_taken(capsys: Captured) -> None:
    told = compared(capsys, "poor", "good", *FILES)
    assert "Rows that equal rows a model was trained on" in told["note"]
    told = compared(capsys, "poor", "good", *FILES, "--held-out")
    for row in told["runs"]:
        figures = json.loads((Path(row["run"]) / "results.json").read_text())["figures"]
        assert row["test_accuracy"] == figures["test_accuracy"]
        assert row["rows_trained_on"] == 0


def test_evaluations_reproductions_and_models_without_results_are_runs(capsys: Captured) -> None:
    assert main(["evaluate", "--model", "good/head", *FILES, "--held-out", "--out", "evaluated", *MACHINE]) == 0
    told = compared(capsys, "good", "evaluated")
    assert told["tested_on"] == "same rows"
    assert told["runs"][0]["test_accuracy"] == told["runs"][1]["test_accuracy"]
    options: dict[str, Any] = {"dataset": "synthetic:100", "extractor": "pixels", "backend": "numpy", "epochs": 1}
    reproduce(Config(**options, out=Path("both")))
    names = {row["run"] for row in compared(capsys, "both")["runs"]}
    assert names == {str(Path("both", name)) for name in ("original", "augmented")}
    Path("good/head/results.json").unlink()
    Path("good/head/rows.safetensors").unlink()
    told = compared(capsys, "good", "poor", *FILES)
    assert len(told["runs"]) == 2
    assert "is not known: good/head." in told["note"]


def test_models_of_other_classes_answer_the_same_rows(capsys: Captured) -> None:
    labels = np.load("y.npy")
    np.save("y4.npy", np.where(np.arange(400) % 7 == 0, 7, labels + 1))
    np.save("y3.npy", labels + 1)
    assert main(["train", "--features", "x.npy", "--labels", "y4.npy", "--epochs", "1", "--out", "four", *MACHINE]) == 0
    train_of_three = ["train", "--features", "x.npy", "--labels", "y3.npy", "--epochs", "1", "--out", "three"]
    assert main([*train_of_three, *MACHINE]) == 0
    keep = labels > 0
    np.savez("new.npz", features=np.load("x.npy")[keep] + 0.1, labels=labels[keep] + 1)
    assert compared(capsys, "four", "three", "--features", "new.npz")["tested_on"] == "same rows"


def test_what_cannot_be_compared(capsys: Captured) -> None:
    assert "give another" in refused(capsys, "good", code=2)
    assert "good/head is given twice" in refused(capsys, "good", "good/head", code=2)
    assert "neither a model nor an evaluation in nothing" in refused(capsys, "good", "nothing", code=4)
    assert "go with --features" in refused(capsys, "good", "poor", "--held-out", code=2)
    train("other", "--epochs", "1", "--seed", "5")
    assert "Different rows were held out" in refused(capsys, "good", "other", *FILES, "--held-out", code=2)
    assert main(["evaluate", "--model", "good/head", *FILES, "--out", "evaluated", *MACHINE]) == 0
    assert "evaluated has no model" in refused(capsys, "good", "evaluated", *FILES, code=2)
    results = Path("good/head/results.json")
    for damaged in ("{", '{"model": 1}', '{"model": 1, "evaluation": {"a": {}}, "config": {}, "data": {}}'):
        results.write_text(damaged)
        assert "damaged" in refused(capsys, "good", "poor", code=4)
    results.unlink()
    assert "good/head has no results.json" in refused(capsys, "good", "poor", code=4)


def test_any_number_of_runs_is_drawn() -> None:
    for count in (2, 25):
        runs = [{"run": "r" * 50 + str(n), "test_accuracy": n / count, "standard_error": 0.01} for n in range(count)]
        assert comparison.draw_comparison({"runs": runs}).axes
