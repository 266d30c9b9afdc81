"""Kills what trains on features larger than --memory at random moments, resumes it, and compares what it leaves.

    python -m tests.faults.kills_streamed --kills 50 --seed 0   # prints how many kills hit what, of every command

A run is killed again and again until it ends, and then another one is begun. Processes are forked from one that has
imported everything, so that most of their time is training; checkpoints are written after every epoch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from fastmlp.cli.main import main as fastmlp
from fastmlp.features.row_files import PackedRows, PlainRows
from fastmlp.features.shard_files import write_manifest, write_shard
from fastmlp.models import storage
from fastmlp.training import run as training_run
from tests.faults import quick
from tests.faults.kills import assert_nothing_is_left

ROWS, WIDTH = 600, 16
MEMORY = ["--memory", "110KB"]  # of which a window is less than half of the rows
MACHINE = ["--backend", "numpy", "--threads", "1", "--seed", "3", "--quiet"]
COMMANDS: dict[str, list[str]] = {
    "train": ["train", "--features", "data/shards", "--epochs", "20", "--resume"],
    "train, early stopping": [
        *["train", "--features", "data/x/*.npy", "--labels", "data/y.npy", "--epochs", "20"],
        *["--early-stopping", "--class-weight", "balanced", "--resume"],
    ],
    "train, folds": ["train", "--features", "data/parquet", "--epochs", "5", "--folds", "2", "--resume"],
    "probe": ["probe", "--features", "data/shards", "--epochs", "4", "--widths", "0,8", "--resume"],
    "sweep": ["sweep", "--features", "data/shards", "--epochs", "4", "--widths", "8,12", "--seeds", "2"],
}
STARTING, READING, WRITING, OTHER = "starting", "reading features", "writing a checkpoint or the model", "anything else"
DOING = (STARTING, READING, WRITING, OTHER)
BEYOND = 1.0  # kills are drawn up to so many times the seconds of a whole run
PRELOADED = [f"fastmlp.experiments.{name}" for name in ("train", "sweep", "probe")]
PRELOADED += ["tests.faults.kills_streamed", "fastmlp.cli.models", "fastmlp.backends.numpy", "sklearn.model_selection"]
Doing = Any  # a shared number: the place in DOING


def write_data(folder: Path) -> None:
    """The same rows, sorted by class, in shards of three kinds."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 3, ROWS))
    X = (np.eye(3)[y].repeat(6, axis=1)[:, :WIDTH] + rng.normal(size=(ROWS, WIDTH))).astype(np.float32)
    parts = np.array_split(np.arange(ROWS), 5)
    for name in ("shards", "x", "parquet"):
        (folder / name).mkdir(parents=True)
    write_manifest(
        folder / "shards", [write_shard(folder / "shards", n, X[rows], y[rows]) for n, rows in enumerate(parts)]
    )
    np.save(folder / "y.npy", y)
    for number, rows in enumerate(parts):
        np.save(folder / f"x/{number}.npy", X[rows].astype(np.float16))
        table = pa.table({"embedding": list(X[rows]), "label": y[rows]})
        parquet.write_table(table, folder / f"parquet/{number}.parquet", row_group_size=32)


# A process.


def work(argv: list[str], folder: str, doing: Doing) -> None:
    """Run the command in that folder, and say meanwhile what it does."""
    os.chdir(folder)
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (until the process ends)
    quick.quicken(setattr, quick.LEARNED_FROM)
    training_run.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    for owner, name, what in (
        (PlainRows, "read", READING),
        (PackedRows, "read", READING),
        (storage, "write_bytes", WRITING),
    ):
        setattr(owner, name, _told(getattr(owner, name), doing, DOING.index(what)))
    doing.value = DOING.index(OTHER)
    os._exit(fastmlp(argv))


def _told(real: Callable[..., Any], doing: Doing, what: int) -> Callable[..., Any]:
    def told(*arguments: Any, **options: Any) -> Any:
        before, doing.value = doing.value, what
        result = real(*arguments, **options)
        doing.value = before
        return result

    return told


def server() -> ForkServerContext:
    """What processes are forked from, once it has loaded all modules."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first = context.Process(target=int)
    first.start()
    first.join()
    return context


def run(context: ForkServerContext, argv: list[str], folder: Path, seconds: float | None = None) -> str | None:
    """Run it, and kill it after so many seconds, if any: what it was doing then; None: it had ended by itself."""
    doing = context.Value("i", 0, lock=False)
    process = context.Process(target=work, args=(argv, str(folder), doing))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode == 0:
        return None
    assert process.exitcode == -9, process.exitcode
    return DOING[doing.value]


# What is compared.


def left(folder: Path) -> dict[str, Any]:
    """All files by their names: bytes, or of JSON what does not depend on the clock."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".html", ".md"):  # of the same figures, with seconds
            continue
        content = path.read_bytes()
        found[str(path.relative_to(folder))] = _timeless(json.loads(content)) if path.suffix == ".json" else content
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        timed = ("seconds", "heads_per_second")
        return {name: _timeless(inner) for name, inner in value.items() if name not in timed}
    return value


def survive(
    command: str, kills: int, rng: random.Random, folder: Path, context: ForkServerContext | None = None
) -> Counter[str]:
    """Kill runs of that command so often: how many kills hit what. AssertionError if what is left then differs."""
    context = context or server()
    argv = [*COMMANDS[command], *MEMORY, *MACHINE, "--out", "out"]
    whole = folder / "whole"
    write_data(whole / "data")
    begun = time.monotonic()
    assert run(context, argv, whole) is None
    most, expected = BEYOND * (time.monotonic() - begun), left(whole / "out")
    counts, number = Counter[str](), 0
    while counts.total() < kills:
        number += 1
        broken = folder / f"broken-{number}"
        broken.mkdir()
        (broken / "data").symlink_to(whole / "data")
        while counts.total() < kills and (hit := run(context, argv, broken, rng.uniform(0, most))) is not None:
            counts[hit] += 1
        if counts.total() == kills:
            assert run(context, argv, broken) is None
        found = left(broken / "out")
        differing = [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)]
        assert not differing, f"{command}, run {number}: {differing}"
        assert_nothing_is_left(broken / "out")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill what trains with --memory at random moments and resume it.")
    parser.add_argument("--kills", type=int, default=50, help="of every command")
    parser.add_argument("--only", choices=COMMANDS, nargs="+", default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for command in options.only:
        with tempfile.TemporaryDirectory() as folder:
            counts = survive(command, options.kills, random.Random(f"{options.seed} {command}"), Path(folder))
        print(f"{command:22}", *(f"{what}: {counts[what]}" for what in DOING), sep="  ", flush=True)


if __name__ == "__main__":
    main()
