"""A training run: networks that train together, saved now and then and where they are interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastmlp.common.progress import progress, say
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.loop import DivergedError, train_together
from fastmlp.training.member import Member
from fastmlp.training.samples import Samples
from fastmlp.training.stopping import State, Watch

SECONDS_BETWEEN_CHECKPOINTS = 1.0  # at most this much work is repeated after a kill


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
        self,
        samples: Samples,
        title: str,
        *,
        rows: Sequence[int] | None = None,
        test: Samples | None = None,
        held_out: Samples | None = None,
    ) -> None:
        """Train every member to its recipe's last epoch; rows: how many of the first samples each has (None: all).

        held_out: the rows that judge a single member with early stopping, which ends as its best epoch left it. Raises
        DivergedError as soon as a member has no finite loss.
        """
        watch = None if held_out is None else self._watch(held_out)
        if watch is None or not watch.is_over(self.members[0].history):
            self._train(samples, title, rows, test, watch)
        if watch is not None:
            self._keep_best()

    def _train(
        self, samples: Samples, title: str, rows: Sequence[int] | None, test: Samples | None, watch: Watch | None
    ) -> None:
        networks, histories = zip(*((member.network, member.history) for member in self.members), strict=True)
        recipes, seeds = zip(*((m.blueprint.recipe, m.blueprint.seed) for m in self.members), strict=True)
        last = recipes[0].epochs
        with progress(title, last, "epochs", self.epochs) as bar, self._saved_when_interrupted():

            def on_epoch(_: object) -> bool:
                self._check_finite()
                over = self._judged(watch)
                self._after_epoch(self.checkpoint.keeps_finished and self.epochs == last)
                bar.advance(1, self._note())
                return over

            train_together(
                networks, samples, recipes, seeds, rows=rows, test=test, histories=histories, on_epoch=on_epoch
            )

    # Early stopping, of the only member.

    def _watch(self, held_out: Samples) -> Watch:
        (member,) = self.members
        if member.blueprint.stopping is None:
            raise ValueError("The blueprint does not say when to stop.")
        return Watch(member.network, held_out, member.blueprint.stopping, member.best)

    def _judged(self, watch: Watch | None) -> bool:
        """Whether to stop."""
        if watch is None:
            return False
        (member,) = self.members
        over, member.best = watch(member.history), watch.best_state
        return over

    def _keep_best(self) -> None:
        """Go back to the best epoch; a finished model that was resumed is there already."""
        (member,) = self.members
        if member.best:
            member.network.state = member.best
        history = member.history
        accuracy = history.validation_accuracy[history.kept_epoch - 1]
        say(f"Of {history.epochs} epochs, number {history.kept_epoch} is kept: validation accuracy {accuracy:.2%}.")

    # What is saved, and when.

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
        return self.epochs, [member.state for member in self.members]

    def _go_back(self, epochs: int, states: Sequence[State]) -> None:
        for member, state in zip(self.members, states, strict=True):
            member.state = state
            member.history.cut(epochs)

    def _save(self) -> None:
        self.checkpoint.save(self.members)
        self._saved_at, self._saved_epochs = time.monotonic(), self.epochs
