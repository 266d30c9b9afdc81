"""A step of other heads: linear probes, two hidden layers, and the paper's head, in batches of 64 to 4,096 rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastmlp.network.tiers import Tier

from . import ours
from .contenders import Contender
from .peers import jax, torch
from .training import Training, draw

HEADS = ((768, 1000), (512, 10), (512, 128, 64, 10), (512, 64, 10))
BATCHES = (64, 256, 1024, 4096)
ROWS = 20_000

CONTENDERS = (
    Contender("its products alone, all threads", "floor", ours.all_products),
    Contender("fastmlp numba", "ours", lambda problem: ours.train_with("numba", problem, None)),
    Contender("fastmlp numba, tier 2", "ours", lambda problem: ours.train_with("numba", problem, Tier.FUSED_OPS)),
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
    Contender("PyTorch, eager", "peer", torch.train_eager, needs=("torch",)),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A point is (sizes, batch)."""
    batches = BATCHES[:1] if metafunc.config.getoption("--smoke") else BATCHES
    points = [(sizes, batch) for sizes in HEADS for batch in batches]
    metafunc.parametrize("problem", points, ids=str, indirect=True, scope="module")


@pytest.fixture(scope="module")
def problem(request: pytest.FixtureRequest, threads: int, smoke: bool) -> Training:
    sizes, batch = request.param
    return draw("heads", threads, rows=1_000 if smoke else ROWS, sizes=sizes, batch_size=batch, rounds=2)


@pytest.mark.contenders(*CONTENDERS)
def bench_heads(measure: Callable[[Training], None], problem: Training) -> None:
    measure(problem)
