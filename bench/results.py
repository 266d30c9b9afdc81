"""Results: one JSON line per measurement, only ever appended to a file."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from fastmlp.common import environment
from fastmlp.common.errors import DataError

from . import devices
from .contenders import Kind

PEERS = ("jax", "keras", "kornia", "onnxruntime", "pytest-benchmark")
Status = Literal["measured", "absent", "failed"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The result of one contender on one problem.

    run      the same for all measurements of one run of the suite; starts with the date and time, UTC
    machine  processor, cores, platform, BLAS and the versions of all libraries
    threads  the number of threads for every contender
    reason   why there are no times: a sentence if it is absent, the error if it failed
    seconds  per `unit` over all rounds: min, q1, median, q3, max; the spread is from q1 to q3
    rounds   how many rounds were timed
    peak     bytes of memory used, without its data on disk and the libraries; if measured
    facts    the tier that ran, sizes of thread pools, ...
    device   where all contenders ran: cpu, cuda, or emulated
    """

    run: str
    commit: str
    machine: dict[str, Any]
    threads: int
    smoke: bool
    suite: str
    title: str
    unit: str
    contender: str
    kind: Kind
    axis: str | None = None
    value: int | None = None
    status: Status = "measured"
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    peak: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    @property
    def median(self) -> float:
        return self.seconds["median"]


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """The five numbers that describe a sample."""
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 3
    five = (min(seconds), *quartiles, max(seconds))
    return dict(zip(("min", "q1", "median", "q3", "max"), five, strict=True))


def append(path: Path, measurements: Iterable[Measurement]) -> None:
    """Append lines to the file; existing lines stay as they are."""
    lines = "".join(json.dumps(asdict(measurement), allow_nan=False) + "\n" for measurement in measurements)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a") as file:
        file.write(lines)


def read(path: Path) -> list[Measurement]:
    """All measurements in a file, oldest first. Raises DataError if it is missing or damaged."""
    try:
        return [Measurement(**json.loads(line)) for line in Path(path).read_text().splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path} is missing: write it with fastmlp bench --results {path}.") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete the line, or the file.") from None


def latest(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements of the last run."""
    return [measurement for measurement in measurements if measurement.run == measurements[-1].run]


def new_run() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def commit() -> str:
    """The commit measured, with "+ changes" if files differ from it; "released" outside a checkout."""
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD").strip()
        return f"{head} + changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.CalledProcessError):
        return "released"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=folder, text=True, stderr=subprocess.DEVNULL)


def machine(device: str = "cpu") -> dict[str, Any]:
    """`environment.describe()` with the versions of the peers and, if measured on one, the GPU."""
    peers = {name: found for name in PEERS if (found := _version(name))}
    return {**environment.describe(), **peers, **(devices.facts() if device == "cuda" else {})}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
