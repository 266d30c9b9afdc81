"""The errors a user can cause. Each message is one sentence that names the fix."""

import difflib
from collections.abc import Iterable


class FastMLPError(Exception):
    """A run that could not continue (exit code 1)."""

    exit_code = 1


class UsageError(FastMLPError, ValueError):
    """An invalid option or argument (exit code 2)."""

    exit_code = 2


class BackendError(FastMLPError, RuntimeError):
    """A requested backend that cannot run here (exit code 3)."""

    exit_code = 3


class DataError(FastMLPError):
    """Data or weights that are missing or damaged (exit code 4)."""

    exit_code = 4


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The hint to insert between "There is no 'nunba'" and the fix: similar names, or nothing."""
    spelled = {known.lower(): known for known in names}
    near = [spelled[known] for known in difflib.get_close_matches(name.lower(), spelled, cutoff=0.7)]
    return f", did you mean {' or '.join(near)}" if near else ""


def first_line(error: BaseException) -> str:
    """A library's error message, short enough to quote in a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
