"""README's speed tables, made from the committed results: python -m fastmlp.bench.readme

Each is in README.md between two markers, and a test holds them to the newest full runs in bench/results/: a training
step by every contender, and scikit-learn's MLPs beside ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from fastmlp.common.errors import DataError
from fastmlp.common.files import write_text

from . import results
from .compare import Comparison, comparisons, digits, duration
from .results import Measurement

FOLDER = Path(__file__).resolve().parent / "results"  # past the link from fastmlp/
README = FOLDER.parents[1] / "README.md"
START, END = "<!-- bench: made by python -m fastmlp.bench.readme -->", "<!-- end of bench -->"
SKLEARN_START, SKLEARN_END = (marker.replace("bench", "bench of scikit-learn", 1) for marker in (START, END))
Run = list[Measurement]  # of one suite on one machine


def main() -> None:
    write_text(README, refreshed(README.read_text(), FOLDER))


def refreshed(readme: str, folder: Path) -> str:
    """The readme with the tables of that folder's results."""
    readme = updated(readme, text(newest_runs(folder)))
    return updated(readme, sklearn_text(newest_runs(folder, "sklearn")), SKLEARN_START, SKLEARN_END)


def updated(page: str, table: str, start: str = START, end: str = END) -> str:
    """The page with that table between its markers. Raises DataError if it has none."""
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise DataError(f"The page has no place for the table: put {start} and {end} in it, each on its own line.")
    return pattern.sub(lambda _: f"{start}\n{table}\n{end}", page)


def newest_runs(folder: Path, suite: str = "step") -> list[Run]:
    """The last full run of that suite in each file; there is one file per machine."""
    runs = []
    for path in sorted(folder.glob("*.jsonl")):
        measured = [one for one in results.read(path) if one.suite == suite and not one.smoke]
        if measured:
            runs.append(results.latest(measured))
    return runs


def text(runs: Sequence[Run]) -> str:
    """One table of steps per machine."""
    return _per_machine(runs, "fastmlp bench", _table)


def sklearn_text(runs: Sequence[Run]) -> str:
    """Tables of fits and of searches per machine, a line for each of them and a column for each contender."""
    return _per_machine(runs, "fastmlp bench --only sklearn", _sklearn_tables)


def _per_machine(runs: Sequence[Run], command: str, table: Callable[[Run], str]) -> str:
    if not runs:
        return f"No full run is recorded yet: `{command}` measures on your machine."
    return "\n\n".join(table(run) for run in runs)


def _table(run: Run) -> str:
    (compared,) = comparisons(run)
    lines = [
        f"{compared.title}; {_where(run)}:",
        "",
        "| microseconds per step | median | minimum | times the floor | times fastmlp's best |",
        "|---|---:|---:|---:|---:|",
        *(_row(measurement, compared) for measurement in compared.timed),
    ]
    return "\n".join([*lines, *_not_measured(compared.measurements)])


def _where(run: Run) -> str:
    first = run[0]
    machine = first.machine["gpu"] if first.device == "cuda" else f"{first.threads} threads of {first.machine['cpu']}"
    return f"{machine}, {first.run[:10]}, commit {first.commit}"


def _not_measured(measurements: Sequence[Measurement]) -> list[str]:
    absent = {f"{one.contender} ({one.status})": None for one in measurements if one.status != "measured"}
    return ["", f"Not measured: {', '.join(absent)}."] if absent else []


def _row(measurement: Measurement, compared: Comparison) -> str:
    name = f"*{measurement.contender}: the floor*" if measurement is compared.floor else measurement.contender
    name = f"**{name}**" if measurement.kind == "ours" else name
    times = [digits(1e6 * measurement.seconds[which]) for which in ("median", "min")]
    ratios = [digits(measurement.median / one.median) if one else "" for one in (compared.floor, compared.best_of_ours)]
    return f"| {' | '.join([name, *times, *ratios])} |"


# scikit-learn's MLPs.


def _sklearn_tables(run: Run) -> str:
    """Problems with the same contenders are one table."""
    problems = {one.title: [two for two in run if two.title == one.title] for one in run}
    tables = [_side_by_side(list(group)) for _, group in groupby(problems.values(), _names)]
    return "\n\n".join([f"{_where(run)}; medians, and how many times as fast as scikit-learn:", *tables])


def _names(measurements: Sequence[Measurement]) -> list[str]:
    return [one.contender for one in measurements]


def _side_by_side(problems: Sequence[Run]) -> str:
    """The first contender is the one that all others are compared with."""
    names = _names(problems[0])
    headings = [f"**{one.contender}**" if one.kind == "ours" else one.contender for one in problems[0]]
    lines = [f"|  | {' | '.join(headings)} |", f"|---|{'---:|' * len(names)}", *map(_line, problems)]
    return "\n".join([*lines, *_not_measured([one for problem in problems for one in problem])])


def _line(problem: Run) -> str:
    first = problem[0]
    cells = [_cell(one, first) if one.status == "measured" else "-" for one in problem]
    return f"| {' | '.join([f'{first.title}, per {first.unit}', *cells])} |"


def _cell(one: Measurement, first: Measurement) -> str:
    if one is first or first.status != "measured":
        return duration(one.median)
    return f"{duration(one.median)}, {digits(first.median / one.median)}x"


if __name__ == "__main__":
    main()
