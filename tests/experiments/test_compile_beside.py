"""A reproduction compiles its kernels beside the extraction where the host has time for it, with the same results."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from fastmlp.backends.numpy import NumpyBackend
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


def test_it_changes_no_result(threads: list[threading.Thread], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*COMMAND, "--out", "beside"]) == 0
    (thread,) = threads
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
    monkeypatch.setattr(NumpyBackend, "beside_host", False)
    assert main([*COMMAND, "--out", "alone"]) == 0
    assert len(threads) == 1
    tables = [json.loads(Path(out, "results.json").read_text())["table1"] for out in ("beside", "alone")]
    assert tables[0] == tables[1]


def test_what_fails_there_ends_the_command(
    threads: list[threading.Thread], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise BackendError("The GPU is full: end other programs on it.")

    monkeypatch.setattr(models, "warm_up", full)
    assert main([*COMMAND, "--out", "beside"]) == 3
    assert capsys.readouterr().err == "fastmlp: The GPU is full: end other programs on it.\n"
    assert not threads
