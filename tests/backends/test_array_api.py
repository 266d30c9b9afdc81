"""The shared array code needs nothing but the array API standard, and importing it pulls in no array library but NumPy.

StrictBackend is also the example of a backend from another package: a class, and an entry point in `fastmlp.backends`.
"""

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import array_api_strict
import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp import augment, backends
from fastmlp.backends import Availability, Backend, open_backend
from fastmlp.common.errors import UsageError
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import Trainer
from fastmlp.ops import Array
from fastmlp.testing import check_backend


class StrictBackend(Backend):
    """The array API standard and nothing beside it: what it does not promise raises an error."""

    name = "strict"
    xp = array_api_strict

    @classmethod
    def probe(cls) -> Availability:
        return Availability(True, details={"array-api-strict": array_api_strict.__version__})

    def asarray(self, array: NDArray[Any]) -> Array:
        return array_api_strict.asarray(array)

    def to_numpy(self, array: Array) -> NDArray[Any]:
        return np.asarray(array)

    def set_threads(self, threads: int) -> None:
        """It has one."""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point that another package's pyproject.toml would have."""
    point = EntryPoint("strict", f"{__name__}:StrictBackend", backends.ENTRY_POINTS)
    monkeypatch.setattr(backends, "entry_points", lambda group: [point] if group == backends.ENTRY_POINTS else [])


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_the_standard_is_all_that_ops_steps_and_runs_need(seed: int) -> None:
    report = check_backend("strict", seed=seed)
    report.raise_for_failures()
    assert not report.having("skipped")


@pytest.mark.usefixtures("registered")
def test_an_entry_point_registers_a_backend() -> None:
    assert "strict" in backends.names()
    assert isinstance(open_backend("strict"), StrictBackend)
    with pytest.raises(UsageError, match=r"choose one of auto, numpy, numba, torch, cupy, strict\."):
        open_backend("lax")


def test_a_backend_without_kernels_runs_array_code() -> None:
    tier = choose_tier((4, 3), "float32", StrictBackend())
    assert tier.tier is Tier.ARRAY_CODE
    assert str(tier).startswith("Tier 1, array code: ")
    assert "strict has no kernel for bias_relu" in tier.reason


def test_network_on_the_standard_evaluates_and_predicts() -> None:
    backend, rng = StrictBackend(), np.random.default_rng(0)
    trainer = Trainer(initial_parameters((6, 5, 4), "he"), backend, 16)
    features, labels = rng.standard_normal((2100, 6)).astype("f4"), rng.integers(0, 4, 2100)
    logits = trainer.logits(backend.asarray(features))
    loss, accuracy = trainer.evaluate(backend.asarray(features), backend.asarray(labels))
    assert accuracy == np.mean(logits.argmax(axis=1) == labels)
    log_sums = np.log(np.exp(logits.astype("f8")).sum(axis=1))
    assert loss == pytest.approx(np.mean(log_sums - logits[np.arange(2100), labels]), rel=1e-5)


def test_augmentations_take_arrays_of_the_standard() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, 9, 9), dtype=np.uint8)
    for run in (
        lambda x: augment.crop(x, 1, 8),
        lambda x: augment.rotate(x, [0, 17, 90, -200]),
        lambda x: augment.rotate(x, [0, 17, 90, -200], method="shear"),
        lambda x: augment.cutout(x, 2, -1, 4),
        lambda x: augment.contrast(x, 1.4),
        lambda x: augment.hflip(x, [True, False, True, True]),
    ):
        got = run(array_api_strict.asarray(images))
        assert isinstance(got, type(array_api_strict.asarray(images)))
        np.testing.assert_array_equal(np.asarray(got), run(images))


HEAVY = ("torch", "cupy", "numba", "sklearn", "scipy", "matplotlib", "torchvision", "timm", "PIL", "rich", "requests")


@pytest.mark.parametrize(
    "module", ["fastmlp", "fastmlp.network", "fastmlp.augment", "fastmlp.backends", "fastmlp.testing"]
)
def test_importing_pulls_in_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert found == []
