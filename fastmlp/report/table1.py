"""Table 1's cells as text: one run's, and what several seeds say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastmlp.report.claims import Results, number
from fastmlp.report.document import Paragraph

HEADER = ("train accuracy", "train loss", "test accuracy", "test loss")
COLUMNS = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")


def cells(row: Mapping[str, float | None]) -> tuple[str, ...]:
    """Percentages and losses with the paper's digits."""
    return tuple(_cell(column, row[column]) for column in COLUMNS)


def seed_rows(results: Results, model: str) -> list[tuple[str, tuple[str, ...]]]:
    """A model's mean, standard deviation and 95% interval over the seeds, each (label, cells); none for one seed."""
    if "over_seeds" not in results:
        return []
    over = results["over_seeds"]
    summaries: Mapping[str, Any] = over["table1"][model]
    return [
        (f"mean of {len(over['seeds'])} seeds", cells({name: cell["mean"] for name, cell in summaries.items()})),
        ("standard deviation", cells({name: cell["std"] for name, cell in summaries.items()})),
        ("95% interval", tuple(_interval(name, summaries[name]) for name in COLUMNS)),
    ]


def seed_note(results: Results) -> list[Paragraph]:
    """What differs between the seeds, and what does not; nothing for one seed."""
    if "over_seeds" not in results:
        return []
    seeds = results["over_seeds"]["seeds"]
    note = (
        f"Over seeds {seeds[0]} to {seeds[-1]}: initial weights and batch orders are drawn from each, the augmented "
        f"copies and the features once, from {seeds[0]}. The interval is of the mean, by Student's t; it shows how far "
        "chance in training moves a cell, not how far another test set would. The figures show the first seed's models."
    )
    return [Paragraph(note)]


def _cell(column: str, value: float | None) -> str:
    return f"{number(value):.3%}" if column.endswith("accuracy") else f"{number(value):.3f}"


def _interval(column: str, summary: Mapping[str, float]) -> str:
    low, high = (_cell(column, summary[end]) for end in ("low", "high"))
    return f"{low.removesuffix('%')} to {high}"
