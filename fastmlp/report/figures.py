"""The report's figures, each drawn once from a run's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.paper import MODELS
from fastmlp.report.blocks import stages
from fastmlp.report.claims import number
from fastmlp.report.network_diagram import draw_network
from fastmlp.report.node_diagram import draw_node
from fastmlp.report.style import DPI, PALETTE, WIDTH, colour_of, new_figure, save, shortened, styled, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AugmentationSheet",
    "draw_network",
    "draw_node",
    "draw_seconds",
    "draw_sheet",
    "draw_training",
    "save",
    "svg",
]

Results = Mapping[str, Any]

LABELS = 1.25  # inches left of a sheet's images
MARGIN = 0.0625  # inches around them
GAP = 2  # pixels between them
FIRST_GAP = 8  # pixels below the row of originals
LOG_RATIO = 5  # of the highest to the lowest loss, from which on a linear axis hides the late epochs


@dataclass(frozen=True)
class AugmentationSheet:
    """Rows of (label, images uint8 (k, 3, h, w)), the same k images in each; the first row holds the originals."""

    rows: tuple[tuple[str, NDArray[np.uint8]], ...]


# Figure 1: the augmentations.


@styled
def draw_sheet(sheet: AugmentationSheet) -> Figure:
    """A row of images for each augmentation, pixels shown as squares."""
    mosaic = _mosaic(sheet)
    rows, columns = mosaic.shape[:2]
    scale = max(
        1, min(6, int((WIDTH - LABELS - MARGIN) * DPI) // columns)
    )  # whole device pixels for each of the images'
    width, height = columns * scale / DPI, rows * scale / DPI
    page_width, page_height = LABELS + width + MARGIN, height + 2 * MARGIN
    figure = new_figure(page_width, page_height)
    axes = figure.add_axes((LABELS / page_width, MARGIN / page_height, width / page_width, height / page_height))
    axes.axis("off")
    axes.imshow(mosaic, interpolation="none", aspect="auto", extent=(0, columns, rows, 0))
    for (label, _), top, bottom in zip(sheet.rows, *_row_spans(sheet), strict=True):
        axes.annotate(
            shortened(label), (0, (top + bottom) / 2), (-10, 0), textcoords="offset points",
            ha="right", va="center", weight="bold" if top == 0 else "normal",
        )  # fmt: skip
    return figure


def _row_spans(sheet: AugmentationSheet) -> tuple[list[int], list[int]]:
    """The pixel rows of the mosaic at which each row of images starts and ends."""
    side = sheet.rows[0][1].shape[2]
    tops = [index * (side + GAP) + (FIRST_GAP - GAP if index else 0) for index in range(len(sheet.rows))]
    return tops, [top + side for top in tops]


def _mosaic(sheet: AugmentationSheet) -> NDArray[np.uint8]:
    """uint8 (rows, columns, 4): every image of the sheet in its place, transparent between them."""
    shapes = {images.shape for _, images in sheet.rows}
    if len(shapes) != 1 or 0 in next(iter(shapes)):
        raise UsageError("A sheet of augmentations needs the same number of images, one or more, in every row.")
    count, _, height, width = shapes.pop()
    tops, bottoms = _row_spans(sheet)
    mosaic = np.zeros((bottoms[-1], count * (width + GAP) - GAP, 4), np.uint8)
    for (_, images), top in zip(sheet.rows, tops, strict=True):
        for index, image in enumerate(images):
            left = index * (width + GAP)
            mosaic[top : top + height, left : left + width, :3] = image.transpose(1, 2, 0)
            mosaic[top : top + height, left : left + width, 3] = 255
    return mosaic


# Figure 4: the training.


@styled
def draw_training(results: Results) -> Figure:
    """Loss above, accuracy below, by epoch: every model of the history, training set dashed, test set solid."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(WIDTH, 6.2)
    losses, accuracies = figure.subplots(2, 1, sharex=True)
    figure.subplots_adjust(left=0.065, right=0.8, top=0.93, bottom=0.075, hspace=0.24)
    losses.set(title="Loss")
    accuracies.set(title="Accuracy", xlabel="epoch", ylim=_accuracy_limits(results["history"]))
    _scale_losses(losses, results["history"])
    accuracies.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    accuracies.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    for axes, quantity, form in ((losses, "loss", ".3f"), (accuracies, "accuracy", ".1%")):
        axes.grid(axis="y", color=PALETTE["rule"], linewidth=0.5)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        ends = _draw_curves(axes, results["history"], quantity)
        _label_ends(axes, ends, form)
        _mark_drops(axes, results, labelled=axes is losses)
    return figure


Ends = dict[tuple[str, str], float]  # a curve's last value by its (model, split)


