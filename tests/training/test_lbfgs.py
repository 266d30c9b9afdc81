from types import SimpleNamespace
from typing import Any

import pytest
from scipy import linalg  # noqa: F401  (loads SciPy's BLAS)
from threadpoolctl import threadpool_info, threadpool_limits

from fastmlp.backends import open_backend
from fastmlp.training.lbfgs import one_pool


def threads_of_scipys_blas() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if "scipy.libs" in pool["filepath"]]


def test_scipys_own_blas_has_one_thread_while_it_minimizes() -> None:
    if not threads_of_scipys_blas():
        pytest.skip("SciPy has no BLAS of its own here")
    objective: Any = SimpleNamespace(threading=lambda rows: open_backend("numpy").one_thread())
    rows: Any = SimpleNamespace(inputs=SimpleNamespace(rows=10))
    with threadpool_limits(2, user_api="blas"):
        with one_pool(objective, rows):
            assert threads_of_scipys_blas() == [1]
        assert threads_of_scipys_blas() == [2]
