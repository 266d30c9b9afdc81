"""Where an experiment computes, and how long its stages take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastmlp.backends import open_backend
from fastmlp.common import environment
from fastmlp.common.clock import compile_seconds, work_seconds
from fastmlp.common.progress import say


class Machine:
    """A backend with its threads; `seconds` has the time of each stage, in the order in which they began."""

    def __init__(self, backend: str = "auto", threads: int | None = None) -> None:
        self.threads = threads or environment.available_cores()
        self.backend = open_backend(backend, self.threads)
        self.seconds: dict[str, float] = {}
        say(f"Backend {self.backend}, {self.threads} threads.")

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's time to that stage's."""
        start = work_seconds()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + work_seconds() - start

    def rounded_seconds(self) -> dict[str, float]:
        return {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
