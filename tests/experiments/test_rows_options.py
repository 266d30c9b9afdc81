"""`fastmlp train --label-smoothing`, `--early-stopping`, `--class-weight`: resumable, and as MLPClassifier trains."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp.cli.main import main
from fastmlp.common.errors import UsageError
from fastmlp.experiments import models
from fastmlp.training import run
from fastmlp.training.held_out import hold_out
from fastmlp.training.recipe import Recipe
from fastmlp.training.stopping import Stopping
from fastmlp.training.weights import parse_class_weight, weights_of_classes
from tests.training.test_run import interrupt_within

MACHINE = ["--backend", "numpy", "--threads", "1"]
IMAGES = ["--dataset", "synthetic:200", "--extractor", "pixels", "--out", "run"]
FEATURES = ["--features", "own.npz", "--test-features", "test.npz", "--out", "run"]
COUNTS = (150, 40, 10)  # rows of each class


@pytest.fixture(autouse=True)
def files(own_folders: None, rng: np.random.Generator) -> None:
    """own.npz and test.npz: rows of three classes, of which one is frequent and one rare, hard to tell apart."""
    for name in ("own", "test"):
        labels = np.repeat(np.arange(3), COUNTS)
        X = (np.eye(3, 8)[labels] + rng.normal(size=(len(labels), 8))).astype(np.float32)
        np.savez(f"{name}.npz", features=X, labels=np.array(["ant", "bee", "cat"])[labels])


def trained(*options: str, code: int = 0) -> Path:
    """The folder of the model."""
    assert main(["train", *options, *MACHINE]) == code
    return next((path.parent for path in Path("run").glob("*/model.safetensors")), Path("run"))


def content_of(folder: Path) -> dict[str, bytes]:
    """All of a model but what tells how long it took."""
    names = (
        "README.md",
        "checkpoint.safetensors",
        "config.json",
        "history.json",
        "model.safetensors",
        "rows.safetensors",
    )
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


# Label smoothing.


def test_smoothed_labels_are_mlp_classifiers_and_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(*FEATURES, "--preset", "paper", "--epochs", "3", "--label-smoothing", "0.2", "--json")
    with np.load("own.npz") as own, np.load("test.npz") as test:
        model = fastmlp.MLPClassifier(preset="paper", max_iter=3, backend="numpy", label_smoothing=0.2)
        model.fit(own["features"], own["labels"])
        hits = model.predict(test["features"]) == test["labels"]
        losses = -np.log(model.predict_proba(test["features"]))[
            np.arange(len(hits)), np.unique(test["labels"], return_inverse=True)[1]
        ]
    for mine, weight in zip(fastmlp.load_model(folder, "numpy").parameters.weights, model.coefs_, strict=True):
        np.testing.assert_array_equal(mine, weight)
    assert json.loads((folder / "history.json").read_text())["train_loss"] == model.loss_curve_
    figures = json.loads(capsys.readouterr().out)
    assert figures["test_accuracy"] == hits.mean()
    assert figures["test_loss"] == pytest.approx(losses.mean(), rel=1e-5), "of the labels as they are"
    assert json.loads((folder / "results.json").read_text())["config"]["label_smoothing"] == 0.2
    assert json.loads((folder / "config.json").read_text())["recipe"]["label_smoothing"] == 0.2


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_optimizers_are_mlp_classifiers_and_recorded(optimizer: str) -> None:
    folder = trained(*FEATURES, "--preset", "paper", "--epochs", "2", "--optimizer", optimizer)
    with np.load("own.npz") as own:
        model = fastmlp.MLPClassifier(preset="paper", max_iter=2, backend="numpy", solver=optimizer)
        model.fit(own["features"], own["labels"])
    assert json.loads((folder / "history.json").read_text())["train_loss"] == model.loss_curve_
    assert json.loads((folder / "results.json").read_text())["config"]["optimizer"] == optimizer


def test_an_unknown_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    trained(*FEATURES, "--optimizer", "adan", code=2)
    assert "The optimizer must be one of sgd, adam, momentum, not 'adan', did you mean adam" in capsys.readouterr().err


@pytest.mark.parametrize("before", ["0", "0.1"])
def test_another_smoothing_is_another_experiment(before: str, capsys: pytest.CaptureFixture[str]) -> None:
    trained(*FEATURES, "--epochs", "2", "--label-smoothing", before)
    trained(*FEATURES, "--epochs", "2", "--label-smoothing", before, "--resume")
    trained(*FEATURES, "--epochs", "2", "--label-smoothing", "0.3", "--resume", code=2)
    assert "is of another experiment" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1", "-0.1", "nan", "inf", "2"])
def test_numbers_that_are_no_smoothing(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    trained(*FEATURES, f"--label-smoothing={value}", code=2)
    assert f"--label-smoothing must be a number from 0 to below 1, not {float(value):g}." in capsys.readouterr().err
    with pytest.raises(UsageError, match="The label smoothing must be a number from 0 to below 1, not"):
        Recipe(label_smoothing=float(value))


# Early stopping.


@pytest.mark.parametrize("on", [["--on", "original"], ["--on", "augmented"], []])
def test_training_stops_and_the_best_epoch_is_kept(on: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    of = [*IMAGES, *on, "--preset", "fast", "--epochs", "60"] if on else FEATURES
    folder = trained(*of, "--early-stopping")
    history = json.loads((folder / "history.json").read_text())
    scores = history["validation_accuracy"]
    assert Stopping().is_due(scores)
    assert not Stopping().is_due(scores[:-1])
    assert len(scores) == len(history["epoch"]) < (60 if on else 100)
    kept = scores.index(max(scores)) + 1
    assert f"Of {len(scores)} epochs, number {kept} is kept" in capsys.readouterr().err
    rows = json.loads((folder / "config.json").read_text())["rows"]
    assert rows == {"training": 360 if on == IMAGES else rows["training"], "validation": 20, "test": rows["test"]}
    assert f"after epoch {kept}, whose network is kept" in (folder / "README.md").read_text()
    assert f"for {len(scores)} epochs, of which number {kept} is kept, on" in (folder / "report.md").read_text()


def test_the_kept_network_is_the_best_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(*FEATURES, "--early-stopping", "--json")
    history = json.loads((folder / "history.json").read_text())
    with np.load("own.npz") as own:
        X, y = own["features"], own["labels"]
    kept, held_out = hold_out(np.unique(y, return_inverse=True)[1], 0)
    model = fastmlp.load_model(folder, "numpy")
    assert model.evaluate(X[held_out], y[held_out])["accuracy"] == max(history["validation_accuracy"])
    figures = json.loads(capsys.readouterr().out)
    assert model.evaluate(X[kept], y[kept])["accuracy"] == figures["train_accuracy"]  # on rows it was trained on only


@pytest.mark.parametrize("of", [IMAGES, FEATURES], ids=["images", "features"])
@pytest.mark.parametrize("epoch", [2, 5])
def test_early_stopping_resumes_to_the_same_bytes(epoch: int, of: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "Stopping", lambda: Stopping(patience=3))
    command = [*of, "--early-stopping", "--class-weight", "balanced", "--epochs", "30"]
    folder = trained(*command)
    whole = content_of(folder)
    assert trained(*command, "--resume") == folder  # a finished one
    assert content_of(folder) == whole
    assert epoch < len(json.loads(whole["history.json"])["epoch"]) < 30
    (folder / "model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", math.inf)
        interrupt_within(epoch, patch)
        trained(*command, code=130)
    assert (folder / "checkpoint.safetensors").exists()
    trained(*command, "--resume")
    assert content_of(folder) == whole


@pytest.mark.parametrize("before", [[], ["--early-stopping"], ["--class-weight", "balanced"]])
@pytest.mark.parametrize("after", [[], ["--early-stopping"], ["--class-weight", "bee=2"]])
def test_another_choice_of_rows_is_another_experiment(
    before: list[str], after: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    quick = [*FEATURES, "--epochs", "2"]
    trained(*quick, *before)
    trained(*quick, *after, "--resume", code=0 if before == after else 2)
    if before != after:
        assert "is of another experiment" in capsys.readouterr().err


def test_too_few_rows_to_hold_any_out(capsys: pytest.CaptureFixture[str]) -> None:
    trained(*FEATURES, "--limit", "9", "--early-stopping", code=4)  # one class only
    np.savez("few.npz", features=np.eye(8), labels=np.arange(8) % 2)
    trained("--features", "few.npz", "--test-features", "few.npz", "--out", "run", "--early-stopping", code=2)
    assert "8 are too few, give 10 or more" in capsys.readouterr().err
    assert not list(Path("run").rglob("*.safetensors"))


# Class weights.


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("balanced", "balanced"),
        ("cat=5", {"cat": 5, "ant": 1, "bee": 1}),
        ("cat=5,ant=0.5,bee=1e0", {"cat": 5, "ant": 0.5, "bee": 1}),
    ],
)
def test_class_weights_are_mlp_classifiers(text: str, weights: str | dict[str, float]) -> None:
    folder = trained(*FEATURES, "--preset", "paper", "--epochs", "3", "--class-weight", text)
    with np.load("own.npz") as own:
        X, y = own["features"], own["labels"]
    options: dict[str, Any] = {"preset": "paper", "max_iter": 3, "backend": "numpy", "class_weight": weights}
    classifier = fastmlp.MLPClassifier(**options).fit(X, y)
    parameters = fastmlp.load_model(folder, "numpy").network.parameters
    for own_weights, theirs in zip(parameters.weights, classifier.coefs_, strict=True):
        np.testing.assert_array_equal(own_weights, theirs)
    assert json.loads((folder / "config.json").read_text())["class_weight"] == text


def test_balanced_weights_find_the_rare_class() -> None:
    recalls = []
    for options in ([], ["--class-weight", "balanced"]):
        folder = trained(*FEATURES, "--epochs", "30", *options)
        with np.load("test.npz") as test:
            classes = fastmlp.load_model(folder, "numpy").evaluate(test["features"], test["labels"])["classes"]
        recalls.append(next(row["recall"] for row in classes if row["name"] == "cat"))
    assert recalls[1] > recalls[0]


def test_weighted_training_takes_a_fused_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *FEATURES, "--epochs", "1", "--class-weight", "cat=2", "--backend", "numba"]) == 0
    assert "Tier 3, fused epoch: numba trains this network" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "balance",
        "cat",
        "cat=",
        "=2",
        "cat=0",
        "cat=-1",
        "cat=nan",
        "cat=inf",
        "cat=2,cat=3",
        "cat=two",
        "cat=1,ant",
    ],
)
def test_texts_that_are_no_class_weights(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    trained(*FEATURES, f"--class-weight={text}", code=2)
    assert "--class-weight must be balanced, or NAME=W,NAME=W" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_name_of_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    trained(*FEATURES, "--class-weight", "cats=2", code=2)
    assert (
        "names 'cats', which is no class, did you mean cat: the classes are ant, bee, cat." in capsys.readouterr().err
    )
    assert not list(Path("run").rglob("*.safetensors"))


def test_names_may_have_commas_and_equals_signs() -> None:
    assert parse_class_weight("a,b=2,c=d=0.5") == {"a,b": 2.0, "c=d": 0.5}
    weights = weights_of_classes("a,b=2", ["a,b", "c"], np.array([0, 1]))
    np.testing.assert_array_equal(weights, [2.0, 1.0])
    np.testing.assert_allclose(weights_of_classes("balanced", ["a", "b"], np.array([0, 1, 1, 1])), [2, 2 / 3])
