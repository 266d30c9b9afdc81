"""The problem of a probe: every training of a protocol, the choice, and the test of the chosen head."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_files import FileFeatures, Tables, tables_of
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.probe import find_best
from fastmlp.experiments.protocols import PROTOCOLS, Protocol
from fastmlp.features.tables import table_of
from fastmlp.testing.tolerances import RUN_ACCURACY

from .contenders import Problem

SIZES = "FASTMLP_BENCH_PROBE"  # rows x features x classes, such as 50000x512x10
DEFAULT, SMOKE = "4000x64x10", "300x16x3"
TEST_ROWS = 10_000
TRAININGS = {"sgd-grid": 14, "decay-grid": 20, "logistic": 46}  # of those who run them, the last one's on all rows


@dataclass(frozen=True, kw_only=True)
class Probing(Problem):
    """Features float32 (n, d) and labels int64 (n,) to train and to test on, and the protocol."""

    protocol: Protocol
    tables: Tables
    epochs: int | None = None  # instead of the protocol's, in a smoke run

    @cached_property
    def reference(self) -> dict[str, Any]:
        """What our probe chooses, with its accuracy on the test rows, on NumPy."""
        return found("numpy", self)["chosen"]

    def check(self, what: str, result: float) -> None:
        """Check the accuracy of the chosen head, on the test rows, to 0.3 points."""
        if not abs(result - self.reference["test_accuracy"]) <= RUN_ACCURACY:
            raise AssertionError(f"{what}: accuracy {result}, but {self.reference['test_accuracy']} by NumPy")


def found(backend: str, problem: Probing) -> dict[str, Any]:
    """What our probe finds, without its reports."""
    epochs = None if problem.protocol.strengths else problem.epochs
    with TemporaryDirectory() as folder:
        config = Config(
            backend=backend, threads=problem.threads, out=Path(folder), protocol=problem.protocol, epochs=epochs
        )
        features = FileFeatures(problem.tables, config)
        return find_best(config, Machine(backend, problem.threads), "features", features)


def draw_probing(name: str, threads: int, smoke: bool) -> Probing:
    """A protocol on drawn features, of the default sizes or of those in the environment."""
    rows, inputs, classes = map(int, (SMOKE if smoke else os.environ.get(SIZES, DEFAULT)).split("x"))
    rng = np.random.default_rng([rows, inputs, classes])
    centres = rng.standard_normal((classes, inputs), dtype=np.float32) * np.float32(2 / np.sqrt(inputs))
    train, test = (_drawn(rng, centres, count) for count in (rows, TEST_ROWS))
    place = Path("features")
    tables = tables_of(table_of(*train, place), place, 0, table_of(*test, place), place)
    return Probing(
        suite="probe",
        threads=threads,
        title=f"{name}, {rows:,} x {inputs}, {classes:,} classes, float32",
        unit="training",
        units=TRAININGS[name],
        rounds=1,
        protocol=PROTOCOLS[name],
        tables=tables,
        epochs=2 if smoke else None,
    )


def _drawn(rng: np.random.Generator, centres: NDArray[np.float32], rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Noise around the centre of each class, every class at least twice."""
    labels = rng.permutation(np.arange(rows) % len(centres))
    return centres[labels] + rng.standard_normal((rows, centres.shape[1]), dtype=np.float32), labels
