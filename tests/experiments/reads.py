"""How often shards are read, and a read that Ctrl-C comes in the way of."""

from typing import Any

import numpy as np
import pytest

from fastmlp.features.shards import Shard


class Reads:
    """Counts them from now on, with a checkpoint after every epoch; read number `last`, from 0, is interrupted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.last = 0, -1
        real = Shard.read

        def counting(shard: Shard, rows: np.ndarray, *into: Any) -> None:
            if self.count == self.last:
                raise KeyboardInterrupt
            self.count += 1
            real(shard, rows, *into)

        monkeypatch.setattr(Shard, "read", counting)
        monkeypatch.setattr("fastmlp.training.run.SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def interrupt(self, number: int) -> None:
        """Count from 0 again, to that one."""
        self.count, self.last = 0, number

    def go_on(self) -> None:
        self.last = -1
