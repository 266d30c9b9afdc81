"""What happened in each epoch of a training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class History:
    """Per epoch: its highest learning rate, the mean loss and accuracy over its batches, and both on the test set.

    Under early stopping, also the accuracy on the rows held out for validation.
    """

    epoch: list[int] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.epoch)

    @property
    def kept_epoch(self) -> int:
        """The epoch whose network is kept: under early stopping the (first) best one, else the last."""
        scores = self.validation_accuracy
        return scores.index(max(scores)) + 1 if scores else self.epochs

    def add(self, learning_rate: float, train: tuple[float, float], test: tuple[float, float] | None) -> None:
        self.epoch.append(self.epochs + 1)
        self.learning_rate.append(learning_rate)
        self.train_loss.append(train[0])
        self.train_accuracy.append(train[1])
        if test is not None:
            self.test_loss.append(test[0])
            self.test_accuracy.append(test[1])

    def cut(self, epochs: int) -> None:
        """Forget all epochs but the first ones."""
        for column in vars(self).values():
            del column[epochs:]

    def as_dict(self) -> dict[str, list[Any]]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> History:
        """The inverse of `as_dict`. Raises ValueError or TypeError for anything else."""
        history = cls(**values)
        epochs, tested, validated = history.epochs, len(history.test_loss), len(history.validation_accuracy)
        columns: list[list[Any]] = list(vars(history).values())
        counted = history.epoch == list(range(1, epochs + 1)) and {tested, validated} <= {0, epochs}
        if not counted or [len(column) for column in columns] != [epochs] * 4 + [tested] * 2 + [validated]:
            raise ValueError("its history lacks epochs")
        if not all(isinstance(value, int | float) and abs(value) < 1e300 for column in columns for value in column):
            raise ValueError("its history holds something other than numbers")
        return history
