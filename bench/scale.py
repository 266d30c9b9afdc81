"""What `--memory` costs in memory, time and accuracy: python -m fastmlp.bench.scale.

`--gigabytes` of features, or `--rows` of them, are written to shards, and trained on with and without `--memory`, each
in a process of its own, which has trained on a few rows before. How much more it then holds is Linux's own count of its
peak; with `--memory` it is refused any more (RLIMIT_DATA), the report included.
`--heads` train beside each other on one reading, from as many seeds. `--out` draws both costs against the rows, in a
report like that of `fastmlp bench`. With `--features` and others, rows of which each shard has one class are trained on
in windows of `--share` of all rows, and in memory, from several seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends import open_backend
from fastmlp.common.environment import available_cores
from fastmlp.common.progress import quietly
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_files import HEAD, FileFeatures, open_tables
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.experiments.results import judge
from fastmlp.experiments.sweep import Grid, sweep
from fastmlp.experiments.train import train_one
from fastmlp.features.shard_files import write_manifest, write_shard
from fastmlp.features.streamed import ROW_STATE, WINDOWS

from .report import write
from .results import Measurement, append, commit, machine, new_run, summary

CLASSES, SHARD_NUMBERS = 10, 5_120_000
FEW = 2_000  # rows that a process trains on first, in memory and then in windows
HOW = "Each ran once, in a process of its own that had trained on a few rows before. Memory is what it then held more."
STACK = 2**20  # bytes of a thread's stack, which count whole


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fastmlp.bench.scale", description=(__doc__ or "").split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of features (%(default)s)")
    parser.add_argument("--rows", type=int, nargs="+", help="instead of them; several to see how the cost grows")
    parser.add_argument("--width", type=int, default=512, help="features of a row (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=100, help="of them that may be held (%(default)s)")
    parser.add_argument("--heads", type=int, default=1, help="trained beside each other on one reading (%(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--share", type=float, default=0.05, help="of the rows in a window (%(default)s)")
    parser.add_argument("--preset", help="(tabular; of accuracies fast)")
    parser.add_argument("--seeds", type=int, default=3, help="of the accuracies (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write results.jsonl and a report of the costs there")
    names = ("features", "labels", "test-features", "test-labels")
    for name in names:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help="to measure accuracies on, all four")
    options = parser.parse_args()
    files = [getattr(options, name.replace("-", "_")) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        measured = accuracies(Path(folder), [np.load(file) for file in files], options) if all(files) else None
        for row in measured or costs(Path(folder), options):
            print(json.dumps(row), flush=True)


def train(features: Path, test_features: Path | None, config: Config, report: bool = True) -> dict[str, Any]:
    """A run's results."""
    files = (features, None, test_features, None)
    tables = open_tables(*files, config.seed, streamed=config.memory is not None)
    machine, feature_set = Machine(config.backend, config.threads), FileFeatures(tables, config)
    with quietly():
        if report:
            return train_one(config, machine, HEAD, feature_set)
        models = Models(config, machine, {HEAD: feature_set})
        return judge(models, HEAD, models.train()[HEAD], config.folder / HEAD)


# Memory and time.


