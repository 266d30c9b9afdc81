"""Figures against scikit-learn's, and the calibration error against its definition, spelled out."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from fastmlp.models import metrics
from fastmlp.network.evaluation import softmax

CLASSES = 5


@pytest.fixture
def answers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels, of which one class never comes, and one is never predicted."""
    logits = rng.normal(size=(300, CLASSES)) * 3
    logits[:, 4] -= 100
    return logits, rng.integers(1, CLASSES, 300)


def test_figures_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = answers
    names = list("abcde")
    figures = metrics.evaluate(logits, labels, names)
    predicted, classes = logits.argmax(axis=1), range(CLASSES)
    assert figures["samples"] == 300
    assert figures["accuracy"] == accuracy_score(labels, predicted)
    probabilities = softmax(logits)
    keep = probabilities[np.arange(300), labels] > 1e-12  # scikit-learn clips smaller ones
    assert metrics.cross_entropy(logits[keep], labels[keep]) == pytest.approx(
        log_loss(labels[keep], probabilities[keep], labels=classes), rel=1e-12
    )
    np.testing.assert_array_equal(figures["confusion"], confusion_matrix(labels, predicted, labels=classes))
    expected = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[column] for row in figures["classes"]], values, rtol=1e-14)
    assert [row["name"] for row in figures["classes"]] == names


def test_the_loss_of_huge_logits_is_finite() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    assert metrics.cross_entropy(logits, np.array([0, 0])) == 5e3


def test_calibration_error_by_its_definition(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = softmax(answers[0]), answers[1]
    confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if inside.any():
            expected += inside.mean() * abs(hits[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(expected, rel=1e-12)


def test_calibration_error_of_plain_cases() -> None:
    sure = np.array([[1.0, 0.0]] * 4)
    assert metrics.calibration_error(sure, np.array([0, 0, 0, 0])) == 0
    assert metrics.calibration_error(sure, np.array([0, 0, 0, 1])) == 0.25
    honest = np.array([[0.75, 0.25]] * 4)
    assert metrics.calibration_error(honest, np.array([0, 0, 0, 1])) == 0
