"""What a benchmark compares: problems, and contenders that solve them.

A bench file names its contenders and measures each on its problems:

    @pytest.mark.contenders(*ours.training(), Contender("PyTorch eager", "peer", torch.train_eager, needs=("torch",)))
    def bench_step(measure, problem):
        measure(problem)

`measure` (conftest.py) binds the contender, runs it once, compares the result with the reference, and only then times
it. Contenders take turns, so that a slow minute of the machine affects all of them alike. A second mark, with
device="gpu", names those measured on a GPU, with `--device cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

Kind = Literal["ours", "peer", "floor"]


class AbsentError(Exception):
    """A contender that cannot run here; the message is a sentence that says why."""


@dataclass(frozen=True)
class Bound:
    """A contender set up on a problem.

    run     the timed function: does all `units` of the problem once, and returns when the work is done
    result  the result of the last run, on the host, as the problem's `check` expects it
    facts   anything else worth recording, such as the tier that runs
    check   replaces the problem's `check` for this contender, and raises like it
    units   how many of the problem's units a run does, where it is too slow for all; its name has to say so
    """

    run: Callable[[], object]
    result: Callable[[], Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    check: Callable[[str], None] | None = None
    units: int | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The work of every contender; each kind of problem is a subclass with its `check`.

    suite    the bench file it belongs to, such as "step"
    threads  the number of threads for every contender
    title    what is done, such as "512-64-10, batch 64, 50,000 rows, float32": one chart and one table each
    unit     the unit of work that times are per, such as "step" or "image"
    units    how many of them one run does
    axis     in a growth problem, what grows, such as "batch size", and
    value    its value
    rounds   per turn; None leaves it to pytest-benchmark and its options
    device   where all contenders run: "cpu", "cuda", or "emulated", to try the GPU's contenders without one
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
        """Raise AssertionError, starting with `what`, unless the result has parity with the reference."""
        raise NotImplementedError


@dataclass(frozen=True)
class Contender:
    """A library or backend that solves problems.

    name   the same in every run, so that results of different days can be compared
    kind   "ours", "peer", or "floor": work that is unavoidable, drawn into the chart
    bind   sets it up on a problem; may raise AbsentError
    needs  the modules outside fastmlp that it imports: it is absent if one is missing
    slow   whether its set-up takes long, so that a quick run skips it
    """

    name: str
    kind: Kind
    bind: Callable[[Any], Bound]
    needs: tuple[str, ...] = ()
    slow: bool = False

    def require(self, quick: bool) -> None:
        """Raise AbsentError if it cannot run or is skipped."""
        missing = [module for module in self.needs if find_spec(module) is None]
        if missing:
            raise AbsentError(f"{' and '.join(missing)} not installed: pip install 'fastmlp[bench]'.")
        if quick and self.slow:
            raise AbsentError("left out of quick runs: its set-up takes long.")
