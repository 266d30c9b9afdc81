"""Where an experiment computes, and how long its stages take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from fastmlp.backends import open_backend
from fastmlp.common import environment
from fastmlp.common.clock import compile_seconds, work_seconds
from fastmlp.common.progress import say

LEAST_SECONDS = 0.001  # less is the clock's own doing


class Machine:
    """A backend with its threads; `seconds` has the time of each stage, in the order in which they began.

    begun: when the experiment began, by time.monotonic(); None: now. The first stage, "start", imports and opens the
    backend. One stage is timed at a time, by the thread that runs the experiment: machines are not to be shared.
    """

    def __init__(self, backend: str = "auto", threads: int | None = None, begun: float | None = None) -> None:
        now = time.monotonic()
        self._begun = now if begun is None else begun
        self._compiled_before = compile_seconds()
        self.seconds = {"start": now - self._begun}
        self._stage: str | None = None
        self._since = work_seconds()
        with self.timed("start"):
            self.threads = threads or environment.available_cores()
            self.backend = open_backend(backend, self.threads)
        say(f"Backend {self.backend}, {self.threads} threads.")

    def on(self, device: str) -> Machine:
        """The same on another device, a name of the backend's `devices`, with times of its own."""
        other = copy(self)
        other.seconds, other._stage, other._since = {}, None, work_seconds()
        other.backend = open_backend(device, self.threads)
        return other

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's time to that stage's, less the time of stages within it, and that kernels compiled."""
        outer = self._stage
        self._turn_to(stage)
        try:
            yield
        finally:
            self._turn_to(outer)

    def _turn_to(self, stage: str | None) -> None:
        """The time until now is the last stage's; from now on it is that one's, or None's, who is not timed."""
        now = work_seconds()
        if self._stage is not None:
            self.seconds[self._stage] += now - self._since
        if stage is not None:
            self.seconds.setdefault(stage, 0.0)
        self._stage, self._since = stage, now

    def seconds_so_far(self) -> dict[str, float]:
        """The time of each stage, of compiling if anything was compiled, and of all there was ("total"), rounded."""
        self._turn_to(self._stage)
        compiled = compile_seconds() - self._compiled_before
        seconds = {
            **self.seconds,
            **({"compile": compiled} if compiled >= LEAST_SECONDS else {}),
            "total": time.monotonic() - self._begun,
        }
        return {stage: round(value, 3) for stage, value in seconds.items()}
