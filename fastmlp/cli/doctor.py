"""`fastmlp backends`: which backends work here, why not the others, and what each would run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmlp import paper
from fastmlp.backends import names, open_backend, probe
from fastmlp.common.errors import FastMLPError
from fastmlp.network.tiers import choose_tier

if TYPE_CHECKING:
    from fastmlp.testing import Result


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


def check(name: str) -> None:
    """Run our own parity cases on a backend, printing a line for each; FastMLPError if any fails."""
    from fastmlp.testing import check_backend

    report = check_backend(name, on_result=_print_result)
    print(report)
    if not report.ok:
        raise FastMLPError(f"Backend {name} does not hold to NumPy's numbers: the lines above tell where.")


def _print_result(result: Result) -> None:
    print(f"{result.status}  {result.name}{f': {result.message}' if result.message else ''}", flush=True)
