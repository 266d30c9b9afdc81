"""The report's charts: bars with their spread beside the floor, and lines of cost against what grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastmlp.report.figures import spread
from fastmlp.report.style import PALETTE, WIDTH, clean, new_figure, styled

from .compare import Comparison, digits, duration, scale
from .results import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR, HEAD, FOOT = 0.27, 0.55, 0.42  # inches: a bar with the gap below it, a panel's title, its axis
LEFT, RIGHT, MARGIN = 2.45, 1.75, 0.06  # inches for names, at least, for figures, and around
LEFT_OF_GROWTH = 0.67
CHARACTER, SMALL_CHARACTER = 0.079, 0.066  # inches, of a name in bold and of one beside a line
LINEAR = 25  # the ratio of the longest to the shortest bar up to which both are visible on a linear scale
COLOURS = {"numba": "augmented", "torch": "ink", "numpy": "muted", "cupy": "heat"}


@styled
def draw_bars(compared: Sequence[Comparison]) -> Figure:
    """One panel per problem: a bar from zero to the median, a line from q1 to q3, a notch at the minimum."""
    heights = [HEAD + BAR * len(one.racers) + FOOT for one in compared]
    top = total = sum(heights)
    left = _room_for([racer.contender for one in compared for racer in one.racers])
    figure = new_figure(WIDTH, total)
    for one, height in zip(compared, heights, strict=True):
        bottom, tall = (top - height + FOOT) / total, BAR * len(one.racers) / total
        axes = figure.add_axes((left / WIDTH, bottom, (WIDTH - left - RIGHT) / WIDTH, tall))
        _draw_panel(axes, one, left)
        top -= height
    return figure


def _room_for(names: Sequence[str]) -> float:
    """Inches."""
    return max(LEFT, 0.25 + CHARACTER * max(map(len, names)))


def _draw_panel(axes: Axes, compared: Comparison, left: float) -> None:
    size, symbol = scale([measurement.median for measurement in compared.timed])
    for row, racer in enumerate(compared.racers):
        _draw_bar(axes, row, racer, compared.floor, size)
    _set_scale(axes, [value / size for one in compared.timed for value in (one.seconds["min"], one.seconds["q3"])])
    axes.set_ylim(len(compared.racers) - 0.5, -0.5)
    axes.set_title(clean(compared.title), loc="left", x=(MARGIN - left) / (WIDTH - left - RIGHT), pad=18)
    axes.set_xlabel(f"{symbol} per {compared.unit}{', log scale' if axes.get_xscale() == 'log' else ''}", size=8)
    axes.xaxis.set_major_formatter(_tick)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=2, labelsize=8)
    if compared.floor:
        _draw_floor(axes, compared.floor, size)


def _draw_bar(axes: Axes, row: int, racer: Measurement, floor: Measurement | None, size: float) -> None:
    seconds = {name: value / size for name, value in racer.seconds.items()}
    ours = racer.kind == "ours"
    colour = PALETTE["augmented" if ours else "muted"]
    axes.barh(row, seconds["median"], height=0.62, color=colour, alpha=0.9 if ours else 0.55)
    axes.plot([seconds["q1"], seconds["q3"]], [row, row], color=PALETTE["ink"], linewidth=1.4)
    axes.plot(seconds["min"], row, marker="|", markersize=8, color=PALETTE["ink"], markeredgewidth=1.0)
    label: dict[str, Any] = {"textcoords": "offset points", "va": "center", "weight": "bold" if ours else "normal"}
    axes.annotate(
        clean(racer.contender), (0, row), (-8, 0), xycoords=axes.get_yaxis_transform(), ha="right",
        color=colour if ours else PALETTE["ink"], **label,
    )  # fmt: skip
    times = f"   {digits(racer.median / floor.median)}× floor" if floor else ""
    axes.annotate(
        f"{duration(racer.median)}{times}", (1, row), (8, 0), xycoords=axes.get_yaxis_transform(),
        ha="left", **label,
    )  # fmt: skip


def _set_scale(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if high > LINEAR * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 2, high * 1.1)
    else:
        axes.set_xlim(0, high * 1.04)


def _draw_floor(axes: Axes, floor: Measurement, size: float) -> None:
    place = floor.median / size
    axes.axvline(place, color=PALETTE["original"], linewidth=1.4, linestyle=(0, (4, 2)))
    in_left_half = axes.transData.transform((place, 0))[0] < axes.transAxes.transform((0.5, 0))[0]
    axes.annotate(
        f"floor: {clean(floor.contender)}", (place, 1), (3 if in_left_half else -3, 3),
        xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="left" if in_left_half else "right",
        va="bottom", size=8, color=PALETTE["original"],
    )  # fmt: skip


# Growth.


@styled
def draw_growth(axis: Sequence[Comparison]) -> Figure:
    """Time against what grows, one line per contender with its spread; beside it peak memory, if measured."""
    with_memory = any(measurement.peak is not None for one in axis for measurement in one.timed)
    figure = new_figure(WIDTH, 3.5)
    panels = figure.subplots(1, 1 + with_memory, squeeze=False, width_ratios=(5, 3)[: 1 + with_memory])[0]
    room = 0.45 + SMALL_CHARACTER * max(len(_short_name(one.contender)) for compared in axis for one in compared.timed)
    gap = room + 0.4  # between the panels
    wspace = gap / ((WIDTH - LEFT_OF_GROWTH - room - gap) / 2)
    figure.subplots_adjust(
        left=LEFT_OF_GROWTH / WIDTH, right=1 - room / WIDTH, top=0.86, bottom=0.14, wspace=wspace if with_memory else 0
    )
    size, symbol = scale([measurement.median for one in axis for measurement in one.timed])
    _draw_lines(panels[0], axis, _times, size)
    panels[0].set_title(f"{symbol} per {axis[0].unit}")
    if with_memory:
        _draw_lines(panels[1], axis, _peaks, 2.0**20)
        panels[1].set_title("MiB held at the peak")
    return figure


Series = dict[str, list[tuple[int, float, float, float]]]  # by contender: (what has grown how far, middle, low, high)


def _times(axis: Sequence[Comparison]) -> Series:
    lines: Series = {}
    for one in axis:
        for measurement in [*one.racers, *([one.floor] if one.floor else [])]:
            name = "floor" if measurement.kind == "floor" else measurement.contender
            seconds = measurement.seconds
            point = (measurement.value or 0, seconds["median"], seconds["q1"], seconds["q3"])
            lines.setdefault(name, []).append(point)
    return lines


def _peaks(axis: Sequence[Comparison]) -> Series:
    lines: Series = {}
    for measurement in (measurement for one in axis for measurement in one.timed):
        if measurement.peak is not None:
            peak = float(max(measurement.peak, 1))  # for the logarithm
            lines.setdefault(measurement.contender, []).append((measurement.value or 0, peak, peak, peak))
    return lines


def _draw_lines(axes: Axes, axis: Sequence[Comparison], series: Any, size: float) -> None:
    lines = series(axis)
    for name, points in lines.items():
        values, middle, low, high = ([column / (1 if i == 0 else size) for column in columns]
                                     for i, columns in enumerate(zip(*points, strict=True)))  # fmt: skip
        colour, dashes = _look(name)
        axes.plot(values, middle, color=colour, linestyle=dashes, linewidth=1.6, marker="o", markersize=3)
        axes.fill_between(values, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set(xscale="log", yscale="log")
    _set_ticks(axes, sorted({point[0] for points in lines.values() for point in points}))
    axes.set_xlabel(str(axis[0].measurements[0].axis))
    _label_ends(axes, {name: points[-1][1] / size for name, points in lines.items()})


def _look(name: str) -> tuple[str, Any]:
    """Colour and dashes: one colour per backend, dashed if it does not train as it chooses itself, by its name."""
    if name == "floor":
        return PALETTE["original"], (0, (4, 2))
    words = name.replace(",", " ").split()
    backend = next((COLOURS[word] for word in words if word in COLOURS), "muted")
    ours = name.startswith("fastmlp")
    return PALETTE[backend if ours else "muted"], "solid" if ours and "," not in name else (0, (1.5, 1.5))


def _short_name(name: str) -> str:
    return clean(name.removeprefix("fastmlp "))


def _set_ticks(axes: Axes, values: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator

    axes.minorticks_off()
    axes.set_xticks(values, [_short(value) for value in values], size=8)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_tick)
    axes.grid(axis="y", color=PALETTE["rule"], linewidth=0.5)
    axes.tick_params(length=2, labelsize=8)


def _tick(value: float, _: object) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _short(value: int) -> str:
    """10k and 1M for counts of rows, 4096 for powers of two."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size and value % size == 0:
            return f"{value // size}{letter}"
    return str(value)


def _label_ends(axes: Axes, ends: dict[str, float]) -> None:
    """Names beside the lines' ends, moved where two would touch."""
    transform = axes.transData + axes.transAxes.inverted()
    heights = [float(transform.transform((axes.get_xlim()[1], end))[1]) for end in ends.values()]
    for (name, _), height, place in zip(ends.items(), heights, spread(heights, 0.075), strict=True):
        options: dict[str, Any] = {"transform": axes.transAxes, "color": _look(name)[0]}
        axes.plot([0.97, 1.0, 1.03], [height, place, place], clip_on=False, linewidth=0.5, **options)
        axes.text(1.04, place, _short_name(name), va="center", size=8, **options)
