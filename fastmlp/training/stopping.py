"""Early stopping: training ends once accuracy on held-out rows no longer improves, and its best epoch is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.trainer import Trainer
from fastmlp.training.held_out import HELD_OUT
from fastmlp.training.history import History
from fastmlp.training.samples import Samples

State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Stopping:
    """When to stop: once accuracy on a fraction of the rows has not improved by tol for more than `patience` epochs.

    The rule, and the defaults, are those of scikit-learn's MLPClassifier.
    """

    fraction: float = HELD_OUT
    tol: float = 1e-4
    patience: float = 10  # epochs

    def is_due(self, scores: Sequence[float]) -> bool:
        """Whether training is over after epochs of these validation accuracies."""
        best, since = -np.inf, 0
        for score in scores:
            since = 0 if score >= best + self.tol else since + 1
            best = max(best, score)
        return since > self.patience


class Watch:
    """Adds accuracy on held-out rows to the history after every epoch, and keeps the network's state at its best.

    best_state: that of the history's best epoch, to go on from; empty where there is none yet.
    """

    def __init__(
        self, network: Trainer, held_out: Samples, stopping: Stopping, best_state: State | None = None
    ) -> None:
        self.network, self.held_out, self.stopping = network, held_out, stopping
        self.best_state: State = {} if best_state is None else best_state

    def __call__(self, history: History) -> bool:
        """Whether to stop."""
        score, earlier = self.held_out.accuracy(self.network), history.validation_accuracy
        if score > max(earlier, default=-np.inf):
            self.best_state = self.network.state
        earlier.append(score)
        return self.is_over(history)

    def is_over(self, history: History) -> bool:
        """Whether training has stopped where this history ends."""
        return self.stopping.is_due(history.validation_accuracy)
