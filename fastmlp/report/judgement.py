"""How models are judged, in a report: figures per class, what is mistaken for what, and how well confidence is founded.

Everything is drawn from evaluations, as `fastmlp.models.metrics.evaluate` gives them, by the name of their model; they
have the same classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.report.document import Paragraph, Table
from fastmlp.report.style import PALETTE, WIDTH, colour_of, new_figure, shortened, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Evaluations = Mapping[str, Mapping[str, Any]]

MOST_DRAWN = 30  # classes in a confusion matrix and in a table
MOST_ANNOTATED = 20  # classes whose confusion matrix carries numbers
ALONE = 6.2  # inches, the side of a matrix that stands alone
MOST_SHOWN = 10  # mistakes
LINE = 0.18  # inches, of text
HEADER = ("precision", "recall", "f1")


# Tables.


def per_class_table(evaluations: Evaluations) -> list[Table | Paragraph]:
    """Rows, precision, recall and F1 of each class by each model; of many classes, those most often mistaken."""
    by_class = list(zip(*(evaluation["classes"] for evaluation in evaluations.values()), strict=True))
    shown = sorted(by_class, key=_missed, reverse=True)[:MOST_DRAWN] if len(by_class) > MOST_DRAWN else by_class
    several = len(evaluations) > 1
    columns = [
        f"{name}: {_heading(column)}" if several else _heading(column) for name in evaluations for column in HEADER
    ]
    rows = [
        (row[0]["name"], f"{row[0]['support']:,}", *(f"{own[column]:.1%}" for own in row for column in HEADER))
        for row in shown
    ]
    note = (
        "Precision: how many of the rows predicted as the class are of it. Recall: how many of the class's rows were "
        "predicted as it. F1: the harmonic mean of both."
    )
    if len(shown) < len(by_class):
        note = f"The {len(shown)} of {len(by_class):,} classes with most mistakes; results.json has all. {note}"
    return [Table(("class", "rows", *columns), rows, "numbers", ["plain"] * len(rows)), Paragraph(note)]


def _missed(row: Sequence[Mapping[str, Any]]) -> float:
    """How many rows of a class the models got wrong, together."""
    return sum(own["support"] * (1 - own["recall"]) for own in row)


def _heading(column: str) -> str:
    return "F1" if column == "f1" else column


def mistakes_table(evaluation: Mapping[str, Any]) -> Table:
    """A model's most frequent mistakes."""
    most = evaluation["mistakes"][:MOST_SHOWN]
    rows = [(one["true"], one["predicted"], f"{one['count']:,}") for one in most]
    return Table(("true class", "predicted class", "rows"), rows, "numbers", ["plain"] * len(rows))


# The confusion matrices.


def has_matrix(evaluations: Evaluations) -> bool:
    """Whether the confusion matrices are small enough to be read."""
    return all(len(evaluation["classes"]) <= MOST_DRAWN for evaluation in evaluations.values())


@styled
def draw_confusion(evaluations: Evaluations) -> Figure:
    """All matrices side by side: rows the true classes, shades and numbers the share of each row."""
    names = [shortened(row["name"]) for row in next(iter(evaluations.values()))["classes"]]
    labels = 0.5 + 0.075 * max(map(len, names))  # inches for the longest name
    side = min(ALONE, (WIDTH - labels - 0.05) / len(evaluations) - 0.15 * (len(evaluations) > 1))
    height = side + labels + 0.4
    figure = new_figure(WIDTH, height)
    for index, (model, evaluation) in enumerate(evaluations.items()):
        left = labels + index * (side + 0.3)
        axes = figure.add_axes((left / WIDTH, labels / height, side / WIDTH, side / height))
        _draw_matrix(axes, row_shares(evaluation["confusion"]))
        _name_classes(axes, names, side, rows=index == 0)
        axes.set_title(f"{model}: {evaluation['accuracy']:.1%} right", color=colour_of(model))
        axes.set_xlabel("predicted class")
        if index == 0:
            axes.set_ylabel("true class")
    return figure


