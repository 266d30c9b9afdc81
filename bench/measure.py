"""Binds, checks and times contenders, and keeps the measurements until the suite ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import threads
from .contenders import AbsentError, Bound, Contender, Problem
from .results import Measurement, Status, commit, machine, new_run, summary


class Session:
    """One run of the suite: the contenders bound to the current problem, and all measurements so far."""

    def __init__(self, thread_count: int, smoke: bool, device: str = "cpu", quick: bool = False) -> None:
        self.threads, self.smoke, self.device = thread_count, smoke, device
        self._quick = quick or smoke
        self.run = new_run()
        self._problem: Problem | None = None
        self._bound: dict[str, Bound | Exception] = {}
        self._found: dict[tuple[Any, ...], Finding] = {}

    def bound(self, contender: Contender, problem: Problem) -> Bound:
        """The contender bound to that problem, once, at its first turn, and checked.

        Raises the same error at every turn: AbsentError if it cannot run here, AssertionError if it has no parity.
        """
        if problem is not self._problem:
            self._problem, self._bound = problem, {}
        if contender.name not in self._bound:
            self._bound[contender.name] = self._try(contender, problem)
        bound = self._bound[contender.name]
        threads.pin_loaded(problem.threads)
        if isinstance(bound, Exception):
            raise bound
        return bound

    def _try(self, contender: Contender, problem: Problem) -> Bound | Exception:
        finding = self._finding(contender, problem)
        try:
            return self._checked(contender, problem, finding)
        except AbsentError as error:
            finding.status, finding.reason = "absent", str(error)
            return error
        except Exception as error:  # noqa: BLE001  (a peer may raise anything; it is raised again at every turn)
            finding.status, finding.reason = "failed", f"{type(error).__name__}: {error}"
            return error

    def _checked(self, contender: Contender, problem: Problem, finding: Finding) -> Bound:
        contender.require(self._quick)
        bound = contender.bind(problem)
        threads.pin_loaded(problem.threads)
        bound.run()
        what = f"{contender.name} on {problem.title}"
        if bound.check:
            bound.check(what)
        elif bound.result:
            problem.check(what, bound.result())
        else:
            raise TypeError(f"{what}: neither a result to check nor a check of its own")
        finding.facts = {**bound.facts, "pools": threads.pools()}
        return bound

    def _finding(self, contender: Contender, problem: Problem) -> Finding:
        key = (problem.suite, problem.title, problem.axis, problem.value, contender.name)
        return self._found.setdefault(key, Finding(contender, problem))

    def add(self, contender: Contender, problem: Problem, seconds: Sequence[float], peak: int | None = None) -> None:
        """Record the times of whole runs from one turn."""
        finding, bound = self._finding(contender, problem), self._bound.get(contender.name)
        units = bound.units if isinstance(bound, Bound) and bound.units else problem.units
        finding.seconds += [second / units for second in seconds]
        finding.peak = peak

    def measurements(self) -> list[Measurement]:
        """One measurement per contender and problem, except those neither timed nor refused."""
        if not self._found:
            return []
        common: dict[str, Any] = {
            "run": self.run,
            "commit": commit(),
            "machine": machine(self.device),
            "smoke": self.smoke,
        }
        known = [finding for finding in self._found.values() if finding.seconds or finding.reason]
        return [Measurement(**common, **finding.as_dict()) for finding in known]


@dataclass
class Finding:
    """What was measured of one contender on one problem."""

    contender: Contender
    problem: Problem
    status: Status = "measured"
    reason: str = ""
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        names = ("suite", "threads", "title", "unit", "axis", "value", "device")
        return {
            **{name: getattr(self.problem, name) for name in names},
            "contender": self.contender.name,
            "kind": self.contender.kind,
            "status": self.status,
            "reason": self.reason,
            "seconds": summary(self.seconds) if self.seconds else {},
            "rounds": len(self.seconds),
            "peak": self.peak,
            "facts": self.facts,
        }
