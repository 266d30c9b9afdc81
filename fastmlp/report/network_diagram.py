"""The paper's Figure 2: the network, drawn from its real sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.report.style import PALETTE, WIDTH, new_figure, shortened, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 4.3  # inches, as are all lengths here
MIDDLE = HEIGHT / 2 + 0.2
PITCH = 0.245  # between nodes
FIRST_COLUMN = 3.1
LAST_COLUMN = WIDTH - 1.5
MOST_NODES = 12  # nodes of a layer that are drawn one by one
NARROWEST = 1.3  # between columns, for the counts of weights to have room


@styled
def draw_network(results: Mapping[str, Any]) -> Figure:
    """The layers as columns of nodes, joined by their weights; a layer too tall to draw shows its ends."""
    config, data = results["config"], results["data"]
    sizes = [data["features"], *config["hidden_layer_sizes"], len(data["class_names"])]
    names = ["features", *["ReLU"] * len(config["hidden_layer_sizes"]), "softmax"]
    colours = ["muted", *["heat"] * len(config["hidden_layer_sizes"]), "ink"]
    columns = np.linspace(FIRST_COLUMN, LAST_COLUMN, len(sizes))
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    _draw_way_in(axes, shortened(config["extractor"]))
    for index in range(len(sizes) - 1):
        _draw_weights(axes, columns[index : index + 2], sizes[index : index + 2])
    for x, size, name, colour in zip(columns, sizes, names, colours, strict=True):
        _draw_layer(axes, x, size, name, PALETTE[colour])
    _name_outputs(axes, data["class_names"])
    return figure


def _node_heights(size: int) -> NDArray[np.float64]:
    """Where a layer's nodes are drawn, from the top; with a gap in the middle if not all are."""
    shown = size if size <= MOST_NODES else MOST_NODES + 1
    heights = MIDDLE + PITCH * ((shown - 1) / 2 - np.arange(shown, dtype=np.float64))
    return heights if size <= MOST_NODES else np.delete(heights, MOST_NODES // 2)


def _draw_layer(axes: Axes, x: float, size: int, name: str, colour: str) -> None:
    heights = _node_heights(size)
    axes.scatter(np.full(len(heights), x), heights, s=95, color=colour, edgecolor=PALETTE["surface"], zorder=3)
    if size > MOST_NODES:
        dots = MIDDLE + PITCH * np.array([0.3, 0, -0.3])
        axes.scatter(np.full(3, x), dots, s=5, color=colour, zorder=3)
    axes.text(x, 0.52, f"{size:,}", ha="center", va="center", size=12, weight="bold", color=colour)
    axes.text(x, 0.28, name, ha="center", va="center", color=PALETTE["muted"])


def _draw_weights(axes: Axes, columns: NDArray[np.float64], sizes: Sequence[int]) -> None:
    """A line from every drawn node to every one of the next layer, and how many there are in truth."""
    from matplotlib.collections import LineCollection

    left, right = columns
    lines = [[(left, a), (right, b)] for a in _node_heights(sizes[0]) for b in _node_heights(sizes[1])]
    axes.add_collection(LineCollection(lines, colors=PALETTE["muted"], linewidths=0.5, alpha=0.28))
    if right - left >= NARROWEST:
        text = f"{sizes[0]:,} × {sizes[1]:,} weights\n+ {sizes[1]:,} biases"
        axes.text((left + right) / 2, 0.4, text, ha="center", va="center", size=8, color=PALETTE["muted"])


def _draw_way_in(axes: Axes, extractor: str) -> None:
    """The image, the frozen extractor, and the arrows to the first layer."""
    from matplotlib.patches import FancyBboxPatch

    for x, width, text, below in ((0.75, 0.8, "image", "3 × 32 × 32"), (1.98, 1.1, extractor, "frozen")):
        box = FancyBboxPatch(
            (x - width / 2, MIDDLE - 0.32), width, 0.64, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="none", edgecolor=PALETTE["muted"], linewidth=1,
        )  # fmt: skip
        axes.add_patch(box)
        axes.text(x, MIDDLE, text, ha="center", va="center", size=9 if len(text) < 12 else 7)
        axes.text(x, MIDDLE - 0.5, below, ha="center", va="center", size=8, color=PALETTE["muted"])
    for start, end in ((1.18, 1.4), (2.56, 2.9)):
        arrow = {"arrowstyle": "-|>", "color": PALETTE["muted"], "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (end, MIDDLE), (start, MIDDLE), arrowprops=arrow)


def _name_outputs(axes: Axes, class_names: Sequence[str]) -> None:
    if len(class_names) <= MOST_NODES:
        for y, name in zip(_node_heights(len(class_names)), class_names, strict=True):
            axes.text(LAST_COLUMN + 0.2, y, shortened(name), va="center", color=PALETTE["muted"])
