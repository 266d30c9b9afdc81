"""How the cost of training grows: with rows, in memory and memory-mapped, batch, width, depth, classes and threads.

Each point starts from the paper's head on 50,000 rows and changes one thing. An epoch visits at most 50,000 rows, drawn
from all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import memory, ours
from .contenders import Contender
from .training import Training, draw

VALUES = {
    "rows": (10_000, 100_000, 1_000_000),
    "memory-mapped rows": (10_000, 100_000, 1_000_000),
    "batch size": (16, 64, 256, 1024, 4096),
    "hidden units": (16, 64, 256, 1024),
    "layers": (1, 2, 3, 4),
    "classes": (2, 10, 100, 1000),
    "threads": (1, 2, 4, 8, 16, 32),
}
SMALL = {"rows": (500, 1_000), "memory-mapped rows": (500, 1_000)}  # for smoke runs; other axes take their first two
VISITED = 50_000


def point(axis: str, value: int, threads: int, smoke: bool, folder: Path) -> Training:
    """The problem at one point of an axis."""
    sizes = _sizes(axis, value)
    rows = value if axis.endswith("rows") else SMALL["rows"][1] if smoke else VISITED
    return draw(
        "growth",
        value if axis == "threads" else threads,
        rows=rows,
        visited=VISITED,
        sizes=sizes,
        batch_size=value if axis == "batch size" else 64,
        stored_in=folder,
        mapped=axis == "memory-mapped rows",
        unit="row" if axis == "batch size" else "step",
        axis=axis,
        value=value,
        rounds=2,
    )


def _sizes(axis: str, value: int) -> tuple[int, ...]:
    if axis == "hidden units":
        return (512, value, 10)
    if axis == "layers":
        return (512, *[64] * (value - 1), 10)
    return (512, 64, value) if axis == "classes" else (512, 64, 10)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A point is (axis, value)."""
    smoke, most = metafunc.config.getoption("--smoke"), metafunc.config.getoption("--threads")
    values = {axis: SMALL.get(axis, values[:2]) if smoke else values for axis, values in VALUES.items()}
    values["threads"] = tuple(value for value in VALUES["threads"] if value <= most)
    points = [(axis, value) for axis in values for value in values[axis]]
    metafunc.parametrize("problem", points, ids="{0[0]} {0[1]}".format, indirect=True, scope="module")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for features read from disk, deleted after the benchmark, because they are gigabytes."""
    with tempfile.TemporaryDirectory(prefix="fastmlp-bench-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def problem(request: pytest.FixtureRequest, threads: int, smoke: bool, folder: Path) -> Training:
    axis, value = request.param
    return point(axis, value, threads, smoke, folder)


@pytest.fixture(scope="module")
def peaks(threads: int, smoke: bool, folder: Path) -> Iterator[memory.Peaks]:
    peaks = memory.Peaks(point, threads, smoke, folder)
    yield peaks
    peaks.close()


@pytest.mark.contenders(*ours.FLOORS, *ours.growing())
def bench_growth(measure: Callable[..., None], problem: Training, peaks: Any, contender: Contender) -> None:
    measure(problem, peak=peaks.of(contender, problem) if contender.kind == "ours" else None)
