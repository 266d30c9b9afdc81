"""The registry: what is known, what is chosen, what is refused, and with which words."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastmlp import backends
from fastmlp.backends import Availability, names, open_backend, probe
from fastmlp.backends.cupy import CupyBackend
from fastmlp.backends.numpy import NumpyBackend, blas
from fastmlp.common.errors import BackendError, UsageError
from fastmlp.network.network import Network
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.trainer import Trainer
from fastmlp.ops import overridden
from fastmlp.ops.network import NetworkOps


def test_ours_are_registered_first() -> None:
    assert names()[:4] == ["numpy", "numba", "torch", "cupy"]


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no backend 'jax': choose one of auto, numpy, numba, torch, cupy"):
        open_backend("jax")


def test_auto_takes_the_first_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    working = {"numba", "numpy"}
    monkeypatch.setattr(backends, "probe", lambda name: Availability(name in working, "broken", "fix it"))
    monkeypatch.setattr(backends, "_class_of", Named)
    assert open_backend("auto").name == "numba"
    working.discard("numba")
    assert open_backend("auto").name == "numpy"


class Named:
    """Stands in for a backend class: opening it gives something with its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, device: str | None) -> "Named":
        return self


def test_an_explicit_backend_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CupyBackend, "probe", classmethod(lambda cls: Availability(False, "No driver.", "Install one."))
    )
    with pytest.raises(BackendError, match=r"Backend cupy cannot run here. No driver. Install one."):
        open_backend("cupy")


def test_a_backend_whose_library_is_missing_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> type:
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(backends, "_class_of", missing)
    availability = probe("torch")
    assert not availability.usable
    assert "No module named 'torch'" in availability.reason
    assert "pip install 'fastmlp[torch]'" in availability.fix


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(BackendError, match="numpy has no device 'cuda'"):
        open_backend("numpy:cuda")
    pytest.importorskip("torch")
    with pytest.raises(BackendError, match="torch:cpu"):
        open_backend("torch:nonsense")


def test_threads_limit_blas() -> None:
    with threadpool_limits():  # puts everything back at the end
        open_backend("numpy", threads=1)
        assert blas_threads() == {1}


def test_an_op_that_a_backend_overrides_is_its_own_and_the_others_are_array_code() -> None:
    class Tripling(NetworkOps):
        def add_bias(self, z: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
            out[...] = 3 * z

    assert list(overridden(Tripling(NumpyBackend.xp), NetworkOps)) == ["add_bias"]
    out = np.zeros((1, 2))
    Tripling(NumpyBackend.xp).dense(np.ones((1, 3)), np.ones((3, 2)), np.ones(2), out)
    assert out.tolist() == [[9, 9]]
    NetworkOps(NumpyBackend.xp).dense(np.ones((1, 3)), np.ones((3, 2)), np.ones(2), out)
    assert out.tolist() == [[4, 4]]


def test_opening_numpy_imports_no_other_engine() -> None:
    code = (
        "import sys; from fastmlp.backends import open_backend; open_backend('numpy', 1); "
        "print(sorted({'torch', 'cupy', 'numba', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def blas_threads() -> set[int]:
    """Of NumPy's BLAS; what SciPy or PyTorch bring is not ours to limit."""
    return {pool["num_threads"] for pool in blas().info()}


@pytest.mark.parametrize(("width", "expected"), [(64, 1), (4096, 2)])
def test_small_products_train_on_one_thread(width: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads gain little on a product of 64 x 512 x 64, and wait for each other where a core is busy."""
    seen = []
    monkeypatch.setattr(Network, "update", lambda *_: seen.append(blas_threads()))
    with threadpool_limits():
        backend = open_backend("numpy", threads=2)
        assert blas_threads() == {2}
        trainer = Trainer(initial_parameters((512, width, 10)), backend, 64)
        trainer.train_epoch(np.zeros((64, 512), np.float32), np.zeros(64, np.int64), np.arange(64), np.full(1, 0.1))
        assert seen == [{expected}]
        assert blas_threads() == {2}


def in_a_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_any_thread_may_limit_blas() -> None:
    """threadpoolctl 3.8 obeys the thread that first set a limit, and in silence no other."""
    before = blas_threads()
    with threadpool_limits(3, user_api="blas"):
        backend = in_a_thread(lambda: open_backend("numpy", threads=2))
        assert blas_threads() == {2}

        def within() -> set[int]:
            with backend.one_thread():
                return blas_threads()

        assert in_a_thread(within) == {1}
        assert blas_threads() == {2}
    assert blas_threads() == before


def test_blas_gets_its_threads_back_whichever_thread_leaves_last() -> None:
    with threadpool_limits(3, user_api="blas"), ThreadPoolExecutor(1) as other:
        backend = open_backend("numpy", threads=2)
        outer, inner = backend.one_thread(), backend.one_thread()
        outer.__enter__()
        other.submit(inner.__enter__).result()
        outer.__exit__(None, None, None)
        assert blas_threads() == {1}
        other.submit(inner.__exit__, None, None, None).result()
        assert blas_threads() == {2}


def test_torch_gets_its_threads_back() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    backend = open_backend("torch:cpu", threads=2)
    try:
        with backend.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
