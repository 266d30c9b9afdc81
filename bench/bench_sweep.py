"""Many heads on the same features, 8 learning rates and 4 seeds, for one epoch: the time per step and head.

On a GPU also 12 learning rates from 11 seeds: 132, a head for every multiprocessor of an H100; and 32 heads too large
for one, or too deep: linear probes of 1,000 classes, and two hidden layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from fastmlp.backends.base import Backend
from fastmlp.backends.cupy import CudaBackend
from fastmlp.backends.numpy import blas
from fastmlp.kernels.cuda.layout import LAYOUTS, Layout
from fastmlp.kernels.cuda.one_block import ONE_BLOCK
from fastmlp.network.parameters import initial_parameters

from . import ours
from .contenders import Bound, Contender
from .heads import GRIDS, LEARNING_RATES, Heads, draw_heads
from .peers import jax_heads, torch, torch_heads
from .training import SMOKE_ROWS, Training


def in_layout(layout: Layout, backend: CudaBackend, problem: Heads) -> Bound:
    return ours.train_together(backend.by_layout(layout), problem)


def alone(backend: Backend, problem: Heads) -> Bound:
    return one_after_another(problem, partial(ours.train, backend, tier=None))


def one_after_another(problem: Heads, bind: Callable[[Training], Bound]) -> Bound:
    """Each head's epoch on its own, by any contender that trains one."""
    each = [bind(head) for head in problem.heads]

    def run() -> None:
        for bound in each:
            bound.run()

    return Bound(run, lambda: [bound.result() for bound in each if bound.result], each[0].facts)


# The floors.


def products_of_heads(problem: Heads) -> Bound:
    """The two large products of each head separately; each thread does those of whole heads, one after the other."""
    each = [ours.products(head, threads=1) for head in problem.heads]

    def run() -> None:
        with blas().limit(limits=1), ThreadPoolExecutor(problem.threads) as pool:
            list(pool.map(lambda bound: bound.run(), each))

    return Bound(run, check=partial(_check_all, each))


def wide_products(problem: Heads) -> Bound:
    """The same for all heads of a seed at once, which share their batches: as wide as their hidden layers together."""
    sizes = problem.heads[0].parameters.sizes
    wide = initial_parameters((sizes[0], len(problem.learning_rates) * sizes[1], sizes[2]))
    each = [ours.products(replace(head, parameters=wide), threads=None) for head in problem.of_seeds]

    def run() -> None:
        for bound in each:
            bound.run()

    return Bound(run, check=partial(_check_all, each))


def _check_all(each: Sequence[Bound], what: str) -> None:
    for bound in each:
        if bound.check:
            bound.check(what)


CONTENDERS = (
    Contender("two products of each head, 1 thread a head", "floor", products_of_heads),
    Contender("two wide products a seed, all threads", "floor", wide_products),
    *ours.contenders(ours.train_together),
    *(
        replace(contender, name=f"{contender.name}, one after another")
        for contender in ours.contenders(alone)
        if contender.name == "fastmlp numba"
    ),
    Contender("JAX, vmap + scan", "peer", jax_heads.train, needs=("jax",)),
    Contender("PyTorch, bmm", "peer", torch_heads.train_bmm, needs=("torch",)),
    Contender("PyTorch, torch.func.vmap", "peer", torch_heads.train_vmap, needs=("torch",)),
    Contender(
        "PyTorch, one after another", "peer", partial(one_after_another, bind=torch.train_eager), needs=("torch",)
    ),
)
ON_GPU = (
    *ours.contenders(ours.train_together, ("cupy",)),
    *(
        replace(contender, name=f"{contender.name}, {layout}")
        for layout in (ONE_BLOCK, LAYOUTS[1])
        for contender in ours.contenders(partial(in_layout, layout), ("cupy",))
    ),
    Contender("JAX, vmap + scan", "peer", jax_heads.train, needs=("jax",)),
    Contender("PyTorch, bmm", "peer", torch_heads.train_bmm, needs=("torch",)),
    Contender("PyTorch, torch.func.vmap", "peer", torch_heads.train_vmap, needs=("torch",)),
)
COUNTS = (32, 132)
# Of heads whose epochs are not fused: they take their steps together.
IN_STEPS = (
    Contender("their products alone, cuBLAS", "floor", torch_heads.products, needs=("torch",)),
    *ours.contenders(ours.train_together, ("cupy",)),
    *(
        replace(contender, name=f"{contender.name}, one after another")
        for contender in ours.contenders(alone, ("cupy",))
    ),
    Contender("JAX, vmap + scan", "peer", jax_heads.train, needs=("jax",)),
    Contender("PyTorch, torch.func.vmap", "peer", torch_heads.train_vmap, needs=("torch",)),
)
LARGE = [((768, 1000), 64), ((768, 1000), 1024), ((512, 128, 64, 10), 64)]  # and their batches
ROWS_OF_LARGE = 20_000
JUDGED_ON_GPU = 4  # heads: the reference trains each of them for seconds


@pytest.fixture(scope="module")
def problem(threads: int, smoke: bool) -> Heads:
    return draw_heads(threads, rows=SMOKE_ROWS["cpu"] if smoke else 50_000)


@pytest.fixture(scope="module", params=COUNTS)
def gpu_problem(request: pytest.FixtureRequest, threads: int, smoke: bool, device: str) -> Heads:
    if smoke and request.param != 32:
        pytest.skip("in a smoke run all grids are the same")
    rates, seeds = (LEARNING_RATES[:2], 2) if smoke else GRIDS[request.param]
    rows = SMOKE_ROWS[device] if smoke else 50_000
    return draw_heads(threads, rows, rates, seeds, device=device, judged=JUDGED_ON_GPU)


@pytest.mark.contenders(*CONTENDERS)
def bench_sweep(measure: Callable[[Heads], None], problem: Heads) -> None:
    measure(problem)


@pytest.mark.contenders(*ON_GPU, device="gpu")
def bench_sweep_on_gpu(measure: Callable[[Heads], None], gpu_problem: Heads) -> None:
    measure(gpu_problem)


@pytest.fixture(scope="module", params=LARGE, ids=str)
def large_problem(request: pytest.FixtureRequest, threads: int, smoke: bool, device: str) -> Heads:
    if device == "emulated":
        pytest.skip("emulated, its products take minutes")
    sizes, batch = request.param
    rates, seeds = (LEARNING_RATES[:2], 2) if smoke else GRIDS[32]
    rows = SMOKE_ROWS[device] if smoke else ROWS_OF_LARGE
    return draw_heads(threads, rows, rates, seeds, device, JUDGED_ON_GPU, sizes, batch)


@pytest.mark.contenders(*IN_STEPS, device="gpu")
def bench_large_heads_on_gpu(measure: Callable[[Heads], None], large_problem: Heads) -> None:
    measure(large_problem)
