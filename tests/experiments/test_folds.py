"""`fastmlp train --folds K`: a model per fold, tested on its fold, and one that is trained on all rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

import fastmlp
from fastmlp.cli.main import main
from fastmlp.experiments import folds
from fastmlp.experiments.models import Models

MACHINE = ["--backend", "numpy", "--threads", "1"]
FEATURES = ["--features", "own.npz", "--epochs", "20", "--out", "run"]
ROWS, FOLDS = 121, 4


@pytest.fixture(autouse=True)
def files(own_folders: None, rng: np.random.Generator) -> None:
    for name in ("own", "test"):
        labels = rng.integers(0, 3, ROWS)
        X = (2 * np.eye(3, 8)[labels] + rng.normal(size=(ROWS, 8))).astype(np.float32)
        np.savez(f"{name}.npz", features=X, labels=np.array(["ant", "bee", "cat"])[labels])


def trained(*options: str, code: int = 0) -> dict[str, Any]:
    """The model's results.json."""
    assert main(["train", *options, *MACHINE]) == code
    [path] = Path("run").glob("*/results.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_row_is_tested_once_by_a_model_that_has_not_seen_it(capsys: pytest.CaptureFixture[str]) -> None:
    results = trained(*FEATURES, f"--folds={FOLDS}")
    printed = capsys.readouterr()
    with np.load("own.npz") as own:
        X, y = own["features"], own["labels"]
    accuracies, hits = [], 0
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(y, y)
    for number, (_, tested) in enumerate(splits, start=1):
        model = fastmlp.load_model(f"run/head/folds/fold-{number}", "numpy")
        accuracies.append(model.evaluate(X[tested], y[tested])["accuracy"])
        hits += round(accuracies[-1] * len(tested))
    over_folds = results["over_folds"]
    assert over_folds["test_accuracy"]["values"] == accuracies
    assert over_folds["test_accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert over_folds["test_accuracy"]["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert [set(fold) for fold in over_folds["folds"]] == [
        {"train_accuracy", "train_loss", "test_accuracy", "test_loss"}
    ] * FOLDS
    assert results["figures"]["test_accuracy"] == pytest.approx(hits / ROWS)
    assert results["evaluation"]["head"]["samples"] == ROWS
    lines = printed.out.splitlines()
    assert lines[-2].split()[0] == "mean"
    assert f"{np.mean(accuracies):.3%}" in lines[-2]
    assert f"{np.std(accuracies, ddof=1):.3%}" in lines[-1]
    assert "The model is trained on all rows; its test figures are those of the models of the folds" in printed.err
    report = Path("run/head/report.html").read_text()
    assert "its test figures are those of the models of the folds" in report
    assert report.count(f"{np.mean(accuracies):.3%}") == 1


def test_the_model_is_the_one_trained_on_all_rows() -> None:
    results = trained(*FEATURES, f"--folds={FOLDS}")
    assert results["data"]["rows"] == {"training": ROWS}
    folded = fastmlp.load_model("run/head", "numpy").network.parameters
    trained(*FEATURES, "--test-features", "test.npz")  # which holds no row out either
    for one, two in zip(
        folded.weights, fastmlp.load_model("run/head", "numpy").network.parameters.weights, strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_test_features_of_ones_own_test_the_final_model() -> None:
    results = trained(*FEATURES, "--folds=3", "--test-features", "test.npz")
    assert results["data"]["rows"] == {"training": ROWS, "test": ROWS}
    with np.load("test.npz") as test:
        figures = fastmlp.load_model("run/head", "numpy").evaluate(test["features"], test["labels"])
    assert results["figures"]["test_accuracy"] == figures["accuracy"]
    assert len(results["over_folds"]["folds"]) == 3


def test_images_are_folded_with_their_copies() -> None:
    images = ["--dataset", "synthetic:100", "--extractor", "pixels", "--epochs", "1", "--out", "run"]
    results = trained(*images, "--on", "augmented", "--folds", "2")
    rows = json.loads(Path("run/augmented/folds/fold-1/config.json").read_text())["rows"]
    assert rows == {"training": 50, "test": 50}
    assert len(results["over_folds"]["test_accuracy"]["values"]) == 2


def test_folds_stop_early_weigh_classes_and_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*FEATURES, "--folds=2", "--early-stopping", "--class-weight", "balanced"]
    whole = trained(*command)
    assert json.loads(Path("run/head/folds/fold-1/history.json").read_text())["validation_accuracy"]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (Path("run/head/folds/fold-2") / "model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Models, "train", interrupted)
        assert main(["train", *command, *MACHINE, "--resume"]) == 130
    resumed = trained(*command, "--resume")
    assert resumed["over_folds"] == whole["over_folds"]
    assert resumed["figures"] == whole["figures"]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--folds", "1"], 2, "--folds must be 2 or more, not 1"),
        (["--folds", "200"], 4, "--folds 200 needs two rows of each class, and 200 of one of them"),
        (["--folds", "2", "--limit", "4"], 4, "--folds 2 needs two rows of each class"),
    ],
)
def test_impossible_folds(options: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("own.npz", features=np.eye(9), labels=[0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert main(["train", *FEATURES, *options, *MACHINE]) == code
    assert says in capsys.readouterr().err
    assert not list(Path("run").rglob("*.safetensors"))


def test_a_class_with_fewer_rows_than_folds_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("own.npz", features=np.eye(12), labels=[0] * 9 + [1] * 3)
    trained(*FEATURES, "--folds", "4")
    assert "1 of 2 classes have fewer than 4 rows: some folds test none of them." in capsys.readouterr().err


def test_folds_of_another_run_do_not_stay() -> None:
    trained(*FEATURES, "--folds=3")
    trained(*FEATURES, "--folds=2")
    assert sorted(path.name for path in Path("run/head", folds.FOLDS).iterdir()) == ["fold-1", "fold-2"]
