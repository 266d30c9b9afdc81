"""When a training is saved: at most once a second, at its last epoch, and where it is interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from fastmlp.network.trainer import Trainer
from fastmlp.training.loop import History

SECONDS_BETWEEN_CHECKPOINTS = 1.0  # at most so much work is done again after a kill
State = dict[str, NDArray[Any]]


class Checkpoint:
    """Calls `save` for networks in training and their histories, always as they were between two epochs."""

    def __init__(self, networks: Sequence[Trainer], histories: Sequence[History], save: Callable[[], None]) -> None:
        self.networks, self.histories, self.save = networks, histories, save
        self._saved_at, self._saved_epochs = -math.inf, histories[0].epochs
        self._mark = self._here()

    def after_epoch(self, last: bool = False) -> None:
        """Save, if the last time was a second ago, or this was the last epoch."""
        self._mark = self._here()
        if last or time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
            self._save()

    @contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Save the last whole epoch where a KeyboardInterrupt ends the block, and let it go on."""
        try:
            yield
        except KeyboardInterrupt:
            epochs, states = self._mark
            if epochs > self._saved_epochs:
                self._go_back(epochs, states)
                self._save()
            raise

    def _here(self) -> tuple[int, list[State]]:
        return self.histories[0].epochs, [network.state for network in self.networks]

    def _go_back(self, epochs: int, states: Sequence[State]) -> None:
        for network, history, state in zip(self.networks, self.histories, states, strict=True):
            network.state = state
            for column in vars(history).values():
                del column[epochs:]

    def _save(self) -> None:
        self.save()
        self._saved_at, self._saved_epochs = time.monotonic(), self.histories[0].epochs
