"""`fastmlp backends`: which backends work here, why not the others, and what each would run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastmlp import paper
from fastmlp.backends import names, open_backend, probe
from fastmlp.common.errors import FastMLPError, UsageError
from fastmlp.common.files import to_json
from fastmlp.network.optimizers import make_optimizer
from fastmlp.network.tiers import choose_tier


def survey() -> dict[str, dict[str, Any]]:
    """For every registered backend: usable, reason, the fix (`mend`), details, and the tier of the paper's network."""
    found = {}
    for name in names():
        availability = probe(name)
        tier = choose_tier(paper.SIZES, "float32", open_backend(name)).as_dict() if availability.usable else None
        found[name] = {
            "usable": availability.usable,
            "reason": availability.reason,
            "mend": availability.fix,
            "details": dict(availability.details),
            "tier": tier,
        }
    return found


def print_table(found: dict[str, dict[str, Any]]) -> None:
    for name, backend in found.items():
        if not backend["usable"]:
            print(f"{name:8} not usable. {backend['reason']} {backend['mend']}")
            continue
        tier = backend["tier"]
        print(f"{name:8} usable: {', '.join(f'{key} {value}' for key, value in backend['details'].items())}")
        print(f"{'':8} tier {tier['number']} ({tier['name']}) for the paper's network: {tier['reason']}")


def check(name: str, as_json: bool, **options: Any) -> None:
    """Run our own parity cases on a backend, with `check_backend`'s options; FastMLPError if any fails.

    Prints a line for each, or the report as JSON.
    """
    from fastmlp.testing import check_backend

    if as_json:
        report = check_backend(name, **options)
        print(to_json({**asdict(report), "ok": report.ok}))
    else:
        report = check_backend(name, **options, on_start=lambda report: _tell(report.header), on_result=_tell)
        print(report)
    if not report.ok:
        raise FastMLPError(f"Backend {name} does not hold to NumPy's numbers: the failed results tell where.")


def measure(
    name: str, as_json: bool, sizes: Sequence[int] | None, batch_size: int | None, optimizer: str | None
) -> None:
    """Rank a GPU backend's ways to train a network, by default the paper's; prints the times.

    Raises UsageError for sizes that no network has, or a backend that does not choose by measurement.
    """
    from fastmlp.bench import race

    if sizes is not None and len(sizes) < 2:
        raise UsageError("--network takes inputs, any hidden widths, and classes: 512,64,10 for example.")
    steps = batch_size or paper.RUN["batch_size"], make_optimizer(optimizer or "sgd")
    found = race.measure(open_backend(name), race.Network(tuple(sizes or paper.SIZES), *steps))
    print(to_json(found) if as_json else race.table(found))


def _tell(what: object) -> None:
    """At once, however stdout is buffered."""
    print(what, flush=True)
