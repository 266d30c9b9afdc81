"""One epoch of the paper's network, 512-64-10 in batches of 64, timed per step: the floor, ourselves, all peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from . import ours
from .contenders import Contender
from .peers import jax, keras, numpy, sklearn, torch
from .training import SMOKE_ROWS, Training, draw

PEERS = (
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
    Contender("NumPy, textbook loop", "peer", numpy.train),
    Contender("PyTorch, eager", "peer", torch.train_eager, needs=("torch",)),
    Contender("PyTorch, torch.compile", "peer", torch.train_compiled, needs=("torch",), slow=True),
    Contender("PyTorch, DataLoader", "peer", torch.train_from_loader, needs=("torch",)),
    Contender("scikit-learn, fit", "peer", sklearn.train),
    Contender("Keras, fit", "peer", keras.train, needs=("keras",)),
)
GPU_PEERS = (
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
    Contender("PyTorch, eager", "peer", torch.train_eager, needs=("torch",)),
    *(
        Contender(
            f"PyTorch, torch.compile, {mode}", "peer", partial(torch.train_compiled, mode=mode), ("torch",), slow=True
        )
        for mode in ("reduce-overhead", "max-autotune")
    ),
    Contender("PyTorch, CUDA graph of a step", "peer", torch.train_captured_steps, needs=("torch",)),
    Contender("PyTorch, CUDA graph of an epoch", "peer", torch.train_captured_epoch, needs=("torch",)),
)


@pytest.fixture(scope="module")
def problem(threads: int, smoke: bool, device: str) -> Training:
    return draw("step", threads, rows=SMOKE_ROWS[device] if smoke else 50_000, device=device)


@pytest.mark.contenders(*ours.FLOORS, *ours.training(), *PEERS)
@pytest.mark.contenders(*ours.training_on_gpu(), *GPU_PEERS, device="gpu")
def bench_step(measure: Callable[[Training], None], problem: Training) -> None:
    measure(problem)
