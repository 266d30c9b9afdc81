"""A run killed by SIGKILL in any stage, then resumed, ends with the same bytes as a run never killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import quick

COMMAND = ["reproduce", "--dataset", "synthetic:400", "--extractor", "patches", "--epochs", "40"]
COMMAND += ["--backend", "numpy", "--threads", "1"]
pytestmark = pytest.mark.usefixtures("heed_interrupts")
WEIGHTS = ("original/model.safetensors", "augmented/model.safetensors")


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command with its cache and its output in folder."""
    environment = {**os.environ, "FASTMLP_CACHE_DIR": str(folder / "cache")}
    command = [*quick.COMMAND, *COMMAND, "--out", str(folder / "out"), *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    return log


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    finish(start(folder))
    return folder


def extracting(folder: Path) -> bool:
    return any((folder / "cache/features").glob("*.partial"))


def second_store(folder: Path) -> bool:
    names = [path.name for path in (folder / "cache/features").glob("*")]
    return any("augmented" in name and name.endswith(".partial") for name in names)


def training_original(folder: Path) -> bool:
    return (folder / "out/original/checkpoint.safetensors").exists()


def training_augmented(folder: Path) -> bool:
    return (folder / "out/augmented/checkpoint.safetensors").exists()


def reporting(folder: Path) -> bool:
    return (folder / "out/augmented/model.safetensors").exists()


def kill_when(reached: Callable[[Path], bool], process: subprocess.Popen[str], folder: Path) -> None:
    while not reached(folder):
        assert process.poll() is None, f"the run ended before {reached.__name__}"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("stage", [extracting, second_store, training_original, training_augmented, reporting])
def test_killed_then_resumed_gives_the_same_weights(
    stage: Callable[[Path], bool], unbroken: Path, tmp_path: Path
) -> None:
    shutil.copytree(unbroken / "cache/codebooks", tmp_path / "cache/codebooks")  # learning has a test of its own
    kill_when(stage, start(tmp_path), tmp_path)
    assert not (tmp_path / "out/results.json").exists()

    finish(start(tmp_path, "--resume"))
    for name in WEIGHTS:
        assert (tmp_path / "out" / name).read_bytes() == (unbroken / "out" / name).read_bytes(), name
    tables = [json.loads((folder / "out/results.json").read_text())["table1"] for folder in (tmp_path, unbroken)]
    assert tables[0] == tables[1]
    assert not list((tmp_path / "out").rglob("checkpoint.safetensors"))


@pytest.mark.slow
def test_killed_while_learning_patches(unbroken: Path, tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Backend")
    process.kill()
    process.communicate()
    assert not list(tmp_path.glob("cache/codebooks/*.safetensors"))

    finish(start(tmp_path, "--resume"))
    for name in WEIGHTS:
        assert (tmp_path / "out" / name).read_bytes() == (unbroken / "out" / name).read_bytes(), name


@pytest.mark.slow
def test_interrupt_leaves_a_state_that_resumes(unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken / "cache", tmp_path / "cache")
    process = start(tmp_path)
    while not training_original(tmp_path):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in log
    assert "Traceback" not in log

    assert "Resuming" in finish(start(tmp_path, "--resume"))
    for name in WEIGHTS:
        assert (tmp_path / "out" / name).read_bytes() == (unbroken / "out" / name).read_bytes(), name


@pytest.mark.slow
def test_a_second_run_reuses_the_features_and_says_so(unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken / "cache", tmp_path / "cache")
    log = finish(start(tmp_path))
    assert log.count("Reusing the") == 3
    for name in WEIGHTS:
        assert (tmp_path / "out" / name).read_bytes() == (unbroken / "out" / name).read_bytes(), name
