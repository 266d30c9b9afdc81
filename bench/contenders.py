"""What a benchmark compares: problems, and contenders that solve them.

A bench file names its contenders and measures each on its problems:

    @pytest.mark.contenders(*ours.training(), Contender("PyTorch eager", "peer", torch.train_eager, needs=("torch",)))
    def bench_step(measure, problem):
        measure(problem)

`measure` (conftest.py) binds the contender, lets it run once, compares the result with the reference, and only then
times it; every contender gets its turn before any gets the next, so that a slow minute of the machine hits all alike.
A second mark, with device="gpu", names who is measured on a GPU, that is with `--device cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

Kind = Literal["ours", "peer", "floor"]


class AbsentError(Exception):
    """A contender that cannot run here; the message says why, in a sentence."""


@dataclass(frozen=True)
class Bound:
    """A contender set up on a problem.

    run     what is timed: it does all `units` of the problem once, and returns when the work is done
    result  what the last run left, on the host, as the problem's `check` wants it
    facts   what else is worth recording, such as the tier that runs
    check   where this contender must be checked in another way: raises as the problem's `check`, in place of it
    """

    run: Callable[[], object]
    result: Callable[[], Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    check: Callable[[str], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What every contender has to do; a kind of problem subclasses this and gives `check`.

    suite    the bench file it belongs to, such as "step"
    threads  that everybody is held to
    title    what is done, such as "512-64-10, batch 64, 50,000 rows, float32": one chart and one table each
    unit     what the time is divided by, such as "step" or "image"
    units    how many of those one run does
    axis     in a growth problem what grows, such as "batch size", and
    value    how far it has grown
    rounds   in each turn; None leaves it to pytest-benchmark and its options
    device   where everybody computes: "cpu", "cuda", or "emulated", to try the GPU's contenders without one
    """

    suite: str
    threads: int
    title: str
    unit: str
    units: int
    axis: str | None = None
    value: int | None = None
    rounds: int | None = None
    device: str = "cpu"

    def check(self, what: str, result: Any) -> None:
        """AssertionError, opened by `what`, unless the result has parity with the reference."""
        raise NotImplementedError


@dataclass(frozen=True)
class Contender:
    """Somebody who solves problems.

    name   stable from run to run: results of different days are compared by it
    kind   "ours", "peer", or "floor": work that nobody can do without, drawn into the chart
    bind   sets it up on a problem; may raise AbsentError
    needs  the modules it imports that are not fastmlp's own: it is absent where one is missing
    slow   its set-up takes long: it is left out, by name, of a smoke run
    """

    name: str
    kind: Kind
    bind: Callable[[Any], Bound]
    needs: tuple[str, ...] = ()
    slow: bool = False

    def require(self, smoke: bool) -> None:
        """AbsentError where it cannot run, or is left out."""
        missing = [module for module in self.needs if find_spec(module) is None]
        if missing:
            raise AbsentError(f"{' and '.join(missing)} not installed: pip install 'fastmlp[bench]'.")
        if smoke and self.slow:
            raise AbsentError("left out of smoke runs: its set-up takes long.")
