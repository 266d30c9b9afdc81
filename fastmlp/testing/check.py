"""What a check of a backend is, and what checks find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fastmlp.backends.base import Backend
from fastmlp.common.errors import BackendError

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One thing to hold a backend to: `run` raises AssertionError where it fails, SkipError where it does not apply."""

    name: str
    run: Callable[[], None]


class SkipError(Exception):
    """A check that does not apply here; the message says why."""


def where_held(backend: Backend, dtype: str, run: Callable[[], None]) -> Callable[[], None]:
    """The same, skipped where the device has no such dtype (Apple's GPUs have no float64)."""

    def checked() -> None:
        try:
            backend.empty((1,), dtype)
        except (TypeError, BackendError) as error:
            raise SkipError(f"{backend} has no {dtype}: {error}") from None
        run()

    return checked


@dataclass(frozen=True)
class Result:
    """What one check found; `message` says what is wrong, or why the check was skipped."""

    name: str
    status: Status
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"


@dataclass
class Report:
    """The results of all checks of one backend."""

    backend: str
    seed: int
    results: list[Result] = field(default_factory=list)

    def having(self, status: Status) -> list[Result]:
        return [result for result in self.results if result.status == status]

    @property
    def ok(self) -> bool:
        """Something passed and nothing failed: a skip counts as neither."""
        return bool(self.having("passed")) and not self.having("failed")

    @property
    def exit_status(self) -> int:
        return 0 if self.ok else 1

    def raise_for_failures(self) -> None:
        """AssertionError with every failure's message, unless the report is ok."""
        if not self.ok:
            failures = [f"{result.name}: {result.message}" for result in self.having("failed")]
            raise AssertionError("\n".join([str(self), *failures]))

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.having(status))} {status}" for status in ("passed", "failed", "skipped"))
        return f"{self.backend}: {counts} (seed {self.seed})"
