"""One epoch of the paper's head, 512-64-10 in batches of 64, its time given by step: the floor, we, all peers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import ours
from .contenders import Contender
from .peers import jax, keras, numpy, sklearn, torch
from .training import Training, draw

PEERS = (
    Contender("JAX, jit + scan", "peer", jax.train, needs=("jax",)),
    Contender("NumPy, textbook loop", "peer", numpy.train),
    Contender("PyTorch, eager", "peer", torch.train_eager, needs=("torch",)),
    Contender("PyTorch, torch.compile", "peer", torch.train_compiled, needs=("torch",), slow=True),
    Contender("PyTorch, DataLoader", "peer", torch.train_from_loader, needs=("torch",)),
    Contender("scikit-learn, fit", "peer", sklearn.train),
    Contender("Keras, fit", "peer", keras.train, needs=("keras",)),
)


@pytest.fixture(scope="module")
def problem(threads: int, smoke: bool) -> Training:
    return draw("step", threads, rows=1_000 if smoke else 50_000)


@pytest.mark.contenders(*ours.FLOORS, *ours.training(), *PEERS)
def bench_step(measure: Callable[[Training], None], problem: Training) -> None:
    measure(problem)
