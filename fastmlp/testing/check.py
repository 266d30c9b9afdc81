"""What a check of a backend is, and what checks find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """What one check found, and in how many seconds.

    message: what is wrong, or why it was skipped; rerun: what runs it alone, if it failed.
    """

    name: str
    status: Status
    message: str = ""
    seconds: float = 0.0
    rerun: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def __str__(self) -> str:
        message = f": {self.message}" if self.message else ""
        rerun = f"\n        alone: {self.rerun}" if self.rerun else ""
        return f"{self.status}  {self.name} ({self.seconds:.1f} s){message}{rerun}"


@dataclass
class Report:
    """The results of all checks of one backend, and the machine they ran on."""

    backend: str
    seed: int
    results: list[Result] = field(default_factory=list)
    machine: Mapping[str, str] = field(default_factory=dict)

    def having(self, status: Status) -> list[Result]:
        return [result for result in self.results if result.status == status]

    @property
    def ok(self) -> bool:
        """Something passed and nothing failed: a skip counts as neither."""
        return bool(self.having("passed")) and not self.having("failed")

    @property
    def exit_status(self) -> int:
        return 0 if self.ok else 1

    @property
    def header(self) -> str:
        """What was checked, from which seed, and where."""
        return f"{self.backend}, seed {self.seed}; {', '.join(f'{key} {value}' for key, value in self.machine.items())}"

    def raise_for_failures(self) -> None:
        """AssertionError with every failure's message, unless the report is ok."""
        if not self.ok:
            raise AssertionError("\n".join([str(self), self.header, *map(str, self.having("failed"))]))

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.having(status))} {status}" for status in ("passed", "failed", "skipped"))
        return f"{self.backend}: {counts} (seed {self.seed})"
