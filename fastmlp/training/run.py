"""A training run: networks that train together, saved now and then and where they are interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from fastmlp.common.progress import progress
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.loop import DivergedError, train_together
from fastmlp.training.member import Member
from fastmlp.training.samples import Samples

SECONDS_BETWEEN_CHECKPOINTS = 1.0  # at most this much work is repeated after a kill
State = dict[str, NDArray[Any]]


class Run:
    """Members that train together, each as if it were alone; what is saved is always as it was between two epochs."""

    def __init__(self, members: Sequence[Member], checkpoint: Checkpoint) -> None:
        self.members, self.checkpoint = list(members), checkpoint
        self._saved_at, self._saved_epochs = -math.inf, self.epochs
        self._mark = self._here()

    @property
    def epochs(self) -> int:
        """How many the members have behind them."""
        return self.members[0].history.epochs

    def train(
        self, samples: Samples, title: str, *, rows: Sequence[int] | None = None, test: Samples | None = None
    ) -> None:
        """Train every member to its recipe's last epoch; rows: how many of the first samples each has (None: all).

        Raises DivergedError as soon as one of them has no finite loss.
        """
        networks, histories = zip(*((member.network, member.history) for member in self.members), strict=True)
        recipes, seeds = zip(*((m.blueprint.recipe, m.blueprint.seed) for m in self.members), strict=True)
        last = recipes[0].epochs
        with progress(title, last, "epochs", self.epochs) as bar, self._saved_when_interrupted():

            def on_epoch(_: object) -> None:
                self._check_finite()
                self._after_epoch(self.checkpoint.keeps_finished and self.epochs == last)
                bar.advance(1, self._note())

            train_together(
                networks, samples, recipes, seeds, rows=rows, test=test, histories=histories, on_epoch=on_epoch
            )

    def _check_finite(self) -> None:
        for member in self.members:
            if member.diverged:
                loss = member.history.train_loss[-1]
                raise DivergedError(
                    f"Training with seed {member.blueprint.seed} diverged in epoch {self.epochs} (the loss is {loss}): "
                    "lower the learning rate."
                )

    def _note(self) -> str:
        accuracies = [f"{accuracy:.2%}" for member in self.members for accuracy in member.history.test_accuracy[-1:]]
        return f"test accuracy {', '.join(accuracies)}" if accuracies else ""

    def _after_epoch(self, finished: bool) -> None:
        """Save after the last epoch, or if the last time was a second ago."""
        self._mark = self._here()
        if finished or time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
            self._save()

    @contextmanager
    def _saved_when_interrupted(self) -> Iterator[None]:
        """Save the last whole epoch where a KeyboardInterrupt ends the block, and let it pass."""
        try:
            yield
        except KeyboardInterrupt:
            epochs, states = self._mark
            if epochs > self._saved_epochs:
                self._go_back(epochs, states)
                self._save()
            raise

    def _here(self) -> tuple[int, list[State]]:
        return self.epochs, [member.network.state for member in self.members]

    def _go_back(self, epochs: int, states: Sequence[State]) -> None:
        for member, state in zip(self.members, states, strict=True):
            member.network.state = state
            member.history.cut(epochs)

    def _save(self) -> None:
        self.checkpoint.save(self.members)
        self._saved_at, self._saved_epochs = time.monotonic(), self.epochs
