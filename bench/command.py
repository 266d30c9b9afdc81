"""`fastmlp bench`: runs the suite in a process of its own, then writes the report on its results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fastmlp.backends import open_backend
from fastmlp.common.environment import available_cores
from fastmlp.common.errors import BackendError, FastMLPError, UsageError, did_you_mean
from fastmlp.common.progress import is_quiet

from . import report, results, threads
from .results import Measurement

FOLDER = Path(__file__).parent
ON_GPU = ("augment", "extract", "heads", "step", "sweep")  # suites with contenders there
NEEDED = ("pytest", "pytest_benchmark")
QUICK = ("--quick", "--turns=1")
SMOKE = ("--smoke", *QUICK, "--benchmark-min-rounds=1", "--benchmark-max-time=0.01")
INTERRUPTED = 2  # exit code of pytest


def suites() -> list[str]:
    """The names that --only accepts."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def run(
    only: Sequence[str],
    smoke: bool,
    thread_count: int | None,
    out: Path,
    json: Path | None,
    device: str = "cpu",
    quick: bool = False,
) -> list[Measurement]:
    """Run the suite on that device (cpu, cuda, or emulated): append its measurements to `json`, write the report.

    quick: one turn each, without contenders whose set-up takes long. `json` defaults to OUT/results.jsonl. Returns the
    measurements; progress goes to stderr. Raises BackendError without pytest-benchmark or that device, UsageError for
    an unknown suite, and FastMLPError, once the report is written, if a contender failed.
    """
    missing = [module for module in NEEDED if find_spec(module) is None]
    if missing:
        raise BackendError(f"fastmlp bench needs {' and '.join(missing)}: pip install 'fastmlp[bench]'.")
    unknown = sorted(set(only) - set(suites()))
    if unknown:
        near = did_you_mean(unknown[0], suites())
        raise UsageError(f"There is no benchmark {unknown[0]!r}{near}: choose one of {', '.join(suites())}.")
    _check_device(device, only)
    smoke = smoke or device == "emulated"  # which would otherwise take days
    lines = json or out / "results.jsonl"
    before = len(results.read(lines)) if lines.exists() else 0
    how = SMOKE if smoke else QUICK if quick else ()
    code = _pytest(only, how, thread_count or available_cores(), lines, device)
    measurements = results.read(lines)[before:] if lines.exists() else []
    if measurements:
        report.write(measurements, out)
    _raise_for(code, measurements, out)
    return measurements


def _check_device(device: str, only: Sequence[str]) -> None:
    """Raise BackendError without a GPU to measure, UsageError for a suite with nothing to measure there."""
    if device == "cpu":
        return
    for name in only:
        if name not in ON_GPU:
            raise UsageError(f"The benchmark {name!r} only runs on the CPU: on a GPU, choose from {', '.join(ON_GPU)}.")
    if device == "cuda":
        open_backend("cupy")


def _pytest(only: Sequence[str], how: Sequence[str], thread_count: int, lines: Path, device: str) -> int:
    files = [str(FOLDER / f"bench_{name}.py") for name in only] or [str(FOLDER)]
    command = [sys.executable, "-m", "pytest", "-c", str(FOLDER / "pytest.ini"), *files, "-v", "--benchmark-quiet"]
    # "=", because pytest takes a separate word that is a path for a test path, and looks for a conftest.py there
    command += [f"--threads={thread_count}", f"--results={lines}", f"--device={device}", *how]
    shown = subprocess.DEVNULL if is_quiet() else sys.stderr
    process = subprocess.Popen(command, env=os.environ | threads.variables(thread_count, device), stdout=shown)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # pytest receives it too, and keeps its measurements
            continue


def _raise_for(code: int, measurements: Sequence[Measurement], out: Path) -> None:
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    failed = sorted({one.contender for one in measurements if one.status == "failed"})
    if failed:
        raise FastMLPError(f"{', '.join(failed)} failed and was not timed: {out / 'report.html'} says why.")
    if code or not measurements:
        raise FastMLPError("The suite did not run to its end: pytest says why above.")
