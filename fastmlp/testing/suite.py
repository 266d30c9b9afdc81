"""`check_backend`: our own cases on any registered backend, for those who write one and `fastmlp backends --check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastmlp.backends import open_backend
from fastmlp.backends.base import Backend
from fastmlp.testing import augmentation, op_checks, runs
from fastmlp.testing.check import Check, Report, Result, SkipError


def check_backend(
    backend: str | Backend,
    *,
    quick: bool = False,
    only: str = "",
    seed: int = 0,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """Hold a backend to NumPy's numbers: every op, step, epoch and run, in each tier that it has.

    `backend` is a registered name, "name:device", or an opened backend. All inputs come from `seed`. quick: a first
    look; only: run the checks whose name contains this. on_result is called with each result as it is found; the
    report holds them all, and has `ok`, `exit_status` and `raise_for_failures()`. Raises BackendError if the backend
    cannot run here, UsageError if there is none of the name.

    Checked are: that every kernel has a case and the arguments of its array code; `assert_parity` for every op, as
    array code and as kernel, in each dtype; gradients of one step, and by each method of training the losses and
    weights of an epoch, the losses and accuracies of a whole run and that it repeats bit for bit, with no, one and two
    hidden layers; that NaN shows; a mixed batch of augmentations.
    """
    opened = open_backend(backend) if isinstance(backend, str) else backend
    report = Report(str(opened), seed)
    for check in checks(opened, seed, quick=quick):
        if only not in check.name:
            continue
        result = _result_of(check)
        report.results.append(result)
        if on_result is not None:
            on_result(result)
    return report


def checks(backend: Backend, seed: int = 0, *, quick: bool = False) -> Iterator[Check]:
    """All that `check_backend` runs, in its order."""
    yield from op_checks.checks(backend, seed, quick=quick)
    yield from runs.checks(backend, seed, quick=quick)
    yield from augmentation.checks(backend, seed, quick=quick)


def _result_of(check: Check) -> Result:
    name = check.name
    try:
        check.run()
    except SkipError as reason:
        return Result(name, "skipped", str(reason))
    except AssertionError as failure:
        return Result(name, "failed", str(failure))
    except Exception as error:  # noqa: BLE001  (whatever a backend raises, its check has failed, and the next goes on)
        return Result(name, "failed", f"{type(error).__name__}: {error}")
    return Result(name, "passed")
