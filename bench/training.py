"""The problem of training a network: epochs of mini-batch gradient descent, and the reference that all must match."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.compare import assert_close
from fastmlp.testing.tolerances import EPOCH, RUN_ACCURACY
from fastmlp.training.samples import Samples

from .contenders import Problem

PAPER = (512, 64, 10)
BATCH = 64
LEARNING_RATE = 0.01
DRAWN_ROWS = 50_000  # rows of random numbers; a larger problem repeats them
JUDGED_ROWS = 10_000
SMOKE_ROWS = {"cpu": 1_000, "cuda": 1_000, "emulated": 130}  # two batches and a smaller one


@dataclass(frozen=True, kw_only=True)
class Training(Problem):
    """Features float32 (n, d), labels int64 (n,), the order int64 (m,) of the rows in an epoch, initial weights.

    Every epoch takes the rows in that order, `batch_size` at a time; the last batch may be smaller. row_weights (n,)
    weigh each row's loss.
    """

    parameters: Parameters
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    order: NDArray[np.int64]
    batch_size: int
    row_weights: NDArray[np.float32] | None = None
    epochs: int = 1
    learning_rate: float = LEARNING_RATE

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return -(-len(self.order) // self.batch_size)

    @cached_property
    def reference(self) -> Judgement:
        """The result of all epochs by the array code on NumPy, in float64."""
        start, weights = self.parameters.astype("float64"), self.row_weights
        trainer = Trainer(start, NumpyBackend(), self.batch_size, Tier.ARRAY_CODE, weighted=weights is not None)
        for _ in range(self.epochs):
            train_epoch(trainer, Samples(self.features, self.labels, weights), self)
        return self.judge(trainer.parameters)

    def check(self, what: str, result: Parameters) -> None:
        """Check the trained network's loss to 1e-4 and its accuracy to 0.3 points, on rows of the problem.

        The weights themselves agree only to 1e-3 between any two implementations in float32: among the millions of
        hidden values of an epoch, some are so near the kink of ReLU that rounding decides the side.
        """
        got, reference = self.judge(result), self.reference
        assert_close(f"{what}: loss", np.array([got.loss]), np.array([reference.loss]), EPOCH["float32"])
        if not abs(got.accuracy - reference.accuracy) <= RUN_ACCURACY:
            raise AssertionError(f"{what}: accuracy {got.accuracy}, but {reference.accuracy} in float64")

    def judge(self, parameters: Parameters) -> Judgement:
        """Loss and accuracy, computed by NumPy in float64."""
        if parameters.sizes != self.parameters.sizes:
            raise AssertionError(f"got layers of sizes {parameters.sizes}, expected {self.parameters.sizes}")
        rows = self.order[:JUDGED_ROWS]
        trainer = Trainer(parameters.astype("float64"), NumpyBackend(), self.batch_size, Tier.ARRAY_CODE)
        return Judgement(*trainer.evaluate(self.features[rows].astype(np.float64), self.labels[rows]))


class Judgement(NamedTuple):
    """The result of training: mean cross-entropy and accuracy."""

    loss: float
    accuracy: float


def train_epoch(trainer: Trainer, samples: Samples, problem: Training) -> None:
    rates = np.full(problem.steps, problem.learning_rate)
    samples.train_epoch([trainer], [problem.order], [rates])


def draw(
    suite: str,
    threads: int,
    *,
    rows: int = 50_000,
    visited: int | None = None,
    sizes: tuple[int, ...] = PAPER,
    batch_size: int = BATCH,
    epochs: int = 1,
    weighted: bool = False,
    stored_in: Path | None = None,
    mapped: bool = False,
    unit: str = "step",
    **others: Any,
) -> Training:
    """A training problem with at most `visited` of its rows per epoch; its time is per step, row or epoch.

    weighted: rows have weights, of mean 1. If a folder `stored_in` is given, the features are stored there and
    memory-mapped.
    """
    rng = np.random.default_rng([rows, *sizes])
    labels = rng.integers(0, sizes[-1], rows)
    order = rng.permutation(rows)[:visited]
    units = {"step": epochs * -(-len(order) // batch_size), "row": epochs * len(order), "epoch": epochs}
    network = ("weighted " if weighted else "") + "-".join(map(str, sizes))
    return Training(
        suite=suite,
        threads=threads,
        title=f"{network}, batch {batch_size}, {rows:,} rows, float32",
        unit=unit,
        units=units[unit],
        parameters=initial_parameters(sizes, "he"),
        features=_stored(rng, labels, sizes, stored_in, mapped) if stored_in else _features(rng, labels, sizes),
        labels=labels,
        order=order,
        batch_size=batch_size,
        row_weights=_row_weights(rng, rows) if weighted else None,
        epochs=epochs,
        **others,
    )


def _row_weights(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    weights = rng.uniform(0.5, 1.5, rows)
    return (weights / weights.mean()).astype(np.float32)


def _features(rng: np.random.Generator, labels: NDArray[np.int64], sizes: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise around the centre of each class, so that there is something to learn."""
    inputs, classes = sizes[0], sizes[-1]
    drawn = rng.standard_normal((min(len(labels), DRAWN_ROWS), inputs), dtype=np.float32)
    features = np.resize(drawn, (len(labels), inputs))
    centres = rng.standard_normal((classes, inputs), dtype=np.float32) * np.float32(4 / np.sqrt(inputs))
    for start in range(0, len(labels), DRAWN_ROWS):
        features[start : start + DRAWN_ROWS] += centres[labels[start : start + DRAWN_ROWS]]
    return features


def _stored(
    rng: np.random.Generator, labels: NDArray[np.int64], sizes: tuple[int, ...], folder: Path, mapped: bool
) -> NDArray[np.float32]:
    path = folder / f"{len(labels)}-{sizes[0]}-{sizes[-1]}.npy"
    if not path.exists():
        np.save(path, _features(rng, labels, sizes))
    return np.load(path, mmap_mode="r" if mapped else None)
