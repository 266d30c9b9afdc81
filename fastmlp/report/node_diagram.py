"""The paper's Figure 3: one node, from its inputs and weights by way of their sum to its activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.report.style import PALETTE, WIDTH, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, PITCH, FOOT = 0.5, 0.33, 0.2  # inches, as are all lengths here: above, between and below the rows
COLUMNS = {"input": 1.05, "value": 1.9, "weight": 2.9, "product": 3.75}  # where their texts end
LINES = 3.9  # where those to the sum begin
SUM, RELU, OUT = 6.05, 7.85, 9.25
RADIUS = 0.36
BOX = 0.42  # half the side of the activation's
WIDEST = 3.5  # points, of the line of the largest product


@styled
def draw_node(node: Mapping[str, Any]) -> Figure:
    """A row for each input shown, one for all others and one for the bias; the larger a product, the wider its line."""
    rows = _rows(node)
    height = HEAD + PITCH * len(rows) + FOOT
    middle = FOOT + PITCH * len(rows) / 2
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    for name, x in COLUMNS.items():
        axes.text(x, height - 0.3, name, ha="right", va="center", size=8, color=PALETTE["muted"])
    largest = max(abs(product) for *_, product in rows) or 1.0
    for place, (texts, product) in enumerate(rows):
        _draw_row(axes, height - HEAD - PITCH * (place + 0.5), middle, texts, product, product / largest)
    _draw_sum(axes, middle, node["sum"])
    _draw_activation(axes, middle, node["activation"])
    return figure


def _rows(node: Mapping[str, Any]) -> list[tuple[tuple[str, str, str], float]]:
    """(input, value, weight) as text, and what they add to the sum."""
    rows = [
        (
            (f"feature {one['feature']}", _number(one["value"]), f"× {_number(one['weight'])}"),
            one["value"] * one["weight"],
        )
        for one in node["inputs"]
    ]
    sums = [others for others in (node["adding"], node["subtracting"]) if others["count"]]
    rows += [((f"{others['count']:,} more", "", ""), others["sum"]) for others in sums]
    return [*rows, (("bias", "", ""), node["bias"])]


def _draw_row(axes: Axes, y: float, middle: float, texts: tuple[str, str, str], product: float, share: float) -> None:
    """A row of numbers, and its line to the sum: dashed if it takes away from it."""
    for x, text in zip(COLUMNS.values(), (*texts, _signed(product)), strict=True):
        axes.text(x, y, text, ha="right", va="center", weight="bold" if x == COLUMNS["product"] else "normal")
    end = middle + RADIUS * 0.8 * (y - middle) / middle
    style = "solid" if product >= 0 else (0, (3, 2))
    axes.plot([LINES, SUM - RADIUS], [y, end], color=PALETTE["heat" if product >= 0 else "muted"], linestyle=style,
              linewidth=max(0.6, WIDEST * abs(share) ** 0.5))  # fmt: skip


def _draw_sum(axes: Axes, middle: float, total: float) -> None:
    from matplotlib.patches import Circle

    circle = Circle(
        (SUM, middle), RADIUS, facecolor=PALETTE["surface"], edgecolor=PALETTE["heat"], linewidth=1.6, zorder=3
    )
    axes.add_patch(circle)
    axes.text(SUM, middle, "Σ", ha="center", va="center", size=16, zorder=4)
    _draw_arrow(axes, middle, SUM + RADIUS, RELU - BOX, f"z = {_number(total)}")


def _draw_activation(axes: Axes, middle: float, activation: float) -> None:
    """A box with ReLU's curve, and what leaves it."""
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (RELU - BOX, middle - BOX), 2 * BOX, 2 * BOX, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=PALETTE["surface"], edgecolor=PALETTE["heat"], linewidth=1.6, zorder=3,
    )  # fmt: skip
    axes.add_patch(box)
    curve = middle + np.array([-0.2, -0.2, 0.25])
    axes.plot(RELU + np.array([-0.28, 0, 0.28]), curve, color=PALETTE["ink"], linewidth=1.6, zorder=4)
    axes.text(RELU, middle - BOX - 0.17, "ReLU: max(0, z)", ha="center", va="center", size=8, color=PALETTE["muted"])
    _draw_arrow(axes, middle, RELU + BOX, OUT, f"a = {_number(activation)}")


def _draw_arrow(axes: Axes, y: float, start: float, end: float, text: str) -> None:
    arrow = {"arrowstyle": "-|>", "color": PALETTE["muted"], "linewidth": 1, "shrinkA": 2, "shrinkB": 2}
    axes.annotate("", (end, y), (start, y), arrowprops=arrow)
    axes.text((start + end) / 2, y + 0.15, text, ha="center", va="center", weight="bold")


def _signed(value: float) -> str:
    return _number(value) if value < 0 else f"+{_number(value)}"


def _number(value: float) -> str:
    """With three significant digits, as a person writes it."""
    return f"{value:.3g}".replace("-", "−")
