"""`check_backend`: our own cases on any registered backend, for those who write one and `fastmlp backends --check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from fastmlp.backends import open_backend
from fastmlp.backends.base import Backend
from fastmlp.common.errors import BackendError
from fastmlp.network.parameters import DTYPES
from fastmlp.network.tiers import Tier
from fastmlp.ops import overridden
from fastmlp.testing import runs
from fastmlp.testing.cases import CASES
from fastmlp.testing.op_case import FAMILIES
from fastmlp.testing.parity import assert_parity, assert_signature

Check = Callable[[], None]
Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """What one check found; `message` says what is wrong, or why the check was skipped."""

    name: str
    status: Status
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"


@dataclass
class Report:
    """The results of all checks of one backend."""

    backend: str
    seed: int
    results: list[Result] = field(default_factory=list)

    def having(self, status: Status) -> list[Result]:
        return [result for result in self.results if result.status == status]

    @property
    def ok(self) -> bool:
        """Something passed and nothing failed: a skip counts as neither."""
        return bool(self.having("passed")) and not self.having("failed")

    @property
    def exit_status(self) -> int:
        return 0 if self.ok else 1

    def raise_for_failures(self) -> None:
        """AssertionError with every failure's message, unless the report is ok."""
        if not self.ok:
            failures = [f"{result.name}: {result.message}" for result in self.having("failed")]
            raise AssertionError("\n".join([str(self), *failures]))

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.having(status))} {status}" for status in ("passed", "failed", "skipped"))
        return f"{self.backend}: {counts} (seed {self.seed})"


def check_backend(
    backend: str | Backend, *, seed: int = 0, on_result: Callable[[Result], None] | None = None
) -> Report:
    """Hold a backend to NumPy's numbers: every op, step, epoch and run, in each tier that it has.

    `backend` is a registered name, "name:device", or an opened backend. All inputs come from `seed`. on_result is
    called with each result as it is found; the report holds them all, and has `ok`, `exit_status` and
    `raise_for_failures()`. Raises BackendError if the backend cannot run here, UsageError if there is none of the name.

    Checked are: that every kernel has a case and the arguments of its array code; `assert_parity` for every op, as
    array code and as kernel, in each dtype; gradients of one step, and by each method of training the losses and
    weights of an epoch, the losses and accuracies of a whole run and that it repeats bit for bit, with no, one and two
    hidden layers; that NaN shows; a mixed batch of augmentations.
    """
    opened = open_backend(backend) if isinstance(backend, str) else backend
    report = Report(str(opened), seed)
    for name, check in _checks(opened, seed):
        result = _result_of(name, check)
        report.results.append(result)
        if on_result is not None:
            on_result(result)
    return report


class _SkipError(Exception):
    """A check that does not apply here; the message says why."""


def _result_of(name: str, check: Check) -> Result:
    try:
        check()
    except _SkipError as reason:
        return Result(name, "skipped", str(reason))
    except AssertionError as failure:
        return Result(name, "failed", str(failure))
    except Exception as error:  # noqa: BLE001  (whatever a backend raises, its check has failed, and the next goes on)
        return Result(name, "failed", f"{type(error).__name__}: {error}")
    return Result(name, "passed")


def _checks(backend: Backend, seed: int) -> Iterator[tuple[str, Check]]:
    for op in sorted(_compiled(backend)):
        yield f"kernel {op} has a case", partial(_assert_covered, op)
    for name, case in CASES.items():
        if kernel := case.kernel(backend):
            yield f"kernel {name} has its array code's arguments", partial(assert_signature, case, kernel)
    yield from _op_checks(backend, seed)
    yield from _network_checks(backend, seed)
    yield "augmentation of a mixed batch", partial(runs.assert_augmentation, backend, seed)


def _compiled(backend: Backend) -> set[str]:
    """Every op that the backend has a kernel for."""
    families = [of(backend) for of in FAMILIES.values()]
    return {*backend.image_kernels, *(op for ops, array_code in families for op in overridden(ops, array_code))}


def _op_checks(backend: Backend, seed: int) -> Iterator[tuple[str, Check]]:
    for name, case in CASES.items():
        for kernels in (False, True) if case.kernel(backend) else (False,):
            for dtype in case.dtypes:
                check = partial(assert_parity, case, backend, kernels=kernels, dtype=dtype, seed=seed)
                what = f"{name}, {'kernel' if kernels else 'array code'}, {dtype}"
                yield what, _where_held(backend, dtype, check)


def _network_checks(backend: Backend, seed: int) -> Iterator[tuple[str, Check]]:
    for sizes in runs.SIZES:
        network = "-".join(map(str, sizes))
        for dtype in DTYPES:
            for tier in runs.tiers(backend, sizes, dtype):
                step = partial(runs.assert_step, backend, sizes, dtype, tier, seed)
                yield f"step, {network}, {dtype}, {_label(tier)}", _where_held(backend, dtype, step)
            for method in runs.METHODS:
                for tier in runs.tiers(backend, sizes, dtype, method.optimizer):
                    for what, check in (("epoch", runs.assert_epoch), ("run", runs.assert_run)):
                        run = partial(check, backend, sizes, dtype, tier, seed, method)
                        name = f"{method.name} {what}, {network}, {dtype}, {_label(tier)}"
                        yield name, _where_held(backend, dtype, run)
        for tier in runs.tiers(backend, sizes, "float32"):
            yield f"NaN shows, {network}, {_label(tier)}", partial(runs.assert_divergence_shows, backend, sizes, tier)


def _label(tier: Tier | None) -> str:
    return "best tier" if tier is None else f"tier {tier.value}"


def _where_held(backend: Backend, dtype: str, check: Check) -> Check:
    """The check, skipped where the device has no such dtype (Apple's GPUs have no float64)."""

    def checked() -> None:
        try:
            backend.empty((1,), dtype)
        except (TypeError, BackendError) as error:
            raise _SkipError(f"{backend} has no {dtype}: {error}") from None
        check()

    return checked


def _assert_covered(op: str) -> None:
    if op not in {case.op for case in CASES.values()}:
        raise AssertionError(f"no case in fastmlp.testing.cases covers the kernel {op!r}: add one, or drop the kernel")
