"""README's speed table, made from the committed results: python -m fastmlp.bench.readme

It is in README.md between two markers, and a test holds it to the newest full runs in bench/results/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fastmlp.common.errors import DataError
from fastmlp.common.files import write_text

from . import results
from .compare import Comparison, comparisons, digits
from .results import Measurement

FOLDER = Path(__file__).resolve().parent / "results"  # past the link from fastmlp/
README = FOLDER.parents[1] / "README.md"
START, END = "<!-- bench: made by python -m fastmlp.bench.readme -->", "<!-- end of bench -->"


def main() -> None:
    write_text(README, updated(README.read_text(), text(newest_runs(FOLDER))))


def updated(readme: str, table: str) -> str:
    """The readme with that table between its markers. Raises DataError if it has none."""
    pattern = re.compile(f"{re.escape(START)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(readme):
        raise DataError(f"README.md has no place for the table: put {START} and {END} in it, each on its own line.")
    return pattern.sub(lambda _: f"{START}\n{table}\n{END}", readme)


def newest_runs(folder: Path) -> list[list[Measurement]]:
    """The last full run of training steps in each file; there is one file per machine."""
    runs = []
    for path in sorted(folder.glob("*.jsonl")):
        steps = [one for one in results.read(path) if one.suite == "step" and not one.smoke]
        if steps:
            runs.append(results.latest(steps))
    return runs


def text(runs: Sequence[Sequence[Measurement]]) -> str:
    """One table per machine."""
    if not runs:
        return "No full run is recorded yet: `fastmlp bench` measures on your machine."
    return "\n\n".join(_table(run) for run in runs)


def _table(run: Sequence[Measurement]) -> str:
    first = run[0]
    (compared,) = comparisons(run)
    where = first.machine["gpu"] if first.device == "cuda" else f"{first.threads} threads of {first.machine['cpu']}"
    lines = [
        f"{compared.title}; {where}, {first.run[:10]}, commit {first.commit}:",
        "",
        "| microseconds per step | median | minimum | times the floor | times fastmlp's best |",
        "|---|---:|---:|---:|---:|",
        *(_row(measurement, compared) for measurement in compared.timed),
    ]
    absent = [f"{one.contender} ({one.status})" for one in compared.measurements if one.status != "measured"]
    return "\n".join([*lines, *(["", f"Not measured: {', '.join(absent)}."] if absent else [])])


def _row(measurement: Measurement, compared: Comparison) -> str:
    name = f"*{measurement.contender}: the floor*" if measurement is compared.floor else measurement.contender
    name = f"**{name}**" if measurement.kind == "ours" else name
    times = [digits(1e6 * measurement.seconds[which]) for which in ("median", "min")]
    ratios = [digits(measurement.median / one.median) if one else "" for one in (compared.floor, compared.best_of_ours)]
    return f"| {' | '.join([name, *times, *ratios])} |"


if __name__ == "__main__":
    main()