def _draw_curves(axes: Axes, history: Results, quantity: str) -> Ends:
    ends = {}
    for model, curves in history.items():
        epochs, colour = curves["epoch"], colour_of(model)
        marker = "o" if len(epochs) == 1 else None
        for split, style, width in (("train", (0, (4, 2)), 1.1), ("test", "solid", 1.6)):
            values = [number(value) for value in curves[f"{split}_{quantity}"]]
            if not values:  # without a test set
                continue
            axes.plot(epochs, values, color=colour, linestyle=style, linewidth=width, marker=marker, markersize=4)
            ends[model, split] = values[-1]
    last = max(max(curves["epoch"]) for curves in history.values())
    axes.set_xlim(min(1, last - 1), last)
    return ends


def _scale_losses(axes: Axes, history: Results) -> None:
    """The axis of the losses: linear, or logarithmic where that would press the late epochs flat."""
    from matplotlib.ticker import LogLocator

    losses = _finite(history, "loss")
    low, high = _range(losses, 0, 99)
    if low > 0 and high > LOG_RATIO * low:
        axes.set(yscale="log", ylim=(low / (high / low) ** 0.06, high * (high / low) ** 0.06), title="Loss, log scale")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    else:
        axes.set_ylim(_with_margin(low, high))


def _accuracy_limits(history: Results) -> tuple[float, float]:
    return _with_margin(*_range(_finite(history, "accuracy"), 2, 100))


def _finite(history: Results, quantity: str) -> NDArray[np.float64]:
    """Every model's values on both sets."""
    curves = [own[f"{split}_{quantity}"] for own in history.values() for split in ("train", "test")]
    values = np.array([number(value) for curve in curves for value in curve])
    return values[np.isfinite(values)]


def _range(values: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """These percentiles: the first epochs may start outside the frame."""
    if len(values) == 0:
        return 0.0, 1.0
    bottom, top = np.percentile(values, [low, high])
    return float(bottom), float(top)


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _mark_drops(axes: Axes, results: Results, labelled: bool) -> None:
    rates = next(iter(results["history"].values()))["learning_rate"]
    drop = results["config"].get("learning_rate_drop")
    for epoch in range(drop["every"], len(rates), drop["every"]) if drop else ():
        axes.axvline(epoch + 0.5, color=PALETTE["muted"], linewidth=0.7, linestyle=(0, (1, 2)))
        if labelled:
            axes.annotate(
                f"learning rate {rates[epoch]:g}", (epoch + 0.5, 1), (4, -1), xycoords=axes.get_xaxis_transform(),
                textcoords="offset points", va="top", size=8, color=PALETTE["muted"],
            )  # fmt: skip


def _label_ends(axes: Axes, ends: Ends, form: str) -> None:
    """Each curve's label beside its end, moved up or down where two would touch, and joined to it by a hair line."""
    transform = axes.transData + axes.transAxes.inverted()
    heights = [float(transform.transform((1, end))[1]) if np.isfinite(end) else 0.5 for end in ends.values()]
    heights = [float(np.clip(height, 0, 1)) for height in heights]
    for ((model, split), end), height, place in zip(ends.items(), heights, spread(heights, 0.085), strict=True):
        options: dict[str, Any] = {"transform": axes.transAxes, "color": colour_of(model)}
        axes.plot([1, 1.012, 1.022], [height, place, place], clip_on=False, linewidth=0.6, **options)
        axes.text(1.03, place, f"{model}, {split}  {end:{form}}", va="center", **options)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The places, moved as little as makes neighbours at least `gap` apart (isotonic regression)."""
    order = np.argsort(places, kind="stable")
    groups: list[list[float]] = []
    for rank, index in enumerate(order):
        groups.append([places[index] - rank * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [float(np.mean(group)) for group in groups for _ in group]
    spread_places = [0.0] * len(places)
    for rank, index in enumerate(order):
        spread_places[index] = moved[rank] + rank * gap
    return spread_places


# The time.


@styled
def draw_seconds(results: Results) -> Figure:
    """A bar for each stage, in the order in which they ran."""
    seconds = stages(results["seconds"])
    figure = new_figure(WIDTH, 0.2 + 0.3 * max(1, len(seconds)))
    axes = figure.add_axes((0.17, 0, 0.83, 1))
    axes.axis("off")
    longest = max(seconds.values(), default=0) or 1
    axes.set(xlim=(0, 1.15 * longest), ylim=(len(seconds) - 0.4, -0.6))
    for row, (stage, value) in enumerate(seconds.items()):
        model = stage.rpartition("_")[2]
        axes.barh(row, value, height=0.62, color=PALETTE[model if model in MODELS else "muted"])
        for x, text, side in ((0, shortened(stage.replace("_", " ")), "right"), (value, duration(value), "left")):
            offset = -8 if side == "right" else 6
            axes.annotate(text, (x, row), (offset, 0), textcoords="offset points", ha=side, va="center")
    return figure


def duration(seconds: float) -> str:
    """0.42 s, 12.3 s, 2 min 05 s or 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02d} min" if hours else f"{minute} min {second:02d} s"
