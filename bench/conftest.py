"""Options and fixtures of the suite: turns, threads, and where results go."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .threads import variables  # but nothing that imports a library: their threads are not yet pinned

DEVICES = ("cpu", "cuda", "emulated")  # emulated: the GPU's contenders, tried without a GPU

TURNS = 3
SETTLING = 0.3  # seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    from fastmlp.common.environment import available_cores

    group = parser.getgroup("fastmlp")
    group.addoption("--threads", type=int, default=available_cores(), help="CPU threads per contender (all cores)")
    group.addoption("--turns", type=int, default=TURNS, help=f"turns per contender ({TURNS})")
    group.addoption("--device", choices=DEVICES, default="cpu", help="where all contenders run (cpu)")
    group.addoption("--smoke", action="store_true", help="tiny problems, to see that everything runs")
    group.addoption("--quick", action="store_true", help="leave out contenders whose set-up takes long")
    group.addoption("--results", type=Path, help="append the measurements to this file, one JSON line each")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(variables(config.getoption("--threads"), config.getoption("--device")))


def contenders_of(benchmark: pytest.Item, device: str) -> tuple[Any, ...]:
    """The contenders measured there, from the benchmark's marks."""
    kind = "cpu" if device == "cpu" else "gpu"
    marks = benchmark.iter_markers("contenders")
    return tuple(one for mark in marks if mark.kwargs.get("device", "cpu") == kind for one in mark.args)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Turns outside, contenders inside: all contenders get a turn before any gets its next."""
    contenders = contenders_of(metafunc.definition, metafunc.config.getoption("--device"))
    if not contenders:
        return
    metafunc.parametrize("turn", range(1, metafunc.config.getoption("--turns") + 1), ids="turn {}".format)
    metafunc.parametrize("contender", contenders, ids=lambda contender: contender.name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect benchmarks without contenders on this device."""
    device = config.getoption("--device")
    others = [item for item in items if not contenders_of(item, device)]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    from .measure import Session
    from .results import append

    config = request.config
    session = Session(*(config.getoption(option) for option in ("--threads", "--smoke", "--device", "--quick")))
    yield session
    if results := config.getoption("--results"):
        append(results, session.measurements())


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    """The number of CPU threads for every contender."""
    return int(request.config.getoption("--threads"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where all contenders run: cpu, cuda, or emulated."""
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def smoke(request: pytest.FixtureRequest) -> bool:
    """Whether problems should be tiny."""
    return bool(request.config.getoption("--smoke"))


def settle(run: Callable[[], None]) -> None:
    """Run untimed for a while: threads of the contender before may spin on, which ours watch and remember."""
    end = time.monotonic() + SETTLING
    while time.monotonic() < end:
        run()


@pytest.fixture
def measure(benchmark: Any, session: Any, contender: Any, turn: int, smoke: bool) -> Callable[..., None]:
    """measure(problem, peak=bytes): check the contender, then time one turn of it on that problem."""
    from .contenders import AbsentError

    def measured(problem: Any, peak: int | None = None) -> None:
        try:
            bound = session.bound(contender, problem)
        except AbsentError as absence:
            pytest.skip(f"{contender.name}: {absence}")
        benchmark.group = f"{problem.suite}: {problem.title}"
        benchmark.extra_info.update(contender=contender.name, threads=problem.threads, **bound.facts)
        if not smoke:
            settle(bound.run)
        if problem.rounds:
            benchmark.pedantic(bound.run, rounds=1 if smoke else problem.rounds)
        else:
            benchmark(bound.run)
        if benchmark.stats is not None:  # None with --benchmark-disable
            session.add(contender, problem, benchmark.stats.stats.data, peak)

    return measured
