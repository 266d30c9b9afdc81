"""A reproduction compiles its kernels beside the extraction where the host has time for it, with the same results."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fastmlp import report
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.cli import main as command
from fastmlp.cli.main import main
from fastmlp.common.errors import BackendError
from fastmlp.experiments import models

COMMAND = [
    *("reproduce", "--dataset", "synthetic:60", "--extractor", "pixels", "--epochs", "2"),
    *("--backend", "numpy", "--threads", "1", "--quiet"),
]

pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """Those that warm up, on a backend that computes beside the host."""
    found: list[threading.Thread] = []
    warm_up = models.__dict__["warm_up"]

    def noted(*arguments: Any) -> None:
        found.append(threading.current_thread())
        warm_up(*arguments)

    monkeypatch.setattr(NumpyBackend, "beside_host", True)
    monkeypatch.setattr(models, "warm_up", noted)
    return found


def test_it_changes_no_result_and_all_time_is_told(
    threads: list[threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = time.monotonic()
    monkeypatch.setattr(command, "BEGUN", begun)
    assert main([*COMMAND, "--out", "beside"]) == 0
    elapsed = time.monotonic() - begun
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
    monkeypatch.setattr(NumpyBackend, "beside_host", False)
    assert main([*COMMAND, "--out", "alone"]) == 0
    assert len(threads) == 1
    beside, alone = (json.loads(Path(out, "results.json").read_text()) for out in ("beside", "alone"))
    assert beside["table1"] == alone["table1"]
    stages = sum(value for stage, value in beside["seconds"].items() if stage != "total")
    assert 0.8 * elapsed < stages < 1.01 * elapsed
    assert set(beside["seconds"]) - set(alone["seconds"]) == {"augment"}  # whose features are stored by then


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_figure_that_cannot_be_drawn_there_ends_the_command(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn_by: list[threading.Thread] = []

    def fails(*_: object) -> None:
        drawn_by.append(threading.current_thread())
        raise error

    monkeypatch.setattr(report, "draw_first", fails)
    assert main([*COMMAND, "--out", "run"]) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert len(told := capsys.readouterr().err.splitlines()) == 1
    assert "No space left on device" in told[0] or "--resume" in told[0]
    (thread,) = drawn_by
    assert thread is not threading.main_thread()
    assert not Path("run/results.json").exists()


def test_what_fails_there_ends_the_command(
    threads: list[threading.Thread], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise BackendError("The GPU is full: end other programs on it.")

    monkeypatch.setattr(models, "warm_up", full)
    assert main([*COMMAND, "--out", "beside"]) == 3
    assert capsys.readouterr().err == "fastmlp: The GPU is full: end other programs on it.\n"
    assert not threads
