"""A step of other heads: linear probes, deeper ones, and the paper's on weighted rows, in small and large batches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from fastmlp.backends.cupy import FUSED_STEPS, OP_BY_OP
from fastmlp.network.tiers import Tier

from . import ours
from .contenders import Contender
from .peers import jax, torch
from .training import PAPER, SMOKE_ROWS, Training, draw

HEADS = {"768-1000": (768, 1000), "512-10": (512, 10), "512-128-64-10": (512, 128, 64, 10), "512-64-10": PAPER}
WEIGHTED = "weighted 512-64-10"
BATCHES = (64, 256, 1024, 4096)
ROWS = 20_000

CONTENDERS = (
    Contender("its products alone, all threads", "floor", ours.all_products),
    Contender("fastmlp numba", "ours", lambda problem: ours.train_with("numba", problem, None)),
    Contender("fastmlp numba, tier 2", "ours", lambda problem: ours.train_with("numba", problem, Tier.FUSED_OPS)),
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
    Contender("PyTorch, eager", "peer", torch.train_eager, needs=("torch",)),
)
GPU_CONTENDERS = (
    Contender("fastmlp cupy", "ours", lambda problem: ours.train_with("cupy", problem, None)),
    *(Contender(f"fastmlp cupy, {way}", "ours", partial(ours.train_in_steps, way)) for way in (FUSED_STEPS, OP_BY_OP)),
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A point is (head, batch)."""
    batches = BATCHES[:1] if metafunc.config.getoption("--smoke") else BATCHES
    points = [(head, batch) for head in (*HEADS, WEIGHTED) for batch in batches]
    metafunc.parametrize("problem", points, ids="{0[0]} {0[1]}".format, indirect=True, scope="module")


@pytest.fixture(scope="module")
def problem(request: pytest.FixtureRequest, threads: int, smoke: bool, device: str) -> Training:
    head, batch = request.param
    if device == "emulated" and head == next(iter(HEADS)):
        pytest.skip("emulated, its products take minutes")
    return draw(
        "heads",
        threads,
        rows=SMOKE_ROWS[device] if smoke else ROWS,
        sizes=HEADS.get(head, PAPER),
        batch_size=batch,
        weighted=head == WEIGHTED,
        rounds=2,
        device=device,
    )


@pytest.mark.contenders(*CONTENDERS)
@pytest.mark.contenders(*GPU_CONTENDERS, device="gpu")
def bench_heads(measure: Callable[[Training], None], problem: Training) -> None:
    measure(problem)
