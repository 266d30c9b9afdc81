"""Several runs side by side: as a table, as a chart, and as a report of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.common.files import write_text
from fastmlp.common.progress import printable
from fastmlp.common.statistics import NORMAL
from fastmlp.report.blocks import facts, picture, total
from fastmlp.report.document import Document, Paragraph, Section, Table, to_html, to_markdown
from fastmlp.report.figures import duration
from fastmlp.report.style import PALETTE, WIDTH, clean, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Results = Mapping[str, Any]
Row = Mapping[str, Any]

LONGEST = 34  # characters of a run's name in the chart: its end, which tells runs apart
HEADER = ("run", "network", "recipe", "rows", "train accuracy", "test accuracy", "test loss", "calibration", "time")
OF_TRAINING = ("network", "recipe", "rows", "time")
LEAST_P = 0.0001  # that is told
BEHIND = "behind the best"
INTERVALS = (
    "Accuracies with their standard errors, over the test rows. The chart shows 95% intervals: how far another test "
    "set of as many rows would move an accuracy by chance."
)
PAIRED = (
    "Behind the best: the mean difference of hits row by row, its standard error, and the p-value of McNemar's exact "
    "test, which asks whether two models differ at all."
)


def write(results: Results, out: Path) -> None:
    """OUT/figures/comparison.png, OUT/report.html and OUT/report.md."""
    document = _document(results, out)
    write_text(out / "report.md", to_markdown(document))
    write_text(out / "report.html", to_html(document))


def table_text(results: Results) -> str:
    """One line for each run; then on which rows they were tested."""
    header, rows = _cells(results)
    lines = [header, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    aligned = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join([*aligned, "", printable(results["note"])])


def seconds_of(results: Results) -> float | None:
    """The time of all stages of a run that tells it."""
    return total(results["seconds"]) if results.get("seconds") else None


def _document(results: Results, out: Path) -> Document:
    header, _ = _cells(results)
    fair = results["tested_on"] != "different rows"
    remarks = [Paragraph(INTERVALS), *([Paragraph(PAIRED)] if BEHIND in header else [])]
    chart = picture(
        out, "comparison", draw_comparison(results), "Test accuracy.",
        "Each run's accuracy, and its 95% interval.", "A dot for each run's test accuracy, with its interval.",
    )  # fmt: skip
    return Document(
        title=f"{len(results['runs'])} runs side by side",
        overline=f"fastmlp {results['environment'].get('fastmlp', '')} · comparison",
        opening=[Paragraph(results["note"], "lead" if fair else "notice")],
        sections=[
            Section("Accuracy", [chart]),
            Section("Figures", [_table(results, [name for name in header if name not in OF_TRAINING]), *remarks]),
            Section("Training", [_table(results, ["run", *OF_TRAINING])]),
            Section("Environment", [facts(results["environment"])]),
        ],
    )


# The table.


def _table(results: Results, columns: Sequence[str]) -> Table:
    """Some columns of it, as many as a page has room for."""
    header, rows = _cells(results)
    shown = [tuple(row[header.index(name)] for name in columns) for row in rows]
    return Table(columns, shown, "numbers", ["plain"] * len(rows))


def _cells(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows."""
    paired = any(row.get("behind_best") for row in results["runs"])
    rows = [(*_row(row), *([_behind(row)] if paired else [])) for row in results["runs"]]
    return (*HEADER, *([BEHIND] if paired else [])), rows


def _row(row: Row) -> tuple[str, ...]:
    train, rows, seconds = row["train_accuracy"], row["training_rows"], row["seconds"]
    return (
        clean(row["run"]),
        "-".join(map(str, row["sizes"])),
        _recipe(row["recipe"]) + (", mirrored views" if row.get("views") == "mirror" else ""),
        f"{'' if rows is None else f'{rows:,}'} / {row['test_rows']:,}",
        "" if train is None else f"{train:.2%}",
        f"{row['test_accuracy']:.2%} ± {100 * row['standard_error']:.2f}",
        f"{row['test_loss']:.4f}",
        f"{row['calibration_error']:.2%}",
        "" if seconds is None else duration(seconds),
    )


def _recipe(recipe: Mapping[str, Any]) -> str:
    """fast, 20 epochs of 128, rate 0.01, decay 0.2."""
    name = recipe.get("preset", recipe.get("optimizer", ""))
    parts = [f"{recipe.get('epochs', '?')} epochs of {recipe.get('batch_size', '?')}"]
    if "strength" in recipe:
        return clean(f"{name}, C {recipe['strength']:g}")
    for word, key in (("rate", "learning_rate"), ("decay", "weight_decay")):
        if recipe.get(key):
            parts.append(f"{word} {recipe[key]:g}")
    return clean(", ".join([name, *parts]))


def _behind(row: Row) -> str:
    behind = row["behind_best"]
    if behind is None:
        return "the best"
    p_value = "< 0.0001" if behind["p_value"] < LEAST_P else f"= {behind['p_value']:.2g}"
    return f"{100 * behind['mean']:.2f} ± {100 * behind['standard_error']:.2f} points, p {p_value}"


# The chart.


@styled
def draw_comparison(results: Results) -> Figure:
    """A dot and a 95% interval of the test accuracy for each run, the first on top."""
    runs = results["runs"]
    names = [_end(row["run"]) for row in runs]
    height, left = 0.75 + 0.34 * len(runs), 0.2 + 0.075 * max(map(len, names))  # inches
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((left / WIDTH, 0.42 / height, 0.92 - left / WIDTH, 1 - 0.52 / height))
    axes.set(ylim=(len(runs) - 0.4, -0.6), xlabel="test accuracy")
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    axes.grid(axis="x", color=PALETTE["rule"], linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_yticks(range(len(runs)), names, color=PALETTE["ink"])
    for place, row in enumerate(runs):
        _draw_run(axes, place, row)
    return figure


def _draw_run(axes: Axes, place: int, row: Row) -> None:
    accuracy, margin = row["test_accuracy"], NORMAL * row["standard_error"]
    axes.plot([accuracy - margin, accuracy + margin], [place, place], color=PALETTE["augmented"], linewidth=1.4)
    axes.plot(accuracy, place, "o", color=PALETTE["augmented"], markersize=6)
    axes.text(1.02, place, f"{accuracy:.2%}", va="center", color=PALETTE["ink"], transform=axes.get_yaxis_transform())


def _end(name: str) -> str:
    text = clean(name)
    return text if len(text) <= LONGEST else "…" + text[1 - LONGEST :]
