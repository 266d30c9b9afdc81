"""A sweep as a table and as a chart: accuracy on the held-out rows of every setting, and its spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.report.figures import spread
from fastmlp.report.style import PALETTE, WIDTH, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = Mapping[str, Any]
Row = Mapping[str, Any]

HEADER = ("hidden units", "learning rate", "weight decay", "validation accuracy", "std", "validation loss")
HIGH = 2.5  # inches of a panel
BELOW = 0.8  # inches below the lowest
ABREAST = 3  # panels in a row
LABELS = 1.5  # inches right of the panels
MARGIN = 0.62  # inches left of them
ASIDE = 0.08  # of the space between two learning rates lies between two lines, in each panel of a row
MOST_ASIDE = 0.5  # between the first and the last
MOST_LEVEL = 14  # learning rates whose names fit into a row of panels
LIGHT = "#5fa4dc"


# The table.


def table_text(results: Results) -> str:
    """Every setting, the best first; then what the chosen one comes to."""
    rows = [HEADER, *(_cells(row) for row in results["settings"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, "", *_closing(results)])


def _cells(row: Row) -> tuple[str, ...]:
    setting = (str(row["width"]), f"{row['learning_rate']:g}", f"{row['weight_decay']:g}")
    if row["diverged"]:
        return (*setting, f"{row['diverged']} of {len(row['heads'])} diverged", "", "")
    accuracy, loss = row["validation_accuracy"], row["validation_loss"]
    std = "" if accuracy["std"] is None else f"{accuracy['std']:.2%}"
    return (*setting, f"{accuracy['mean']:.2%}", std, f"{loss['mean']:.4f}")


def _closing(results: Results) -> list[str]:
    chosen, data, seeds = results["chosen"], results["data"], results["config"]["seeds"]
    accuracy = results["settings"][0]["validation_accuracy"]["mean"]
    error = math.sqrt(accuracy * (1 - accuracy) / data["held_out_rows"])
    means = (
        f"Means over {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}; an accuracy over "
        f"{data['held_out_rows']:,} held-out rows has a standard error of {error:.2%}."
    )
    chosen_one = (
        f"Chosen: {chosen['width']} hidden units, learning rate {chosen['learning_rate']:g}, weight decay "
        f"{chosen['weight_decay']:g}; trained again on all training rows, test accuracy "
        f"{chosen['test_accuracy']:.2%}, test loss {chosen['test_loss']:.4f}."
    )
    return [means, chosen_one, *_hint(results)]


def _hint(results: Results) -> list[str]:
    """What to try where the choice lies at the edge of the learning rates."""
    rates, rate = results["grid"]["learning_rates"], results["chosen"]["learning_rate"]
    if len(rates) < 2 or min(rates) < rate < max(rates):
        return []
    end = "smallest: try smaller" if rate == min(rates) else "largest: try larger"
    return [f"The chosen learning rate is the {end} ones with --learning-rates."]


# The chart.


@styled
def draw_sweep(results: Results) -> Figure:
    """Accuracy against learning rate: a panel for each width, a line for each weight decay, dots for the seeds."""
    widths = results["grid"]["widths"]
    columns = _columns(results)
    rows = -(-len(widths) // columns)
    height = 0.42 + BELOW + rows * HIGH + (rows - 1) * 0.55 * HIGH
    figure = new_figure(WIDTH, height)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    figure.subplots_adjust(
        left=MARGIN / WIDTH, right=1 - LABELS / WIDTH, top=1 - 0.42 / height, bottom=BELOW / height,
        wspace=0.08, hspace=0.55,
    )  # fmt: skip
    limits = _limits(results["settings"])
    for index, (axes, width) in enumerate(zip(panels, widths, strict=False)):
        _draw_panel(axes, results, width, limits, labelled=index == columns - 1)
    for axes in panels[len(widths) :]:
        axes.set_visible(False)
    return figure


def _limits(settings: Sequence[Row]) -> tuple[float, float]:
    """From below the better half of the settings to above the best candidate; poor ones may lie outside."""
    means = [row["validation_accuracy"]["mean"] for row in settings if not row["diverged"]]
    heads = [value for row in settings if not row["diverged"] for value in row["validation_accuracy"]["values"]]
    low = max(min(heads), means[0] - 4 * max(means[0] - float(np.median(means)), 0.01))
    margin = 0.08 * (max(heads) - low) or 0.01
    return low - margin, max(heads) + 1.5 * margin


def _draw_panel(axes: Axes, results: Results, width: int, limits: tuple[float, float], labelled: bool) -> None:
    rates, decays = sorted(results["grid"]["learning_rates"]), sorted(results["grid"]["weight_decays"])
    axes.set(title=f"{width} hidden units", xlabel="learning rate", xlim=(-0.5, len(rates) - 0.5), ylim=limits)
    upright = len(rates) * _columns(results) > MOST_LEVEL
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], rotation=90 if upright else 0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    axes.grid(axis="y", color=PALETTE["rule"], linewidth=0.5)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    rows = [row for row in results["settings"] if row["width"] == width]
    aside = min(ASIDE * _columns(results), MOST_ASIDE / len(decays))
    lines = [_Line.of(rows, rates, decays, index, aside) for index in range(len(decays))]
    for line in lines:
        _draw_line(axes, line)
    if labelled:
        _label_lines(axes, lines)
    _mark_chosen(axes, results["settings"][0], lines)


def _columns(results: Results) -> int:
    return min(len(results["grid"]["widths"]), ABREAST)


@dataclass(frozen=True)
class _Line:
    """One weight decay: (place on the x axis, setting) by learning rate; lines are drawn side by side."""

    decay: float
    colour: tuple[float, ...]
    points: Sequence[tuple[float, Row]]

    @classmethod
    def of(
        cls, rows: Sequence[Row], rates: Sequence[float], decays: Sequence[float], index: int, aside: float
    ) -> _Line:
        shift = aside * (index - (len(decays) - 1) / 2)
        own = [row for row in rows if row["weight_decay"] == decays[index]]
        placed = [(rates.index(row["learning_rate"]) + shift, row) for row in own]
        points = sorted(placed, key=lambda point: point[0])
        return cls(decays[index], _shade(index, len(decays)), points)

    @property
    def trained(self) -> list[tuple[float, Row]]:
        return [(place, row) for place, row in self.points if not row["diverged"]]


def _shade(index: int, count: int) -> tuple[float, ...]:
    """Weight decays are ordered, and so are their colours: from light to dark."""
    from matplotlib.colors import to_rgb

    light, dark = np.array(to_rgb(LIGHT)), np.array(to_rgb(PALETTE["augmented"]))
    return tuple(dark + (light - dark) * (count - 1 - index) / max(1, count - 1))


def _draw_line(axes: Axes, line: _Line) -> None:
    """The means joined, each between its seeds; a cross on the floor where a head diverged."""
    for place, row in line.points:
        if row["diverged"]:
            axes.plot(place, 0.03, "x", color=line.colour, markersize=5, transform=axes.get_xaxis_transform())
        else:
            values = row["validation_accuracy"]["values"]
            axes.plot([place, place], [min(values), max(values)], color=line.colour, linewidth=4, alpha=0.25)
            axes.plot([place] * len(values), values, "_", color=line.colour, markersize=5, alpha=0.8)
    means = [row["validation_accuracy"]["mean"] for _, row in line.trained]
    axes.plot([place for place, _ in line.trained], means, "o-", color=line.colour, linewidth=1.4, markersize=3.5)


def _label_lines(axes: Axes, lines: Sequence[_Line]) -> None:
    """Each line's name to the right of the panel, at the height of its end, or as near as the others let it be."""
    bottom, top = axes.get_ylim()
    ends = [line.trained[-1][1]["validation_accuracy"]["mean"] if line.trained else bottom for line in lines]
    heights = [float(np.clip((end - bottom) / (top - bottom), 0, 1)) for end in ends]
    for line, place in zip(lines, spread(heights, 0.085), strict=True):
        name = f"weight decay {line.decay:g}"
        axes.text(1.03, place, name, va="center", color=line.colour, transform=axes.transAxes)


def _mark_chosen(axes: Axes, chosen: Row, lines: Sequence[_Line]) -> None:
    """A ring, where the chosen setting is in the panel, and its accuracy above its best head."""
    accuracy = chosen["validation_accuracy"]
    for place in (place for line in lines for place, row in line.points if row is chosen):
        axes.plot(place, accuracy["mean"], "o", markersize=9, markerfacecolor="none", color=PALETTE["original"])
        axes.annotate(
            f"chosen: {accuracy['mean']:.1%}", (place, max(accuracy["values"])), (0, 7), textcoords="offset points",
            ha="center", color=PALETTE["original"], weight="bold",
        )  # fmt: skip
