"""A run is saved once a second at most, and where it is interrupted, always as it was between two epochs."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastmlp.cli.main import main
from fastmlp.models import storage
from fastmlp.training import run
from fastmlp.training.samples import Samples

COMMAND = ["--dataset", "synthetic:200", "--extractor", "pixels", "--backend", "numpy", "--threads", "1"]
COMMAND += ["--epochs", "8", "--out", "run"]
CHECKPOINT = Path("run/original/checkpoint.safetensors")
MODEL = Path("run/original/model.safetensors")


pytestmark = pytest.mark.usefixtures("own_folders")


def interrupt_within(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, KeyboardInterrupt when half the batches of that epoch are trained."""
    real, count = Samples.train_epoch, 0

    def counted(samples, networks, orders, rates):
        nonlocal count
        count += 1
        if count < epoch:
            return real(samples, networks, orders, rates)
        half = len(rates[0]) // 2
        rows = [order[: half * networks[0].batch_size] for order in orders]
        real(samples, networks, rows, [rate[:half] for rate in rates])
        raise KeyboardInterrupt

    monkeypatch.setattr(Samples, "train_epoch", counted)


@pytest.mark.parametrize("preset", ["paper", "fast"])
@pytest.mark.parametrize("epoch", [2, 5])
def test_an_interrupt_within_an_epoch_loses_only_that_epoch(
    epoch: int, preset: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *COMMAND, "--preset", preset]
    assert main(command) == 0
    whole = MODEL.read_bytes()
    MODEL.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", math.inf)
        interrupt_within(epoch, patch)
        assert main(command) == 130
    _, about, _ = storage.load(CHECKPOINT)
    assert about["history"]["epoch"] == list(range(1, epoch))
    capsys.readouterr()

    assert main([*command, "--resume"]) == 0
    assert f"after epoch {epoch - 1}." in capsys.readouterr().err
    assert MODEL.read_bytes() == whole
    assert not CHECKPOINT.exists()


def test_an_interrupt_before_the_first_epoch_leaves_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_within(1, monkeypatch)
    assert main(["train", *COMMAND]) == 130
    assert not CHECKPOINT.exists()


def test_it_is_saved_after_the_first_epoch_and_then_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    saved, now = [], 0.0

    def save(_: object, about: dict[str, Any], path: Path, __: object = None) -> None:
        if path.name == CHECKPOINT.name:
            saved.append(len(about["history"]["epoch"]))

    def clock() -> float:
        nonlocal now
        now += 0.25  # which is asked once an epoch, and once more when it has saved
        return now

    monkeypatch.setattr(storage, "save", save)
    monkeypatch.setattr("fastmlp.training.run.time", SimpleNamespace(monotonic=clock))
    assert main(["train", *COMMAND]) == 0
    assert saved == [1, 5]
