"""`check_backend`: our own cases on any registered backend, for those who write one and `fastmlp backends --check`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fastmlp.backends import open_backend
from fastmlp.backends.base import Backend
from fastmlp.common.environment import describe
from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.testing import augmentation, image_checks, op_checks, resizing, runs
from fastmlp.testing.check import Check, Report, Result
from fastmlp.testing.running import Runner

MACHINE = ("fastmlp", "python", "cpu", "blas")


def check_backend(
    backend: str | Backend,
    *,
    quick: bool = False,
    only: str = "",
    seed: int = 0,
    on_start: Callable[[Report], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """Hold a backend to NumPy's numbers: every op, step, epoch and run, in each tier that it has.

    `backend` is a registered name, "name:device", or an opened backend. All inputs come from `seed`. quick: a first
    look, of a few seconds; only: run the checks whose name contains this. on_start is called with the report while it
    is empty, on_result with each result as it is found; the report holds them all, and has `ok`, `exit_status` and
    `raise_for_failures()`. Raises BackendError if the backend cannot run here, UsageError if there is none of the name,
    or no check with `only` in its name.

    Checked are: that every kernel has a case and the arguments of its array code; `assert_parity` for every op, as
    array code and as kernel, in each dtype; gradients of one step, and by each method of training the losses and
    weights of an epoch, the losses and accuracies of a whole run and that it repeats bit for bit, with no, one and two
    hidden layers; that NaN shows; images anywhere in memory, many and large, by any number of threads, and resized;
    whole augmentation plans.
    """
    opened = open_backend(backend) if isinstance(backend, str) else backend
    wanted = _wanted(opened, seed, quick=quick, only=only)
    report = Report(str(opened), seed, machine=_machine(opened))
    if on_start is not None:
        on_start(report)
    with Runner(opened, seed, quick=quick) as runner:
        for check in wanted:
            result = runner.result_of(check)
            report.results.append(result)
            if on_result is not None:
                on_result(result)
            if runner.is_stuck:
                break
    return report


def checks(backend: Backend, seed: int = 0, *, quick: bool = False) -> Iterator[Check]:
    """All that `check_backend` runs, in its order."""
    yield from op_checks.checks(backend, seed, quick=quick)
    yield from runs.checks(backend, seed, quick=quick)
    yield from image_checks.checks(backend, seed, quick=quick)
    yield from resizing.checks(backend, seed, quick=quick)
    yield from augmentation.checks(backend, seed, quick=quick)


def _wanted(backend: Backend, seed: int, *, quick: bool, only: str) -> list[Check]:
    every = list(checks(backend, seed, quick=quick))
    wanted = [check for check in every if only in check.name]
    if not wanted:
        near = did_you_mean(only, {piece for check in every for piece in _pieces(check.name)})
        raise UsageError(f"No check of {backend} has {only!r} in its name{near}: leave it out to run all, by name.")
    return wanted


def _pieces(name: str) -> Iterator[str]:
    """The parts of a check's name, and their words."""
    for part in name.split(", "):
        yield part
        yield from re.split(r"[ _]", part)


def _machine(backend: Backend) -> dict[str, str]:
    """Versions, processor and threads: what a result may depend on."""
    here = describe()
    details = backend.probe().details
    return {**details, **{key: here[key] for key in MACHINE}, "threads": str(backend.threads)}
