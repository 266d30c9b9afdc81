"""The output of benchmarks: results that only grow, a report on what was measured, README's table."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastmlp.bench import charts, readme, report, results
from fastmlp.bench.compare import comparisons
from fastmlp.bench.results import Measurement
from fastmlp.common.errors import DataError
from tests.drawn import cut_texts

ROOT = Path(__file__).parents[2]
MACHINE = {"fastmlp": "1.2.3", "python": "3.11.0", "numpy": "2.4.0", "cpu": "Some CPU AVX2", "cores": 2}
HEAD = "512-64-10, batch 64, 50,000 rows, float32"


def measured(contender, microseconds, kind="peer", **changes):
    """A measurement with that median and a spread of a tenth to either side."""
    shares = {"min": 0.8, "q1": 0.9, "median": 1.0, "q3": 1.1, "max": 1.3}
    seconds = {name: 1e-6 * microseconds * share for name, share in shares.items()}
    common = {
        "run": "2026-01-02 03:04:05", "commit": "0123456789ab", "machine": MACHINE, "threads": 2, "smoke": False,
        "suite": "step", "title": HEAD, "unit": "step", "contender": contender, "kind": kind, "seconds": seconds,
        "rounds": 9,
    }  # fmt: skip
    return Measurement(**common | changes)


def untimed(contender, status, reason):
    return measured(contender, 1, status=status, reason=reason, seconds={}, rounds=0)


def grown(axis, unit, costs):
    """Costs {value: (ours, the floor's)} along an axis."""
    for value, (ours, floor) in costs.items():
        where = {"suite": "growth", "axis": axis, "value": value, "unit": unit}
        yield measured("fastmlp numba", ours, "ours", peak=value * 2**20, **where)
        yield measured("two products alone, 1 thread", floor, "floor", **where)


STEPS = [
    measured("two products alone, all threads", 60, "floor"),
    measured("two products alone, 1 thread", 50, "floor"),
    measured("fastmlp numba, tier 3", 75, "ours"),
    measured("fastmlp numpy, tier 1", 150, "ours"),
    measured("PyTorch, eager", 300),
    untimed("JAX, jit + scan", "absent", "jax not installed: pip install 'fastmlp[bench]'."),
    untimed("Keras, fit", "failed", "AssertionError: error 0.5 is over the tolerance 0.0001"),
]
RUN = [*STEPS, *grown("batch size", "row", {16: (3.0, 1.5), 64: (1.2, 0.8), 256: (1.0, 0.7)})]


# Results.


def test_results_only_grow(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    results.append(path, STEPS)
    before = path.read_bytes()
    results.append(path, [measured("another", 1, run="2026-01-03 00:00:00")])
    assert path.read_bytes().startswith(before)
    assert results.read(path)[: len(STEPS)] == STEPS
    assert [one.contender for one in results.latest(results.read(path))] == ["another"]


def test_a_damaged_line_is_reported_with_its_fix(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"run": "2026"\n')
    with pytest.raises(DataError, match=r"damaged .* delete the line"):
        results.read(path)


def test_a_sample_is_described_by_five_numbers():
    assert results.summary([4.0, 1.0, 2.0, 3.0, 5.0]) == {"min": 1, "q1": 2, "median": 3, "q3": 4, "max": 5}
    assert set(results.summary([7.0]).values()) == {7.0}


# The report.


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    report.write(RUN, folder)
    return folder


def test_the_report_needs_nothing_from_elsewhere(written):
    page = (written / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert page.count("<svg") == 2


def test_the_report_names_who_was_not_timed(written):
    page, text = (written / "report.html").read_text(), (written / "report.md").read_text()
    assert "Absent: JAX, jit + scan. Jax not installed: pip install" in page
    assert "Keras, fit failed on 512-64-10" in page
    assert "error 0.5 is over the tolerance 0.0001" in page
    assert "| JAX, jit + scan | absent |" in text
    assert "| Keras, fit | failed |" in text


def test_everybody_is_compared_with_the_lower_floor_and_our_best(written):
    text = (written / "report.md").read_text()
    assert "| two products alone, 1 thread (floor) | 50.0 | 40.0 | 45.0 to 55.0 | 1.00 | 0.67 |" in text
    assert "| fastmlp numba, tier 3 | 75.0 | 60.0 | 67.5 to 82.5 | 1.50 | 1.00 |" in text
    assert "| PyTorch, eager | 300 | 240 | 270 to 330 | 6.00 | 4.00 |" in text


def test_the_report_says_where_its_numbers_come_from(written):
    text = (written / "report.md").read_text()
    for fact in ("2 threads of Some CPU AVX2", "2026-01-02 03:04:05", "0123456789ab", "numpy 2.4.0", "fastmlp 1.2.3"):
        assert fact in text


def test_growth_has_time_and_memory(written):
    text = (written / "report.md").read_text()
    assert "| batch size; ns per row | two products alone, 1 thread | fastmlp numba |" in text
    assert "| 64 | 800 | 1,200, 64.0 MiB |" in text


@pytest.mark.parametrize("name", ["step", "growth-batch-size"])
def test_charts_show_something(written, name):
    with Image.open(written / "charts" / f"{name}.png") as chart:
        pixels = np.asarray(chart.convert("RGB"), dtype=int)
    assert pixels.shape[1] > 1000
    for what, colour in {"floor": (184, 74, 0), "fastmlp": (10, 94, 168)}.items():
        assert (abs(pixels - colour).max(axis=2) < 30).sum() > 100, f"nothing of {what}"


@pytest.mark.parametrize("floor", [10, 290])
def test_no_label_of_a_chart_is_cut(floor):
    """Not the longest contender's, nor that of a floor at either end."""
    race = [
        measured("two products of each head, 1 thread a head", floor, "floor"),
        measured("fastmlp numba, one after another", 75, "ours"),
        measured("PyTorch, CUDA graph of an epoch", 300),
    ]
    assert not cut_texts(charts.draw_bars(comparisons(race)))
    names = ("fastmlp numba, one after another", "PyTorch, torch.compile")
    grown = [measured(name, 50, "ours", axis="rows", value=value) for name in names for value in (10, 100)]
    assert not cut_texts(charts.draw_growth(comparisons(grown)))


def test_a_smoke_run_says_that_its_times_mean_nothing(tmp_path):
    report.write([measured("fastmlp numba", 75, "ours", smoke=True)], tmp_path)
    assert "Its times mean nothing" in (tmp_path / "report.html").read_text()


def test_a_run_in_which_nothing_could_be_timed_has_a_report(tmp_path):
    report.write([one for one in STEPS if one.status != "measured"], tmp_path)
    assert "Absent: JAX" in (tmp_path / "report.html").read_text()


# README.


def test_readme_has_the_tables_of_the_committed_results():
    text = (ROOT / "README.md").read_text()
    assert text == readme.refreshed(text, ROOT / "bench" / "results")


def test_the_table_is_of_the_newest_full_run(tmp_path):
    later = {"run": "2026-01-03 00:00:00"}
    path = tmp_path / "machine.jsonl"
    results.append(path, RUN)
    results.append(path, [measured("fastmlp numba, tier 3", 80, "ours", **later)])
    results.append(path, [measured("fastmlp numba, tier 3", 9, "ours", run="2026-01-04 00:00:00", smoke=True)])
    table = readme.text(readme.newest_runs(tmp_path))
    assert "2026-01-03" in table
    assert "| **fastmlp numba, tier 3** | 80.0 | 64.0 |  | 1.00 |" in table


def test_the_table_names_the_floor_and_who_is_missing():
    table = readme.text([STEPS])
    assert "| *two products alone, 1 thread: the floor* | 50.0 | 40.0 | 1.00 | 0.67 |" in table
    assert "Not measured: JAX, jit + scan (absent), Keras, fit (failed)." in table


def test_problems_with_the_same_contenders_are_lines_of_one_table():
    common = {"suite": "sklearn", "unit": "fit"}
    theirs, processes = "scikit-learn", "scikit-learn, n_jobs"
    run = [
        *(measured(theirs if who == "peer" else "fastmlp numba", time, who, title=title, **common)
          for title, times in (("a", (400, 100)), ("b", (9_000, 3_000)))
          for who, time in zip(("peer", "ours"), times, strict=True)),
        measured(theirs, 6_000_000, title="c", **common),
        replace(untimed(processes, "absent", "slow"), title="c", suite="sklearn"),
    ]  # fmt: skip
    first, second = readme.sklearn_text([run]).split("\n\n", 1)[1].split("\n\n", 1)
    assert first.splitlines() == [
        "|  | scikit-learn | **fastmlp numba** |",
        "|---|---:|---:|",
        "| a, per fit | 400 µs | 100 µs, 4.00x |",
        "| b, per fit | 9.00 ms | 3.00 ms, 3.00x |",
    ]
    assert second.splitlines()[2:] == ["| c, per fit | 6.00 s | - |", "", f"Not measured: {processes} (absent)."]


def test_a_readme_without_a_place_for_the_table_is_refused():
    with pytest.raises(DataError, match="put <!-- bench"):
        readme.updated("# fastmlp\n", "table")
