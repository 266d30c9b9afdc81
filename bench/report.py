"""The suite's report: one self-contained page, its charts, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastmlp.common.files import write_text
from fastmlp.report.document import (
    Block,
    Document,
    Highlights,
    Paragraph,
    Picture,
    Section,
    Table,
    to_html,
    to_markdown,
)
from fastmlp.report.style import save, svg

from . import charts
from .compare import Comparison, comparisons, digits, duration, growths, scale
from .results import Measurement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In the report's order; a suite not listed here comes last, under its own name.
TITLES = {
    "step": "A step of training",
    "busy": "A step of training on a busy machine",
    "heads": "A step of other heads",
    "train": "A whole fit",
    "sweep": "Many heads at once",
    "probe": "Probes: all of a protocol's trainings",
    "sklearn": "scikit-learn's MLPs",
    "augment": "Augmentation",
    "extract": "Features",
    "ops": "Single ops",
    "startup": "Start-up",
    "growth": "How the cost grows",
}
NONE = "–"
EMULATED = "No GPU: our kernels ran emulated and peers on the CPU."


def write(measurements: Sequence[Measurement], out: Path, how: str = "") -> None:
    """OUT/report.html, OUT/report.md and OUT/charts/*.png of one run; each file is whole or absent.

    how: in what way they were measured, where that was not by the suite.
    """
    document = _document(measurements, Path(out), how)
    write_text(Path(out) / "report.md", to_markdown(document))
    write_text(Path(out) / "report.html", to_html(document))


def table(measurements: Sequence[Measurement]) -> str:
    """The contenders' tables in Markdown, with machine, threads, versions and commit."""
    sections = [Section(_title(suite), _tables(measurements, suite)) for suite in _suites(measurements)]
    return to_markdown(Document(_headline(measurements), _overline(measurements), _opening(measurements), sections))


def _document(measurements: Sequence[Measurement], out: Path, how: str) -> Document:
    sections = [Section(_title(suite), _suite(measurements, suite, out)) for suite in _suites(measurements)]
    environment = Section("Environment", [_facts(measurements[0])])
    opening = [*_opening(measurements, how), *_highlights(measurements)]
    return Document(_headline(measurements), _overline(measurements), opening, [*sections, environment])


def _suites(measurements: Sequence[Measurement]) -> list[str]:
    found = dict.fromkeys(measurement.suite for measurement in measurements)
    return sorted(found, key=lambda suite: list(TITLES).index(suite) if suite in TITLES else len(TITLES))


def _title(suite: str) -> str:
    return TITLES.get(suite, suite.capitalize())


# The opening.


def _headline(measurements: Sequence[Measurement]) -> str:
    first = measurements[0]
    processor = f"{_counted(first.threads, 'thread')} of {first.machine['cpu']}"
    return f"fastmlp measured: {first.machine.get('gpu') or processor}"


def _overline(measurements: Sequence[Measurement]) -> str:
    return f"fastmlp {measurements[0].machine['fastmlp']} · benchmark report · {measurements[0].run} UTC"


def _opening(measurements: Sequence[Measurement], how: str = "") -> list[Block]:
    first = measurements[0]
    told = f"{EMULATED} " if first.device == "emulated" else ""
    blocks: list[Block] = [
        Paragraph(how or _by_the_suite(first), "lead"),
        Paragraph(f"Commit {first.commit}; {_versions(first.machine)}."),
    ]
    if first.smoke:
        blocks.append(Paragraph(f"{told}A smoke run: tiny problems, one round each. Its times mean nothing.", "notice"))
    blocks += [Paragraph(text, "notice") for text in _failures(measurements)]
    return blocks


def _by_the_suite(first: Measurement) -> str:
    return (
        f"Everybody was held to {_counted(first.threads, 'CPU thread')} and to the reference's numbers before being "
        "timed; contenders took turns, so that a slow minute of the machine hit all of them. Medians, with minimum and "
        "quartiles."
    )


def _versions(machine: Mapping[str, str]) -> str:
    libraries = ("numpy", "numba", "torch", "jax", "keras", "scikit-learn", "kornia", "onnxruntime")
    return ", ".join(f"{name} {machine[name]}" for name in ("python", *libraries) if name in machine)


def _failures(measurements: Sequence[Measurement]) -> list[str]:
    failed = [measurement for measurement in measurements if measurement.status == "failed"]
    return [f"{one.contender} failed on {one.title} and was not timed: {one.reason}" for one in failed]


def _highlights(measurements: Sequence[Measurement]) -> list[Highlights]:
    """Our best step, and the times of the floor and of others relative to it."""
    step = next((one for one in comparisons(measurements) if one.measurements[0].suite == "step"), None)
    if step is None or step.best_of_ours is None:
        return []
    ours = step.best_of_ours
    items = [(duration(ours.median), f"a step by {ours.contender}", "augmented")]
    if step.floor:
        items.append((f"{digits(ours.median / step.floor.median)}×", "the floor, two products alone", "original"))
    peers = [racer for racer in step.racers if racer.kind == "peer"]
    extremes = [*peers[:1], *peers[1:][-1:]]
    items += [(f"{digits(peer.median / ours.median)}×", f"our time for {peer.contender}", "plain") for peer in extremes]
    return [Highlights(items)]


# A suite.


def _suite(measurements: Sequence[Measurement], suite: str, out: Path) -> list[Block]:
    raced = [one for one in _fixed(measurements, suite) if one.racers]
    pictures = [_bars(raced, suite, out)] if raced else []
    growth = [_growth(axis, suite, out) for axis in _grown(measurements, suite)]
    return [*pictures, *growth, *_tables(measurements, suite)]


def _tables(measurements: Sequence[Measurement], suite: str) -> list[Block]:
    tables = [block for one in _fixed(measurements, suite) for block in _table(one)]
    tables += [_growth_table(axis) for axis in _grown(measurements, suite)]
    return [*tables, *_absent([measurement for measurement in measurements if measurement.suite == suite])]


def _fixed(measurements: Sequence[Measurement], suite: str) -> list[Comparison]:
    return comparisons([one for one in measurements if one.suite == suite and one.axis is None])


def _grown(measurements: Sequence[Measurement], suite: str) -> list[list[Comparison]]:
    return [axis for axis in growths([one for one in measurements if one.suite == suite]) if any(a.timed for a in axis)]


def _bars(compared: Sequence[Comparison], suite: str, out: Path) -> Picture:
    caption = "Bars end at the median; the line on them runs from quartile to quartile, the notch marks the minimum."
    if any(one.floor for one in compared):
        caption += " The dashed line is the floor: work that nobody can do without."
    described = "; ".join(f"{one.title}: {', '.join(racer.contender for racer in one.racers)}" for one in compared)
    return _picture(charts.draw_bars(compared), suite, out, f"{_title(suite)}.", caption, described)


def _table(compared: Comparison) -> list[Block]:
    """What was done, then each contender's time."""
    size, symbol = scale([measurement.median for measurement in compared.timed])
    references = (("× floor", compared.floor), ("× best of ours", compared.best_of_ours))
    beside = {column: reference for column, reference in references if reference}
    header = (f"{symbol} per {compared.unit}", "median", "min", "q1 to q3", *beside)
    rows = [_row(measurement, list(beside.values()), size) for measurement in compared.measurements]
    kinds = ["augmented" if measurement is compared.best_of_ours else "same" for measurement in compared.measurements]
    return [Paragraph(compared.title), Table(header, rows, "numbers", kinds)]


def _row(measurement: Measurement, beside: Sequence[Measurement], size: float) -> tuple[str, ...]:
    if measurement.status != "measured":
        return (measurement.contender, measurement.status, *[NONE] * (2 + len(beside)))
    seconds = {name: digits(value / size) for name, value in measurement.seconds.items()}
    spread = f"{seconds['q1']} to {seconds['q3']}"
    ratios = [digits(measurement.median / other.median) for other in beside]
    name = f"{measurement.contender} (floor)" if measurement.kind == "floor" else measurement.contender
    return (name, seconds["median"], seconds["min"], spread, *ratios)


def _absent(measurements: Sequence[Measurement]) -> list[Paragraph]:
    """The contenders that could not run, each named once, with the reason."""
    reasons = {one.contender: one.reason for one in measurements if one.status == "absent"}
    return [Paragraph(f"Absent: {name}. {reason[:1].upper()}{reason[1:]}") for name, reason in reasons.items()]


# Growth.


def _growth(axis: Sequence[Comparison], suite: str, out: Path) -> Picture:
    what = str(axis[0].measurements[0].axis)
    name = f"{suite}-{what.replace(' ', '-')}"
    caption = (
        "Medians with their quartiles, both scales logarithmic; dashed orange: the floor. Memory is what is held more "
        "than before; rows in shards count, others are there already."
    )
    values = ", ".join(f"{one.measurements[0].value:,}" for one in axis)
    title = f"Cost against {what}."
    return _picture(
        charts.draw_growth(axis), name, out, title, caption, f"Cost of a {axis[0].unit} at {values} {what}."
    )


def _growth_table(axis: Sequence[Comparison]) -> Table:
    """One row per value, one column per contender: the median, and peak memory if measured."""
    size, symbol = scale([measurement.median for one in axis for measurement in one.timed])
    names = list(dict.fromkeys(measurement.contender for one in axis for measurement in one.timed))
    rows = [(f"{one.measurements[0].value:,}", *_cells(one, names, size)) for one in axis]
    header = (f"{axis[0].measurements[0].axis}; {symbol} per {axis[0].unit}", *names)
    return Table(header, rows, "numbers", ["same"] * len(rows))


def _cells(compared: Comparison, names: Sequence[str], size: float) -> list[str]:
    found = {measurement.contender: measurement for measurement in compared.timed}
    return [_cell(found[name], size) if name in found else NONE for name in names]


def _cell(measurement: Measurement, size: float) -> str:
    memory = f", {digits(measurement.peak / 2**20)} MiB" if measurement.peak is not None else ""
    return f"{digits(measurement.median / size)}{memory}"


# Small parts.


def _picture(figure: Figure, name: str, out: Path, title: str, caption: str, description: str) -> Picture:
    """Save the figure as OUT/charts/NAME.png, and keep it for the page."""
    file = f"charts/{name}.png"
    save(figure, out / file)
    return Picture(file, svg(figure, name), title, caption, description)


def _facts(first: Measurement) -> Table:
    facts = {"run": f"{first.run} UTC", "commit": first.commit, "threads": str(first.threads), **first.machine}
    return Table(
        ("name", "value"), [(name, str(value)) for name, value in facts.items()], "facts", ["same"] * len(facts)
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
