"""Figures against scikit-learn's, and the calibration error against its definition, spelled out."""

import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from fastmlp.common.files import to_json
from fastmlp.models import metrics
from fastmlp.models.metrics import Answers
from fastmlp.network.evaluation import softmax

CLASSES = 5


@pytest.fixture
def logits_and_labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels, of which one class never comes, and one is never predicted."""
    logits = rng.normal(size=(300, CLASSES)) * 3
    logits[:, 4] -= 100
    return logits, rng.integers(1, CLASSES, 300)


def evaluate(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    return metrics.evaluate(Answers.of([logits], labels), names)


def test_figures_are_scikit_learns(logits_and_labels: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = logits_and_labels
    names = list("abcde")
    figures = evaluate(logits, labels, names)
    predicted, classes = logits.argmax(axis=1), range(CLASSES)
    assert figures["samples"] == 300
    assert figures["accuracy"] == accuracy_score(labels, predicted)
    probabilities = softmax(logits)
    keep = probabilities[np.arange(300), labels] > 1e-12  # scikit-learn clips smaller ones
    assert Answers.of([logits[keep]], labels[keep]).loss == pytest.approx(
        log_loss(labels[keep], probabilities[keep], labels=classes), rel=1e-12
    )
    np.testing.assert_array_equal(figures["confusion"], confusion_matrix(labels, predicted, labels=classes))
    expected = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[column] for row in figures["classes"]], values, rtol=1e-14)
    assert [row["name"] for row in figures["classes"]] == names


@pytest.mark.parametrize("cuts", [[], [0, 1, 7], [150], range(300)])
def test_blocks_of_logits_change_nothing(
    cuts: Sequence[int], logits_and_labels: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels = logits_and_labels
    whole = evaluate(logits, labels, list("abcde"))
    monkeypatch.setattr(metrics, "BLOCK", 33)
    assert metrics.evaluate(Answers.of(np.split(logits, cuts), labels), list("abcde")) == whole


@pytest.mark.parametrize("classes", [metrics.MOST_IN_MATRIX, metrics.MOST_IN_MATRIX + 1])
def test_only_pairs_that_occur_are_counted(classes: int, rng: np.random.Generator) -> None:
    labels, predicted = rng.integers(0, classes, (2, 500))
    figures = evaluate(np.eye(classes)[predicted], labels, [str(name) for name in range(classes)])
    expected = confusion_matrix(labels, predicted, labels=range(classes))
    entries = figures["confusion_entries"]
    assert len(entries["count"]) == (expected > 0).sum()
    np.testing.assert_array_equal(expected[entries["true"], entries["predicted"]], entries["count"])
    if classes <= metrics.MOST_IN_MATRIX:
        np.testing.assert_array_equal(figures["confusion"], expected)
    else:
        assert figures["confusion"] is None
    expected[np.diag_indices(classes)] = 0
    order = sorted(zip(*np.nonzero(expected), strict=True), key=lambda pair: (-expected[pair], pair))
    assert figures["mistakes"] == [
        {"true": str(true), "predicted": str(predicted), "count": expected[true, predicted]}
        for true, predicted in order[: metrics.MOST_MISTAKES]
    ]


def test_memory_and_json_grow_with_rows_and_classes_not_with_their_product() -> None:
    classes, rows = 16_000, 2_000
    labels = np.arange(rows) % classes
    blocks = (np.zeros((100, classes), np.float32) for _ in range(rows // 100))
    tracemalloc.start()
    figures = metrics.evaluate(Answers.of(blocks, labels), [str(name) for name in range(classes)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # a matrix of pairs would take 2 GB, all probabilities 256 MB
    assert len(to_json(figures)) < 4e6
    assert json.loads(to_json(figures)) == figures


def test_the_loss_of_huge_logits_is_finite() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    assert Answers.of([logits], np.array([0, 0])).loss == 5e3


def test_calibration_error_by_its_definition(logits_and_labels: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = softmax(logits_and_labels[0]), logits_and_labels[1]
    confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    figures = evaluate(*logits_and_labels, list("abcde"))
    expected = 0.0
    for m, told in zip(range(1, 16), figures["calibration"], strict=True):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        assert told["rows"] == inside.sum()
        if inside.any():
            assert told["accuracy"] == pytest.approx(hits[inside].mean(), rel=1e-12)
            assert told["confidence"] == pytest.approx(confidence[inside].mean(), rel=1e-12)
            expected += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
        else:
            assert told["accuracy"] is told["confidence"] is None
    assert figures["calibration_error"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("confidence", "labels", "error"),
    [(1.0, [0, 0, 0, 0], 0.0), (1.0, [0, 0, 0, 1], 0.25), (0.75, [0, 0, 0, 1], 0.0)],
)
def test_calibration_error_of_plain_cases(confidence: float, labels: list[int], error: float) -> None:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[confidence, 1 - confidence]] * 4))
    assert evaluate(logits, np.array(labels), ["a", "b"])["calibration_error"] == pytest.approx(error, abs=1e-15)
