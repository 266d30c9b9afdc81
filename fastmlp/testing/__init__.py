"""What holds every backend to NumPy's numbers: read by our tests, our benchmarks, and those who write a backend.

    from fastmlp.testing import check_backend
    check_backend("mine").raise_for_failures()

CASES has one `OpCase` an op; `assert_parity` runs one of them on a backend; `check_backend` runs all, and whole steps,
epochs and training runs. The tolerances, each with its reason, are in `fastmlp.testing.tolerances`.
"""

from fastmlp.testing.cases import CASES
from fastmlp.testing.check import Report, Result
from fastmlp.testing.op_case import OpCase, Trial
from fastmlp.testing.parity import assert_parity, assert_signature, assert_trial
from fastmlp.testing.suite import check_backend

__all__ = [
    "CASES",
    "OpCase",
    "Report",
    "Result",
    "Trial",
    "assert_parity",
    "assert_signature",
    "assert_trial",
    "check_backend",
]