def row_shares(confusion: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Each count as a share of its row's sum; zero in rows without images."""
    counts = np.asarray(confusion, dtype=np.float64)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _draw_matrix(axes: Axes, shares: NDArray[np.float64]) -> None:
    from matplotlib.colors import to_rgb

    classes = len(shares)
    opacity = shares[..., None] ** 0.6  # lifts the few confusions out of the page
    heat = np.concatenate([np.broadcast_to(to_rgb(PALETTE["heat"]), (classes, classes, 3)), opacity], axis=2)
    around = np.arange(classes + 1) - 0.5  # a class's number is in the middle of its cells
    axes.pcolormesh(around, around, heat)  # an image would be scaled to the figure's pixels first: 50 MB for a while
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.spines[:].set_visible(True)
    if classes > MOST_ANNOTATED:
        return
    size = min(9, 130 / classes)  # points
    for row, column in np.argwhere(np.round(100 * shares) > 0):
        on_heat = opacity[row, column, 0] > 0.5
        axes.text(
            column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", size=size,
            color=PALETTE["on-heat" if on_heat else "ink"],
        )  # fmt: skip


def _name_classes(axes: Axes, names: Sequence[str], side: float, rows: bool) -> None:
    """Names along the matrix's `side` inches, as large as its cells let them be."""
    points = min(9, 0.85 * side * 72 / len(names))
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90, rotation_mode="anchor", ha="right", va="center", size=points)
    axes.set_yticks(ticks, names if rows else [""] * len(names), size=points)
    axes.tick_params(length=0)


# Calibration.


@styled
def draw_reliability(evaluations: Evaluations) -> Figure:
    """Accuracy against confidence, bin by bin, beside how many rows have which confidence (Guo et al. 2017, fig. 1)."""
    above = LINE * len(evaluations)  # where the curves cannot run into the models' names
    height = 3.9 + above
    figure = new_figure(WIDTH, height)
    reliability, shares = figure.subplots(1, 2)
    top, bottom = (3.9 - 0.39) / height, 0.53 / height
    figure.subplots_adjust(left=0.07, right=0.975, top=top, bottom=bottom, wspace=0.18)
    reliability.set_title("Accuracy by confidence", pad=12 + 72 * above)
    reliability.set_ylim(-0.02, 1.02)
    shares.set_title("Rows by confidence", pad=12 + 72 * above)
    for axes in (reliability, shares):
        axes.set(xlabel="confidence", xlim=(0, 1.01))
        axes.xaxis.set_major_formatter(_percent)
        axes.yaxis.set_major_formatter(_percent)
        axes.grid(axis="y", color=PALETTE["rule"], linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    reliability.plot([0, 1], [0, 1], color=PALETTE["muted"], linewidth=0.8, linestyle=(0, (1, 2)))
    for place, (model, evaluation) in enumerate(evaluations.items()):
        _draw_bins(reliability, shares, evaluation["calibration"], colour_of(model))
        text = f"{model}: calibration error {evaluation['calibration_error']:.2%}"
        reliability.annotate(
            text, (0, 1), (0, 8 + 72 * (above - LINE * (place + 1))), xycoords="axes fraction",
            textcoords="offset points", color=colour_of(model),
        )  # fmt: skip
    shares.set_ylim(bottom=0)
    return figure


def _draw_bins(reliability: Axes, shares: Axes, bins: Sequence[Mapping[str, Any]], colour: str) -> None:
    """A dot for each bin that has rows, and a step for the share of rows in each."""
    full = [one for one in bins if one["rows"]]
    confidence, accuracy = ([one[name] for one in full] for name in ("confidence", "accuracy"))
    reliability.plot(confidence, accuracy, "o-", color=colour, linewidth=1.4, markersize=4)
    rows = np.array([one["rows"] for one in bins])
    shares.stairs(rows / rows.sum(), np.linspace(0, 1, len(bins) + 1), color=colour, linewidth=1.4, baseline=0)


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.4g}%"
