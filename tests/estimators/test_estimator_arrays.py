"""Arrays of other libraries in and out of MLPClassifier, following scikit-learn's array API convention."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import array_api_compat
import array_api_strict
import numpy as np
import pytest
from sklearn import config_context
from sklearn.datasets import load_wine

from fastmlp import MLPClassifier
from fastmlp.backends import Backend, open_backend
from fastmlp.estimators import arrays
from fastmlp.estimators.arrays import on_backend, to_host

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def wine() -> Arrays:
    return load_wine(return_X_y=True)


@pytest.fixture
def dispatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with config_context(array_api_dispatch=True):
        yield


def quick(**parameters: Any) -> MLPClassifier:
    return MLPClassifier(**{"backend": "numpy", "max_iter": 10, **parameters})


def libraries() -> list[Any]:
    torch = pytest.importorskip("torch")
    cpu = [("torch", torch, "cpu"), ("array-api-strict", array_api_strict, array_api_strict.Device("CPU_DEVICE"))]
    return cpu + [("torch on a GPU", torch, "cuda")] * torch.cuda.is_available()


@pytest.mark.usefixtures("dispatch")
@pytest.mark.parametrize("backend", ["numpy", "numba", "torch:cpu"])
def test_answers_are_of_the_callers_library_on_its_device(backend: str, wine: Arrays) -> None:
    if backend.startswith("torch"):
        pytest.importorskip("torch")
    X, y = wine[0].astype("f4"), wine[1]
    weights = np.linspace(0, 2, len(y))
    expected = quick(backend=backend).fit(X, y, sample_weight=weights)
    for name, xp, device in libraries():
        features, labels, weighing = (xp.asarray(a, device=device) for a in (X, y, weights))
        model = quick(backend=backend).fit(features, labels, sample_weight=weighing)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            got = getattr(model, method)(features)
            assert type(got) is type(features), name
            assert got.device == features.device
            np.testing.assert_allclose(to_host(got), getattr(expected, method)(X), rtol=1e-4, atol=1e-5)
        assert type(model.classes_) is type(features)
        assert model.score(features, labels) == pytest.approx(expected.score(X, y))


@pytest.mark.usefixtures("dispatch")
def test_auto_takes_the_library_and_the_device_of_the_tensor(wine: Arrays) -> None:
    torch = pytest.importorskip("torch")
    model = quick(backend="auto").fit(torch.asarray(wine[0]), torch.asarray(wine[1]))
    assert model.backend_ == "torch"


def test_auto_takes_the_gpu_of_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that CuPy would use by itself."""
    opened: list[str] = []

    def open_as(name: str) -> Backend:
        opened.append(name)
        return open_backend("numpy")

    monkeypatch.setattr(arrays, "_opened", open_as)
    monkeypatch.setattr(arrays, "namespace_of", lambda _: np)
    monkeypatch.setattr(array_api_compat, "is_cupy_array", lambda _: True)
    arrays.backend_for("auto", SimpleNamespace(device=SimpleNamespace(id=1)))
    assert opened == ["cupy:1"]


@pytest.mark.usefixtures("dispatch")
def test_a_tensor_that_lies_there_is_not_copied() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.ones((3, 2))
    assert on_backend(open_backend("torch:cpu"), tensor).data_ptr() == tensor.data_ptr()
    assert on_backend(open_backend("torch:cpu"), tensor.T).is_contiguous()
    assert isinstance(on_backend(open_backend("numpy"), tensor), np.ndarray)


@pytest.mark.usefixtures("dispatch")
def test_names_stay_on_the_host(wine: Arrays) -> None:
    torch = pytest.importorskip("torch")
    names = np.array(["a", "b", "c"])[wine[1]]
    X = torch.asarray(wine[0])
    model = quick().fit(X, names)
    assert isinstance(model.predict(X), np.ndarray)
    assert model.predict_proba(X).device == X.device
    assert model.score(X, names) > 0.9


@pytest.mark.usefixtures("dispatch")
def test_another_library_than_in_fit_is_refused(wine: Arrays) -> None:
    torch = pytest.importorskip("torch")
    model = quick().fit(torch.asarray(wine[0]), torch.asarray(wine[1]))
    with pytest.raises(ValueError, match=r"predict_proba\(\) must use the same namespace .* torch on cpu, not numpy"):
        model.predict_proba(wine[0])


def test_without_dispatch_everything_becomes_numpy(wine: Arrays) -> None:
    torch = pytest.importorskip("torch")
    model = quick().fit(torch.asarray(wine[0]), torch.asarray(wine[1]))
    assert isinstance(model.predict(torch.asarray(wine[0])), np.ndarray)
    assert isinstance(model.classes_, np.ndarray)


@pytest.mark.parametrize("switch", [False, True])
@pytest.mark.parametrize("backend", ["numpy", "torch:cpu"])
@pytest.mark.parametrize("standardize", [None, False])
def test_bfloat16_is_read_as_float32(
    switch: bool, backend: str, standardize: bool | None, wine: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = torch.asarray(wine[0] / wine[0].std(axis=0)).bfloat16(), torch.asarray(wine[1])
    options = {"standardize": standardize, "backend": backend, "dtype": "float32"}
    with config_context(array_api_dispatch=switch):
        model = quick(**options).fit(X.requires_grad_(), y, sample_weight=torch.ones(len(y)).bfloat16())
        expected = quick(**options).fit(X.detach().float(), y)
        np.testing.assert_array_equal(to_host(model.predict_proba(X)), to_host(expected.predict_proba(X.float())))
        assert model.partial_fit(X, y).score(X, y) > 0.5
