"""The checks of single ops: every op as array code and as kernel, in each dtype."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fastmlp.backends.base import Backend
from fastmlp.ops import overridden
from fastmlp.testing import far_rows
from fastmlp.testing.cases import CASES
from fastmlp.testing.check import Check, where_held
from fastmlp.testing.op_case import FAMILIES, OpCase
from fastmlp.testing.parity import assert_parity, assert_signature


def checks(backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    """That every kernel has a case and its array code's arguments, and `assert_parity` for every op."""
    for op in sorted(_compiled(backend)):
        yield Check(f"kernel {op} has a case", partial(_assert_covered, op))
    for name, case in CASES.items():
        if (kernel := case.kernel(backend)) and not case.hazard:
            yield Check(f"kernel {name} has its array code's arguments", partial(assert_signature, case, kernel))
        yield from _parity_checks(case, backend, seed, quick=quick)
    yield from far_rows.checks(CASES["gather"], backend)


def _parity_checks(case: OpCase, backend: Backend, seed: int, *, quick: bool) -> Iterator[Check]:
    for dtype in case.dtypes[:1] if quick else case.dtypes:
        for kernels in (False, True) if case.kernel(backend) else (False,):
            run = partial(assert_parity, case, backend, kernels=kernels, dtype=dtype, seed=seed)
            name = f"{case.name}, {'kernel' if kernels else 'array code'}, {dtype}"
            yield Check(name, where_held(backend, dtype, run))


def _compiled(backend: Backend) -> set[str]:
    """Every op that the backend has a kernel for."""
    families = [of(backend) for of in FAMILIES.values()]
    return {*backend.image_kernels, *(op for ops, array_code in families for op in overridden(ops, array_code))}


def _assert_covered(op: str) -> None:
    if op not in {case.op for case in CASES.values()}:
        raise AssertionError(f"no case in fastmlp.testing.cases covers the kernel {op!r}: add one, or drop the kernel")
