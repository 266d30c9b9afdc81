"""The public check in a process of its own, on the fastmlp that PYTHONPATH names: prints what it finds as JSON.

    python judge.py numba "standardize, kernel" "adam epoch"

Stops at the first failure. Where no check has such a name, or none ran, that is a failure too, of no check.
"""

from __future__ import annotations

import json
import sys

from fastmlp.backends import Backend, open_backend
from fastmlp.testing import Result, check_backend
from fastmlp.testing.emulated import EmulatedBackend


class FailedError(Exception):
    """Carries the result, to leave a check at its first failure."""


def stop(result: Result) -> None:
    if result.status == "failed":
        raise FailedError(result.name, result.message)


def open_judged(name: str) -> Backend:
    """A backend by its name, registered or "emulated"."""
    return EmulatedBackend() if name == EmulatedBackend.name else open_backend(name)


def judge(backend: str, names: list[str]) -> dict[str, str]:
    opened = open_judged(backend)
    for name in names:
        try:
            report = check_backend(opened, only=name, on_result=stop)
        except FailedError as failed:
            check, message = failed.args
            return {"verdict": "failed", "check": check, "message": message}
        if not report.having("passed"):
            return {"verdict": "nothing ran", "check": "", "message": f"no check of {name!r} ran on {backend}"}
    return {"verdict": "passed", "check": "", "message": ""}


if __name__ == "__main__":
    print(json.dumps(judge(sys.argv[1], sys.argv[2:])))
