"""Training: epochs of mini-batch gradient descent, the learning-rate schedule, the history, stopping and going on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.errors import FastMLPError, UsageError
from fastmlp.mlp import Network
from fastmlp.randomness import Stream, generator


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's: 300 epochs, batch 64, 0.01, times 0.1 after every 100 epochs."""

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.01
    drop_every: int | None = 100  # epochs; None keeps the learning rate as it is
    drop_factor: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise UsageError(f"Epochs and batch size must be 1 or more, not {self.epochs} and {self.batch_size}.")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"The learning rate must be a positive number, not {self.learning_rate}.")

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        if self.drop_every is None:
            return self.learning_rate
        return self.learning_rate * self.drop_factor ** ((epoch - 1) // self.drop_every)

    def changed(self, **changes: Any) -> Recipe:
        """This recipe with some values changed; None leaves a value as it is."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


PRESETS = {"paper": Recipe()}


@dataclass
class History:
    """What happened in each epoch: mean training loss and accuracy over its batches, both on the test set after it."""

    epoch: list[int] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.epoch)

    def add(self, learning_rate: float, train: tuple[float, float], test: tuple[float, float] | None) -> None:
        self.epoch.append(self.epochs + 1)
        self.learning_rate.append(learning_rate)
        self.train_loss.append(train[0])
        self.train_accuracy.append(train[1])
        if test is not None:
            self.test_loss.append(test[0])
            self.test_accuracy.append(test[1])

    def as_dict(self) -> dict[str, list[Any]]:
        return asdict(self)


@dataclass(frozen=True)
class Samples:
    """Features (n, d) and labels int64 (n,) on a backend's device, labels known to lie in 0 .. classes - 1."""

    features: Array
    labels: Array

    @classmethod
    def place(cls, backend: Backend, features: NDArray[Any], labels: NDArray[np.int64], dtype: str) -> Samples:
        return cls(backend.asarray(np.ascontiguousarray(features, dtype)), backend.asarray(labels.astype(np.int64)))

    def __len__(self) -> int:
        return int(self.labels.shape[0])


class DivergedError(FastMLPError):
    """Training whose loss became NaN or infinite."""


def train(
    network: Network,
    samples: Samples,
    recipe: Recipe,
    seed: int,
    *,
    test: Samples | None = None,
    shuffle: bool = True,
    history: History | None = None,
    on_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train the network in place, from where `history` ends to the recipe's last epoch.

    The order of an epoch's rows depends on the seed and the epoch alone, so a run that stops and goes on takes the same
    steps as one that never stopped. on_epoch is called after every epoch. Raises DivergedError if the loss is not
    finite.
    """
    history = history or History()
    rows = len(samples)
    for epoch in range(history.epochs + 1, recipe.epochs + 1):
        learning_rate = recipe.learning_rate_at(epoch)
        order = generator(seed, Stream.BATCH_ORDER, epoch).permutation(rows) if shuffle else np.arange(rows)
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is checked once, here below
            trained = network.train_epoch(samples.features, samples.labels, order, learning_rate)
            tested = network.evaluate(test.features, test.labels) if test is not None else None
        _check_finite(trained[0], epoch, learning_rate)
        history.add(learning_rate, trained, tested)
        if on_epoch is not None:
            on_epoch(history)
    return history


def _check_finite(loss: float, epoch: int, learning_rate: float) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
            f"Training diverged in epoch {epoch} (the loss is {loss}): lower the learning rate (now {learning_rate:g}) "
            "or scale the features to about -1 .. 1."
        )
