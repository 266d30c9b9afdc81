"""Fixtures that all tests share: the backends that run here, the seed, and where real CIFAR-10 lies."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from fastmlp.backends import Backend
from fastmlp.backends.base import Kernel
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.extractors.pixels import Pixels
from fastmlp.network.optimizers import OPTIMIZERS
from fastmlp.ops import names_of
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps
from fastmlp.testing.emulated import EmulatedBackend
from tests.opened import BACKENDS, opened

CIFAR10 = "cifar-10-batches-bin"

# The same examples every time, however slow the machine: a failure must repeat.
settings.register_profile("fastmlp", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("fastmlp")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="seed of all random inputs (default: 0)")


def pytest_configure() -> None:
    """One thread for libraries and programs that tests load and start, unless the environment says otherwise.

    Small arrays gain nothing from a second one, and lose most of their time waiting for it on a busy machine.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("PYTEST_XDIST_WORKER", None)  # a pytest that a test starts is not one of the workers
    if EmulatedBackend.probe().usable:
        EmulatedBackend().empty((1,), "float32")  # the sanitizer comes before libraries that take its memory
    os.environ.setdefault("SCIPY_ARRAY_API", "1")  # scikit-learn 1.6 asks for it before SciPy is loaded


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs on the emulated GPU is slow: its CUDA sources are compiled, with sanitizers.

    First come the tests that are marked slow one by one: begun late, one of a minute or two would keep a single worker.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if is_emulated(item):
            item.add_marker(pytest.mark.slow)


def is_emulated(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    names = [value for value in parameters.values() if isinstance(value, str)]  # an array would be compared as a whole
    return EmulatedBackend.name in names or "can_emulate" in getattr(item, "fixturenames", ())


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('--seed')} (change it with --seed N)"


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a cache of the test's own, and no other option from the environment."""
    for name in [name for name in os.environ if name.startswith("FASTMLP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """48 pixels of an image for its 3,072: emulated kernels take a hundredth of the time."""
    whole = Pixels.__call__
    monkeypatch.setattr(Pixels, "__call__", lambda self, images: whole(self, images[:, :, ::8, ::8]))
    monkeypatch.setattr(Pixels, "features", 48)


@pytest.fixture(scope="module")
def heed_interrupts() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C, and so would all that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """NumPy, which is loaded by now, takes one thread too."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def can_emulate() -> None:
    """Skips what needs an emulated GPU where there is no compiler for it."""
    found = opened(EmulatedBackend.name)
    if isinstance(found, str):
        pytest.skip(found)


@pytest.fixture(scope="module")
def emulated(can_emulate: None) -> EmulatedBackend:
    """The CUDA backend on an emulated GPU, which a module may change by monkeypatch."""
    return EmulatedBackend()


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each of our backends, opened; one that cannot run here is skipped, with its reason."""
    found = opened(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def backend_with() -> Callable[..., Backend]:
    """backend_with(op=kernel, ...): NumPy, but with these kernels, to plant bugs in."""

    def make(**planted: Kernel) -> Backend:
        def with_planted(array_code: type, **attributes: Any) -> Any:
            own = {op: staticmethod(kernel) for op, kernel in planted.items() if op in names_of(array_code)}
            return type("Planted", (array_code,), own | attributes)(NumpyBackend.xp)

        class Planted(NumpyBackend):
            name = "planted"
            image_kernels = planted
            network_ops = with_planted(NetworkOps, optimizers=frozenset(OPTIMIZERS if "update" in planted else ()))
            patch_ops = with_planted(PatchOps)

        return Planted()

    return make


@pytest.fixture(scope="session")
def cifar10_folder() -> Path:
    """A folder that holds real CIFAR-10's binary files: $FASTMLP_DATA_DIR, or one in ../shared."""
    shared = Path(__file__).parents[2] / "shared"
    named = os.environ.get("FASTMLP_DATA_DIR")
    for folder in (*([Path(named)] if named else []), shared, shared / "cifar10"):
        if (folder / CIFAR10).is_dir():
            return folder / CIFAR10
    pytest.skip(f"no {CIFAR10}/ in $FASTMLP_DATA_DIR or ../shared: set FASTMLP_DATA_DIR to the folder that holds it")
