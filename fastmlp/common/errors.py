"""The errors a user can cause. Each message is one sentence that names the fix."""

import difflib
from collections.abc import Iterable


class FastMLPError(Exception):
    """A run that could not go on (exit code 1)."""

    exit_code = 1


class UsageError(FastMLPError, ValueError):
    """An option or argument that makes no sense (exit code 2)."""

    exit_code = 2


class BackendError(FastMLPError, RuntimeError):
    """A backend that was asked for and cannot run here (exit code 3)."""

    exit_code = 3


class DataError(FastMLPError):
    """Data or weights that are missing or damaged (exit code 4)."""

    exit_code = 4


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """What may stand between "There is no 'nunba'" and its fix: the names that are like it, or nothing."""
    near = difflib.get_close_matches(name.lower(), names, cutoff=0.7)
    return f", did you mean {' or '.join(near)}" if near else ""


def first_line(error: BaseException) -> str:
    """What a library's error says, short enough to stand in a sentence of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
