"""Measures the public check: plants every bug of the table, one at a time, and prints how many it catches, by kind.

python -m tests.mutations                        # all of them
python -m tests.mutations --only softmax_xent    # those whose file or words contain this
python -m tests.mutations --sample 10 --seed 3   # some
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.table import KINDS, Bug, bugs
from tests.mutations.trial import Outcome, try_each


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    chosen = [bug for bug in bugs() if options.only in str(bug)]
    if options.sample:
        chosen = sample(chosen, options.sample, options.seed)
    planted = [bug for bug in chosen if not bug.excuse]
    started = time.monotonic()
    outcomes = try_each(
        planted, options.folder, options.jobs, options.elsewhere, lambda outcome: print(line(outcome), flush=True)
    )
    print(f"\n{score(outcomes)}\n\n{len(outcomes)} bugs in {(time.monotonic() - started) / 60:.1f} minutes.")
    for bug in chosen:
        if bug.excuse:
            print(f"Not planted: {bug} ({bug.excuse})")
    return 0 if all(outcome.verdict == "caught" for outcome in outcomes) else 1


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="bugs whose file or words contain this")
    parser.add_argument("--sample", type=int, metavar="N", help="that many bugs, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="bugs at a time (default: one per core)")
    parser.add_argument(
        "--elsewhere", action="store_true", help="where a bug's own checks miss it, try all: minutes each"
    )
    default = Path(tempfile.gettempdir()) / f"fastmlp-mutations-{os.getuid()}"
    parser.add_argument("--folder", type=Path, default=default, help="for copies of the package (default: %(default)s)")
    return parser.parse_args(arguments)


def sample(among: Sequence[Bug], count: int, seed: int) -> list[Bug]:
    """Some of the bugs that the score counts, always the same for a seed."""
    return random.Random(seed).sample([bug for bug in among if not bug.excuse], count)


def line(outcome: Outcome) -> str:
    """A line, and what the check said."""
    said = " ".join(outcome.message.split())
    return f"{outcome.verdict:16} {outcome.bug} | {outcome.check}: {said[:300]}"


def score(outcomes: Sequence[Outcome]) -> str:
    """A table in Markdown, by kind, and the bugs that were not caught as they should be."""
    rows = ["| kind | planted | caught | by another check | survived |", "|---|---:|---:|---:|---:|"]
    for kind in KINDS:
        rows += _row(kind, [outcome for outcome in outcomes if outcome.bug.kind == kind])
    rows += _row("all", outcomes)
    missed = [line(outcome) for outcome in outcomes if outcome.verdict != "caught"]
    return "\n".join([*rows, "", *missed])


def _row(kind: str, outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        return []
    counts = [sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("caught", "caught elsewhere")]
    missed = len(outcomes) - sum(counts)
    return [f"| {kind} | {len(outcomes)} | {counts[0]} | {counts[1]} | {missed} |"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
