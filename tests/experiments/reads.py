"""How often rows of shards are read, and a read that Ctrl-C comes in the way of."""

from typing import Any

import numpy as np
import pytest

from fastmlp.features.sharded_rows import ShardedRows


class Reads:
    """Counts them from now on, with a checkpoint after every epoch; read number `last`, from 0, is interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.last = 0, -1
        real = ShardedRows.read

        def counting(shards: ShardedRows, rows: np.ndarray, *into: Any) -> None:
            if self.count == self.last:
                raise KeyboardInterrupt
            self.count += 1
            real(shards, rows, *into)

        monkeypatch.setattr(ShardedRows, "read", counting)
        monkeypatch.setattr("fastmlp.training.run.SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def interrupt(self, number: int) -> None:
        """Count from 0 again, to that one."""
        self.count, self.last = 0, number

    def go_on(self) -> None:
        self.last = -1