def costs(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Of runs within the memory, and of those that hold all rows."""
    width, preset = options.width, options.preset or "tabular"
    config = Config(preset=preset, epochs=options.epochs, seeds=options.heads, out=folder / "out")
    run, measurements = new_run(), list[Measurement]()
    write_drawn(folder / "few", FEW, width)
    for rows in options.rows or [int(options.gigabytes * 10**9 / (4 * width))]:
        write_drawn(folder / "many", rows, width)
        for memory in (options.megabytes * 10**6, None):
            measured = in_own_process(folder, replace(config, memory=memory))
            yield {"rows": rows, "width": width, "memory": memory, **measured}
            measurements.append(_as_growth(run, rows, replace(config, memory=memory), measured))
        shutil.rmtree(folder / "many")
    if options.out is not None:
        append(options.out / "results.jsonl", measurements)
        write(measurements, options.out, HOW)


def _as_growth(run: str, rows: int, config: Config, measured: Mapping[str, Any]) -> Measurement:
    """What was measured, as the benchmark suite has it."""
    backend, memory = open_backend(config.backend), config.memory
    return Measurement(
        run=run,
        commit=commit(),
        machine=machine(),
        threads=available_cores(),
        smoke=False,
        suite="growth",
        title=f"training by the preset {config.preset}, {config.seeds} seeds",
        unit="epoch",
        contender=f"fastmlp {backend}" + ("" if memory is None else f", --memory {memory / 10**6:g}MB"),
        kind="ours",
        axis="rows in shards",
        value=rows,
        seconds=summary([measured["train_seconds"] / config.recipe.epochs]),
        rounds=1,
        peak=measured["held_more"],
    )


def in_own_process(folder: Path, config: Config, report: bool = True) -> dict[str, Any]:
    """What training on the many rows in the folder costs a process that has trained on the few.

    report: draw it too.
    """
    context = multiprocessing.get_context("spawn")  # a fork would start with this process's memory
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(folder, config, report, sending))
    process.start()
    sending.close()
    try:
        return receiving.recv()
    finally:
        process.join()


def _measure(folder: Path, config: Config, report: bool, sending: Any) -> None:
    threading.stack_size(STACK)
    few = replace(config, memory=None)
    _trained(folder / "few", few, report)  # compiles, and loads what draws the report
    if config.memory is not None:
        _trained(folder / "few", replace(few, memory=_too_little(folder / "few")), report)
        resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + config.memory, resource.RLIM_INFINITY))
    before, clock, cpu = _status("VmRSS"), time.perf_counter(), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    figures = _trained(folder / "many", config, report)
    seconds = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    sending.send({"held_more": _status("VmHWM") - before, **seconds, **figures})


def _too_little(features: Path) -> int:
    """Bytes in which these few rows do not fit."""
    return ROW_STATE * FEW + sum(path.stat().st_size for path in features.iterdir())


def _trained(features: Path, config: Config, report: bool) -> dict[str, Any]:
    """Figures of a run, and the seconds of its training alone; of several seeds those of a sweep's candidates."""
    if config.seeds == 1:
        results = train(features, None, config, report)
        return {"train_seconds": results["seconds"]["train_head"], **results["figures"]}
    tables = open_tables(features, None, None, None, config.seed, streamed=config.memory is not None)
    with quietly():
        machine = Machine(config.backend, config.threads)
        grid = Grid.around(config.recipe, [config.recipe.learning_rate], [0.0])
        results = sweep(config, machine, HEAD, FileFeatures(tables, config), grid)
    return {"train_seconds": results["seconds"]["sweep"], "heads": results["heads"]}


def write_drawn(folder: Path, rows: int, width: int) -> None:
    """Shards of normal rows around a centre for each class, sorted by class."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    centres, entries = 0.12 * rng.standard_normal((CLASSES, width), np.float32), []
    shard = SHARD_NUMBERS // width
    for number, start in enumerate(range(0, rows, shard)):
        labels = np.arange(start, min(start + shard, rows)) * CLASSES // rows
        features = rng.standard_normal((len(labels), width), np.float32) + centres[labels]
        entries.append(write_shard(folder, number, features, labels))
    write_manifest(folder, entries)


def _status(name: str) -> int:
    """Bytes of this process, by Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


# Accuracy.


def accuracies(folder: Path, arrays: list[NDArray[Any]], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """In windows and in memory, from each seed."""
    X, y, test_X, test_y = arrays
    order = np.argsort(y, kind="stable")
    _write(folder / "train", X[order], y[order], len(y) // 100)
    _write(folder / "test", test_X, test_y, len(y) // 100)
    window = int(options.share * len(y))
    memory = WINDOWS * window * 4 * X.shape[1] + ROW_STATE * (len(y) + len(test_y))
    for seed in range(options.seeds):
        config = Config(preset=options.preset or "fast", seed=seed, out=folder / "out")
        row: dict[str, Any] = {"preset": config.preset, "seed": seed, "window_rows": window}
        for name, held in (("in_windows", memory), ("in_memory", None)):
            results = train(folder / "train", folder / "test", replace(config, memory=held))
            row[name] = results["figures"]["test_accuracy"]
        yield row


def _write(folder: Path, features: NDArray[Any], labels: NDArray[Any], rows: int) -> None:
    """Shards of so many rows."""
    folder.mkdir()
    parts = [slice(start, start + rows) for start in range(0, len(labels), rows)]
    entries = [write_shard(folder, number, features[part], labels[part]) for number, part in enumerate(parts)]
    write_manifest(folder, entries)


if __name__ == "__main__":
    main()
