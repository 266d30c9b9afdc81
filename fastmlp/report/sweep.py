"""Sweeps and probes as tables and charts: accuracy on the held-out rows of every setting, and its spread over seeds."""

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

NAMES = {
    "width": "hidden units",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
    "strength": "strength C",
}
FIGURES = ("validation accuracy", "std", "validation loss")
HIGH = 2.5  # inches of a panel
BELOW, UPRIGHT = 0.8, 0.35  # inches below the lowest, and more where names stand upright
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
    rows = [header(results), *(cells(row) for row in results["settings"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, "", *closing(results)])


def header(results: Results) -> tuple[str, ...]:
    """The columns of the table: what settings differ in, and their figures."""
    return (*(spoken for name, spoken in NAMES.items() if name in results["settings"][0]), *FIGURES)


def cells(row: Row) -> tuple[str, ...]:
    """A setting's line of the table."""
    setting = tuple(f"{row[name]:g}" for name in NAMES if name in row)
    if row["diverged"]:
        return (*setting, f"{row['diverged']} of {len(row['heads'])} diverged", "", "")
    accuracy, loss = row["validation_accuracy"], row["validation_loss"]
    std = "" if accuracy["std"] is None else f"{accuracy['std']:.2%}"
    return (*setting, f"{accuracy['mean']:.2%}", std, f"{loss['mean']:.4f}")


def closing(results: Results) -> list[str]:
    """What the figures are, what was chosen, and how it does on the test rows."""
    chosen, data, seeds = results["chosen"], results["data"], results["config"]["seeds"]
    accuracy = results["settings"][0]["validation_accuracy"]["mean"]
    error = math.sqrt(accuracy * (1 - accuracy) / data["held_out_rows"])
    means = (
        f"Means over {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}; an accuracy over "
        f"{data['held_out_rows']:,} held-out rows has a standard error of {error:.2%}."
    )
    values = [f"{spoken} {chosen[name]:g}" for name, spoken in NAMES.items() if name in chosen and name != "width"]
    chosen_one = (
        f"Chosen: {', '.join([_hidden(chosen['width']), *values])}; trained again on all training rows, test accuracy "
        f"{chosen['test_accuracy']:.2%}, test loss {chosen['test_loss']:.4f}."
    )
    return [means, chosen_one, *_over_seeds(chosen), *_hint(results)]


def _hidden(width: int) -> str:
    return f"{width} hidden units" if width else "no hidden layer"


def _over_seeds(chosen: Row) -> list[str]:
    """The chosen setting's test accuracy over seeds, where it was trained from several."""
    if "over_seeds" not in chosen:
        return []
    accuracy = chosen["over_seeds"]["test_accuracy"]
    interval = f"95% interval {accuracy['low']:.2%} to {accuracy['high']:.2%}"
    return [f"Over {len(accuracy['values'])} seeds its test accuracy is {accuracy['mean']:.2%}, {interval}."]


def _hint(results: Results) -> list[str]:
    """What to try where the choice lies at the edge of the learning rates, or of the strengths."""
    name = "strength" if "strengths" in results["grid"] else "learning_rate"
    values, value = results["grid"][f"{name}s"], results["chosen"][name]
    if len(values) < 2 or min(values) < value < max(values):
        return []
    end = "smallest: try smaller" if value == min(values) else "largest: try larger"
    place = "in a protocol of your own" if "protocol" in results else "with --learning-rates"
    return [f"The chosen {name.replace('_', ' ')} is the {end} ones {place}."]


# The chart.


@styled
def draw_sweep(results: Results) -> Figure:
    """Accuracy against learning rate: a panel for each width, a line for each weight decay, dots for the seeds.

    Of a single learning rate, accuracy against weight decay.
    """
    widths = results["grid"]["widths"]
    columns = _columns(results)
    rows = -(-len(widths) // columns)
    below = BELOW + UPRIGHT * _upright(results)
    height = 0.42 + below + rows * HIGH + (rows - 1) * 0.55 * HIGH
    figure = new_figure(WIDTH, height)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    figure.subplots_adjust(
        left=MARGIN / WIDTH, right=1 - LABELS / WIDTH, top=1 - 0.42 / height, bottom=below / height,
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
    along, apart = _ways(results)
    places, values = (sorted(results["grid"][f"{name}s"]) for name in (along, apart))
    axes.set(title=_hidden(width), xlabel=NAMES[along], xlim=(-0.5, len(places) - 0.5), ylim=limits)
    axes.set_xticks(range(len(places)), [f"{place:.3g}" for place in places], rotation=90 * _upright(results))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    axes.grid(axis="y", color=PALETTE["rule"], linewidth=0.5)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    rows = [row for row in results["settings"] if row["width"] == width]
    aside = min(ASIDE * _columns(results), MOST_ASIDE / len(values))
    lines = [_Line.of(rows, (along, places), (apart, values), index, aside) for index in range(len(values))]
    for line in lines:
        _draw_line(axes, line)
    if labelled:
        _label_lines(axes, lines)
    _mark_chosen(axes, results["settings"][0], lines)


def _ways(results: Results) -> tuple[str, str]:
    """What settings differ in along the x axis, and from line to line."""
    if "strengths" in results["grid"]:
        return "strength", "width"
    single = len(results["grid"]["learning_rates"]) == 1 < len(results["grid"]["weight_decays"])
    return ("weight_decay", "learning_rate") if single else ("learning_rate", "weight_decay")


def _upright(results: Results) -> bool:
    """Whether the names along the x axis are too many to stand side by side."""
    along, _ = _ways(results)
    return len(results["grid"][f"{along}s"]) * _columns(results) > MOST_LEVEL


def _columns(results: Results) -> int:
    return min(len(results["grid"]["widths"]), ABREAST)


@dataclass(frozen=True)
class _Line:
    """One weight decay, say: (place on the x axis, setting) by learning rate; lines are drawn side by side."""

    name: str
    colour: tuple[float, ...]
    points: Sequence[tuple[float, Row]]

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        along: tuple[str, Sequence[float]],
        apart: tuple[str, Sequence[float]],
        index: int,
        aside: float,
    ) -> _Line:
        """along, apart: what settings differ in along the line, and from line to line, and the values of each."""
        (x, places), (y, values) = along, apart
        shift = aside * (index - (len(values) - 1) / 2)
        own = [row for row in rows if row[y] == values[index]]
        placed = [(places.index(row[x]) + shift, row) for row in own]
        points = sorted(placed, key=lambda point: point[0])
        return cls(f"{NAMES[y]} {values[index]:g}" if y != "width" else "C", _shade(index, len(values)), points)

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
        axes.text(1.03, place, line.name, va="center", color=line.colour, transform=axes.transAxes)


def _mark_chosen(axes: Axes, chosen: Row, lines: Sequence[_Line]) -> None:
    """A ring, where the chosen setting is in the panel, and its accuracy above its best head."""
    accuracy = chosen["validation_accuracy"]
    for place in (place for line in lines for place, row in line.points if row is chosen):
        axes.plot(place, accuracy["mean"], "o", markersize=9, markerfacecolor="none", color=PALETTE["original"])
        axes.annotate(
            f"chosen: {accuracy['mean']:.1%}", (place, max(accuracy["values"])), (0, 7), textcoords="offset points",
            ha="center", color=PALETTE["original"], weight="bold",
        )  # fmt: skip
