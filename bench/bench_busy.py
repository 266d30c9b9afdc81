"""The paper's step beside other busy processes: none, and up to four for each of two cores.

Whoever splits a step between threads waits, in every step, for a thread that has lost its core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fastmlp.network.tiers import Tier

from . import ours
from .busy import busy_processes
from .contenders import Bound, Contender
from .peers import jax, torch
from .training import SMOKE_ROWS, Training, draw

BUSY = (0, 1, 2, 4, 8)


def one_thread(problem: Training) -> Bound:
    return ours.train_with("numba", replace(problem, threads=1), None)


CONTENDERS = (
    Contender("fastmlp numba, all threads", "ours", lambda problem: ours.train_with("numba", problem, None)),
    Contender("fastmlp numba, 1 thread", "ours", one_thread),
    Contender("fastmlp numba, tier 2", "ours", lambda problem: ours.train_with("numba", problem, Tier.FUSED_OPS)),
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
    Contender("PyTorch, eager", "peer", torch.train_eager, needs=("torch",)),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    counts = BUSY[:2] if metafunc.config.getoption("--smoke") else BUSY
    metafunc.parametrize("problem", counts, ids="beside {}".format, indirect=True, scope="module")


@pytest.fixture(scope="module")
def problem(request: pytest.FixtureRequest, threads: int, smoke: bool) -> Iterator[Training]:
    drawn = draw("busy", threads, rows=SMOKE_ROWS["cpu"] if smoke else 50_000, rounds=3)
    beside = "1 busy process" if request.param == 1 else f"{request.param or 'no'} busy processes"
    with busy_processes(request.param):
        yield replace(drawn, title=f"{drawn.title}, beside {beside}")


@pytest.mark.contenders(*CONTENDERS)
def bench_busy(measure: Callable[[Training], None], problem: Training) -> None:
    measure(problem)
