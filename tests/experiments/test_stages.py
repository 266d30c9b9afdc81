"""The time of a run: every part of it belongs to a stage, one stage at a time."""

import functools
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastmlp import augment, datasets, report
from fastmlp.common import clock
from fastmlp.experiments import engines, feature_sets, machine, models, results
from fastmlp.experiments.config import Config
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.reproduce import reproduce
from fastmlp.models import folder, metrics
from fastmlp.models.trained_rows import TrainedRows
from fastmlp.training.checkpoint import ModelFolders
from fastmlp.training.run import Run

LONG = 1000.0  # seconds, beside which the work itself is nothing

# The parts of a reproduction: where each is found, and the stage that it belongs to.
PARTS: list[tuple[Any, str, str]] = [
    (machine, "open_backend", "start"),
    (datasets, "load", "data"),
    (feature_sets, "row_hashes", "identify"),
    (TrainedRows, "of", "identify"),
    (engines, "open_extractor", "open_extractor"),
    (feature_sets, "open_or_extract", "extract"),
    (augment, "draw", "augment"),
    (augment, "apply", "augment"),
    (models, "joined", "prepare"),
    (models, "placed", "prepare"),
    (models, "scaling_of", "prepare"),
    (ModelFolders, "begin", "prepare"),
    (Run, "train", "train"),
    (folder, "write", "write"),
    (models.Models, "table_rows", "evaluate"),
    (metrics, "evaluate", "evaluate"),
    (results, "node_at_work", "evaluate"),
    (results, "write_json", "write"),
    (report, "draw", "report"),
    (report, "write", "report"),
]

pytestmark = pytest.mark.usefixtures("own_folders")


class SlowParts:
    """Makes every part take long, by a clock that jumps when one is called within no other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jumped, self.spent = 0.0, Counter[str]()
        self.within: list[str] = []
        monotonic = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + self.jumped)
        for owner, name, stage in PARTS:
            own = owner.__dict__[name]
            slowed = self.slowed(getattr(owner, name), stage)
            monkeypatch.setattr(owner, name, staticmethod(slowed) if isinstance(own, classmethod) else slowed)

    def slowed(self, part: Any, stage: str) -> Any:
        @functools.wraps(part)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.spend(self.within[-1] if self.within else stage)
            self.within.append(stage)
            try:
                return part(*args, **kwargs)
            finally:
                self.within.pop()

        return run

    def spend(self, stage: str) -> None:
        self.jumped += LONG
        self.spent[stage] += 1


def test_every_part_of_a_run_is_in_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = SlowParts(monkeypatch)
    options: dict[str, Any] = {"dataset": "synthetic:100", "extractor": "pixels", "backend": "numpy", "epochs": 1}
    seconds = reproduce(Config(**options, threads=1, out=Path("run")), time.monotonic())["seconds"]
    total, found = seconds.pop("total"), Counter[str]()
    for stage, value in seconds.items():
        found[stage.partition("_")[0] if stage.startswith("train_") else stage] += round(value / LONG)
    drawn = parts.spent["augment"] - found["augment"]  # the sheet of samples, which the report draws
    assert drawn == 5
    expected = parts.spent + Counter(report=drawn) - Counter(augment=drawn)
    assert found == expected
    assert {stage for *_, stage in PARTS} == set(expected)
    assert sum(seconds.values()) == pytest.approx(total, abs=1)


def test_stages_within_one_another_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    on = Machine("numpy", 1)
    with on.timed("outer"):
        now += 1
        with on.timed("inner"):
            now += 10
            clock.compiling_begins()
            now += 1000
            clock.compiling_ends()
            assert on.seconds_so_far()["inner"] == 10
        with on.timed("outer"):
            now += 100
    with pytest.raises(KeyboardInterrupt), on.timed("outer"):
        raise KeyboardInterrupt
    now += 10_000
    with on.timed("inner"):
        now += 100_000
    assert on.seconds_so_far() == {"start": 0, "outer": 101, "inner": 100_010, "compile": 1000, "total": 111_111}
