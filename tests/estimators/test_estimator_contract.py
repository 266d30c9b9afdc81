"""scikit-learn's own checks of MLPClassifier and MLPRegressor, on every backend that needs no GPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.backends import probe

EPOCHS = 10  # enough for the checks that ask for accuracy
LONGER: dict[str, Any] = {"backend": "numpy", "max_iter": 100}
DTYPES = ("float32", "float64")
OF_FLOAT32 = 1e-4  # what these checks allow where answers are float32; ours are float64 for rows in float64


def estimators() -> list[Any]:
    """float64, as the docstring says, on all; float32, the default, on one; scikit-learn's training in both."""
    usable = [name for name in ("numpy", "numba", "torch") if probe(name).usable]
    return [
        *(MLPClassifier(backend=name, max_iter=EPOCHS, dtype="float64") for name in usable),
        MLPClassifier(backend="numpy", max_iter=EPOCHS),
        *(MLPClassifier(preset="sklearn", dtype=dtype, **LONGER) for dtype in DTYPES),
        *(MLPRegressor(dtype=dtype, random_state=0, **LONGER) for dtype in DTYPES),
    ]


def asks_for_cuda(check: Any) -> bool:
    """The checks ask whether PyTorch was built with CUDA, not whether a GPU is there."""
    return isinstance(check, partial) and "cuda" in str(check.keywords)


@pytest.fixture(autouse=True)
def array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, scikit-learn skips its checks of the array API."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@pytest.fixture
def float32_tolerance(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, training in float32 by weights and by repeated rows would have to agree to 7 digits, of 7."""
    if estimator.dtype != "float64" and "sample_weight_equivalence" in str(check):
        close = partial(estimator_checks.assert_allclose_dense_sparse, rtol=OF_FLOAT32)
        monkeypatch.setattr(estimator_checks, "assert_allclose_dense_sparse", close)


# scikit-learn's training warns where it ends before it has converged, as their own MLPs do in these checks
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.usefixtures("float32_tolerance")
@parametrize_with_checks(estimators())
def test_sklearn_check(estimator: Any, check: Callable[[Any], None]) -> None:
    if asks_for_cuda(check) and not cuda_works():
        pytest.skip("PyTorch has no GPU here")
    check(estimator)


def cuda_works() -> bool:
    torch = pytest.importorskip("torch")
    return torch.cuda.is_available()
