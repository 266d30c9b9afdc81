"""How a report judges models: tables per class, confusion matrices, reliability."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fastmlp.models import metrics
from fastmlp.report import figures, judgement
from fastmlp.report.document import Paragraph, Table
from tests.report.test_report import Page, evaluation_of


def words(figure: Any) -> list[str]:
    return Page(figures.svg(figure, "x")).text


def evaluation(rng: np.random.Generator, classes: int, rows: int = 500) -> dict[str, Any]:
    logits, labels = rng.normal(size=(rows, classes)) * 2, rng.integers(0, classes, rows)
    names = [f"class {name}" for name in range(classes)]
    return metrics.evaluate(metrics.Answers.of([logits], labels), names)


def test_confusion_shows_the_share_of_each_row() -> None:
    names = ("cat", "dog", "absent")
    evaluations = {
        "original": evaluation_of([[3, 1, 0], [1, 7, 0], [0, 0, 0]], names),
        "augmented": evaluation_of([[4, 0, 0], [0, 8, 0], [0, 0, 0]], names),
    }
    found = words(judgement.draw_confusion(evaluations))
    assert [word for word in found if word.strip().isdigit()] == ["75", "25", "12", "88", "100", "100"]
    assert {"original: 83.3% right", "augmented: 100.0% right"} < set(found)


@pytest.mark.parametrize("models", [["head"], ["original", "augmented"]])
@pytest.mark.parametrize("classes", [2, judgement.MOST_DRAWN])
def test_any_number_of_models_and_classes_is_drawn(
    models: Sequence[str], classes: int, rng: np.random.Generator
) -> None:
    evaluations = {model: evaluation(rng, classes) for model in models}
    assert judgement.has_matrix(evaluations)
    for draw in (judgement.draw_confusion, judgement.draw_reliability):
        text = " ".join(words(draw(evaluations)))
        for model in models:
            assert model in text


def test_reliability_tells_the_calibration_error(rng: np.random.Generator) -> None:
    own = evaluation(rng, 5)
    assert f"head: calibration error {own['calibration_error']:.2%}" in words(judgement.draw_reliability({"head": own}))


def table_of(blocks: Sequence[Table | Paragraph]) -> tuple[Table, str]:
    table, note = blocks
    assert isinstance(table, Table)
    assert isinstance(note, Paragraph)
    return table, note.text


def test_the_table_of_classes_has_each_models_columns(rng: np.random.Generator) -> None:
    one, two = evaluation(rng, 3), evaluation(rng, 3)
    table, note = table_of(judgement.per_class_table({"a": one, "b": two}))
    assert table.header[2:] == tuple(f"{model}: {name}" for model in "ab" for name in ("precision", "recall", "F1"))
    for row, own in zip(table.rows, two["classes"], strict=True):
        assert row[0] == own["name"]
        assert row[-3:] == tuple(f"{own[name]:.1%}" for name in ("precision", "recall", "f1"))
    assert "results.json" not in note
    assert table_of(judgement.per_class_table({"a": one}))[0].header == ("class", "rows", "precision", "recall", "F1")


def test_of_many_classes_the_most_mistaken_are_shown(rng: np.random.Generator) -> None:
    own = evaluation(rng, judgement.MOST_DRAWN + 10)
    assert not judgement.has_matrix({"head": own})
    table, note = table_of(judgement.per_class_table({"head": own}))
    assert len(table.rows) == judgement.MOST_DRAWN
    assert "30 of 40 classes" in note
    missed = sorted((row["support"] * (1 - row["recall"]) for row in own["classes"]), reverse=True)
    shown = {row["name"]: row["support"] * (1 - row["recall"]) for row in own["classes"]}
    assert [shown[row[0]] for row in table.rows] == pytest.approx(missed[: judgement.MOST_DRAWN])


def test_mistakes_are_listed(rng: np.random.Generator) -> None:
    own = evaluation(rng, 40)
    table = judgement.mistakes_table(own)
    assert len(table.rows) == judgement.MOST_SHOWN
    assert table.rows[0] == (
        own["mistakes"][0]["true"],
        own["mistakes"][0]["predicted"],
        str(own["mistakes"][0]["count"]),
    )
