"""scikit-learn's own tests of its MLPs, as they are installed, with the accelerator in place."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sklearn.neural_network.tests import test_mlp

import fastmlp.accel
from fastmlp.accel import refusal

TESTS: dict[str, Any] = {name: test for name, test in vars(test_mlp).items() if name.startswith("test_")}
globals().update(TESTS)
pytestmark = pytest.mark.filterwarnings("default")  # their tests ignore what they expect one by one, or not at all


@pytest.fixture(autouse=True)
def accelerated(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ours trains all that their tests fit."""
    monkeypatch.setattr(refusal, "_said", set())
    with caplog.at_level(logging.WARNING, "fastmlp.accel"):
        fastmlp.accel.install("numpy")
        yield
        fastmlp.accel.uninstall()
    assert not caplog.records


@pytest.fixture
def global_random_seed() -> int:
    """Of scikit-learn's conftest."""
    return 42


def test_there_are_tests() -> None:
    assert len(TESTS) > 30
