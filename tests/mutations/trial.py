"""Plants bugs one at a time in copies of the package, and lets the public check judge each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from tests.mutations.table import ROOT, Bug

JUDGE = Path(__file__).with_name("judge.py")
PATIENCE = 120  # seconds for the checks that should catch a bug; longer, and it hangs
WHOLE_CHECK = 1500  # seconds for all of them
INVALID = ("does not compile", "TypingError", "LoweringError", "Traceback (most recent call last)")  # an edit's mistake

Verdict = Literal["caught", "caught elsewhere", "survived", "invalid"]


@dataclass(frozen=True)
class Outcome:
    """What came of a bug: which check caught it, and what that said."""

    bug: Bug
    verdict: Verdict
    check: str = ""
    message: str = ""


class Copy:
    """A copy of the package with caches of its own, in which one bug at a time is planted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder / "fastmlp", ignore_errors=True)
        shutil.copytree(ROOT / "fastmlp", folder / "fastmlp", ignore=shutil.ignore_patterns("__pycache__", "bench"))

    def judged(self, backend: str, names: Sequence[str], seconds: float) -> dict[str, str]:
        """What `judge` prints; a crash and a hang are failures of no check."""
        variables = {**os.environ, "PYTHONPATH": str(self.folder), "NUMBA_CACHE_DIR": str(self.folder / "numba")}
        variables |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(JUDGE), backend, *names]
        try:
            run = subprocess.run(
                command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return {"verdict": "failed", "check": "(hung)", "message": f"no answer after {seconds} s"}
        if run.returncode:
            return {"verdict": "failed", "check": "(crashed)", "message": run.stderr.strip()[-2000:]}
        found: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
        return found

    def outcome(self, bug: Bug, elsewhere: bool) -> Outcome:
        """Plant the bug, judge, and heal. elsewhere: by all checks, if those that should catch it do not."""
        place = self.folder / _in_package(bug.file)
        text = place.read_text()
        place.write_text(bug.planted_in(text))
        try:
            return self._found(bug, elsewhere)
        finally:
            place.write_text(text)

    def _found(self, bug: Bug, elsewhere: bool) -> Outcome:
        found = self.judged(bug.backend, [bug.caught_by], PATIENCE)
        verdict: Verdict = "caught" if found["verdict"] == "failed" else "survived"
        if elsewhere and verdict == "survived":
            found = self.judged(bug.backend, [""], WHOLE_CHECK)
            verdict = "caught elsewhere" if found["verdict"] == "failed" else "survived"
        if any(sign in found["message"] for sign in INVALID):
            verdict = "invalid"
        return Outcome(bug, verdict, found["check"], found["message"])


def _in_package(file: str) -> str:
    """Where the package has a file of the checkout, whose kernels lie beside it."""
    return file if file.startswith("fastmlp/") else f"fastmlp/{file}"


def try_each(
    bugs: Sequence[Bug],
    folder: Path,
    jobs: int = 2,
    elsewhere: bool = False,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Try every bug in `jobs` processes at a time, with copies of the package in folder; elsewhere: see `Copy.outcome`.

    Raises AssertionError if right code fails a check that should catch a bug: then none could be said to have.
    """
    copies = SimpleQueue[Copy]()
    for number in range(jobs):
        copies.put(Copy(folder / f"copy-{number}"))

    def tried(work: Callable[[Copy], None]) -> None:
        copy = copies.get()
        try:
            work(copy)
        finally:
            copies.put(copy)

    outcomes: list[Outcome] = []

    def plant(bug: Bug) -> None:
        def work(copy: Copy) -> None:
            outcome = copy.outcome(bug, elsewhere)
            outcomes.append(outcome)
            on_outcome(outcome)

        tried(work)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda named: tried(lambda copy: _assert_right(copy, *named)), _checks_of(bugs)))
        list(pool.map(plant, bugs))
    return sorted(outcomes, key=lambda outcome: bugs.index(outcome.bug))


def _checks_of(bugs: Iterable[Bug]) -> list[tuple[str, list[str]]]:
    """The checks named by the bugs of each backend."""
    bugs = list(bugs)
    backends = dict.fromkeys(bug.backend for bug in bugs)
    return [(backend, list(dict.fromkeys(b.caught_by for b in bugs if b.backend == backend))) for backend in backends]


def _assert_right(copy: Copy, backend: str, names: list[str]) -> None:
    found = copy.judged(backend, names, WHOLE_CHECK)
    assert found["verdict"] == "passed", f"without any bug, {backend}: {found['check']} {found['message']}"
