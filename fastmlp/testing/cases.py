"""The table of op cases, one for every op: read by tests, benchmarks and `check_backend`.

A new op gets its entry; a test fails as long as it has none. No case draws subnormal numbers or makes any, for CuPy
compiles with -ftz=true, which flushes float32's to zero.
"""

from __future__ import annotations

from fastmlp.testing.augment_cases import AUGMENT_CASES
from fastmlp.testing.logistic_cases import LOGISTIC_CASES
from fastmlp.testing.network_cases import NETWORK_CASES
from fastmlp.testing.op_case import OpCase
from fastmlp.testing.patch_cases import PATCH_CASES

CASES: dict[str, OpCase] = {case.name: case for case in (*NETWORK_CASES, *AUGMENT_CASES, *PATCH_CASES, *LOGISTIC_CASES)}
