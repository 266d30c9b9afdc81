"""Kills `fastmlp reproduce` at random moments of every stage, resumes it, and compares what it leaves byte for byte.

    python -m tests.faults.kills --moments 50 --seed 0   # prints how many moments of each stage came to what

A moment is a stage, waited for on the disk, and a random time in it; the stages take turns. Every third run is killed
once more, at a random time of its resumed half.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fastmlp.paper import MODELS
from tests.faults import quick

COMMAND = ["reproduce", "--dataset", "digits", "--limit", "300", "--extractor", "patches", "--epochs", "40"]
COMMAND += ["--seeds", "3", "--backend", "numpy", "--threads", "1"]
ENDED = "ended before"

Reached = Callable[[Path], bool]


def partial(split: str) -> Reached:
    return lambda folder: any((folder / "cache/features").glob(f"*-{split}-*.partial"))


def exists(pattern: str) -> Reached:
    return lambda folder: any(folder.glob(pattern))


STAGES: dict[str, Reached] = {
    "starting": lambda _: True,
    "learning patches": exists("out/.fastmlp.lock"),
    "extracting train": partial("train"),
    "extracting augmented": partial("augmented"),
    "extracting test": partial("test"),
    "training original": exists("out/original"),
    "training augmented": exists("out/original/model.safetensors"),
    "training more seeds": exists("out/augmented/model.safetensors"),
    "reporting": exists("out/augmented/seeds.safetensors"),
}


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command with its cache and its output in folder."""
    variables = {**os.environ, "FASTMLP_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [*quick.COMMAND, *COMMAND, "--out", str(folder / "out"), *options]
    return subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log


def unbroken(folder: Path) -> dict[str, float]:
    """Run it once without a kill; the seconds after which each stage begins, and the run ends."""
    process, begins, started = start(folder), dict[str, float](), time.monotonic()
    while process.poll() is None:
        for stage in [stage for stage in STAGES if stage not in begins and STAGES[stage](folder)]:
            begins[stage] = time.monotonic() - started
        time.sleep(0.001)
    finish(process)
    return {**begins, "end": time.monotonic() - started}


def durations(begins: dict[str, float]) -> dict[str, float]:
    """The seconds of every stage; a stage too short to be seen begins with the next one."""
    later = begins["end"]
    lengths = {}
    for stage in reversed(STAGES):
        lengths[stage] = max(0.0, later - begins.get(stage, later))
        later = begins.get(stage, later)
    return lengths


def killed(process: subprocess.Popen[str], reached: Callable[[], bool], seconds: float) -> bool:
    """Whether the process was still there to be killed so many seconds after that."""
    while not reached() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def results_of(folder: Path) -> dict[str, object]:
    """What must not depend on kills: the models, the codebook, the features, all as bytes, and Table 1."""
    paths = [*(folder / "out").rglob("*.safetensors"), *(folder / "cache").rglob("*")]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}
    histories = {name: (folder / "out" / name / "history.json").read_bytes() for name in MODELS}
    return {**files, **histories, "table1": json.loads((folder / "out/results.json").read_text())["table1"]}


def assert_nothing_is_left(folder: Path) -> None:
    left = [path for path in folder.rglob("*") if path.name.startswith(".") or path.suffix in (".partial", ".lock")]
    assert not [*left, *folder.rglob("checkpoint.safetensors")], left


def survive(stage: str, folder: Path, whole: Path, seconds: dict[str, float], rng: random.Random) -> str:
    """Kill a run in that stage and resume it; "killed", "killed twice" or ENDED. AssertionError if anything differs."""
    if stage not in ("starting", "learning patches"):
        shutil.copytree(whole / "cache/codebooks", folder / "cache/codebooks")  # as if learned: it takes longest
    process = start(folder)
    if not killed(process, lambda: STAGES[stage](folder), rng.uniform(0, seconds[stage])):
        return ENDED
    again = rng.random() < 1 / 3
    twice = again and killed(start(folder, "--resume"), lambda: True, rng.uniform(0, sum(seconds.values())))
    finish(start(folder, "--resume"))
    found, expected = results_of(folder), results_of(whole)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    differing = [name for name in found if found[name] != expected[name]]
    assert not differing, f"killed while {stage}: {differing}"
    assert_nothing_is_left(folder)
    return "killed twice" if twice else "killed"


def try_moments(moments: int, seed: int, folder: Path, first: int = 0) -> Counter[tuple[str, str]]:
    """How many runs of each stage came to what; moments whose run ended too early are drawn again."""
    whole = folder / "whole"
    whole.mkdir(parents=True)
    seconds, counts = durations(unbroken(whole)), Counter[tuple[str, str]]()
    for moment in range(first, first + moments):
        stage, rng = list(STAGES)[moment % len(STAGES)], random.Random(f"{seed} {moment}")
        for attempt in range(20):
            where = folder / f"{moment}-{attempt}"
            outcome = survive(stage, where, whole, seconds, rng)
            counts[stage, outcome] += 1
            shutil.rmtree(where)
            if outcome != ENDED:
                break
        else:
            raise AssertionError(f"{stage} is too short to be killed in")
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill fastmlp reproduce at random moments and resume it.")
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the number of the first moment")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = try_moments(options.moments, options.seed, Path(folder), options.first)
    for (stage, outcome), count in sorted(counts.items(), key=lambda item: list(STAGES).index(item[0][0])):
        print(f"{stage:22} {outcome:14} {count:4}")


if __name__ == "__main__":
    main()
