"""What a command and all processes that it starts use, workers of Ray among them, observed from outside (on Linux)."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

LOOK_EVERY = 0.2  # seconds
WORKER = "ray::"  # begins the names of Ray's workers


class Process(NamedTuple):
    """parent: its number; cpu: seconds so far; peak: MB that it has held at most; worker: one of Ray's."""

    parent: int
    cpu: float
    peak: int
    worker: bool


class Used(NamedTuple):
    """By a command. times: of all looks, as of a clock; cpu: seconds of all processes up to each; peak: MB of any."""

    times: list[float]
    cpu: list[float]
    peak: int
    worker_peak: int | None

    def cpu_between(self, begin: float, end: float) -> float:
        """Processor seconds between two times."""
        first, last = np.interp([begin, end], self.times, self.cpu)
        return float(last - first)


def watched(command: Sequence[str], environment: Mapping[str, str]) -> Used:
    """Run it, without its output. Raises CalledProcessError if it fails."""
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL)
    seen = dict[int, Process]()
    times, cpu = [time.time()], [0.0]
    while process.poll() is None:
        seen |= _under(process.pid, seen)
        times.append(time.time())
        cpu.append(sum(one.cpu for one in seen.values()))
        time.sleep(LOOK_EVERY)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    peaks, worker_peaks = ([one.peak for one in seen.values() if one.worker == worker] for worker in (False, True))
    return Used(times, cpu, max(peaks, default=0), max(worker_peaks, default=None))


def _under(root: int, seen: Mapping[int, Process]) -> dict[int, Process]:
    """The process, all that it or one that was seen has started, and theirs."""
    alive = {int(path.name): found for path in Path("/proc").glob("[0-9]*") if (found := _process(path))}
    ours = {root, *seen} & alive.keys()
    while more := {number for number, one in alive.items() if one.parent in ours} - ours:
        ours |= more
    return {number: alive[number] for number in ours}


def _process(path: Path) -> Process | None:
    """None if it has ended."""
    try:
        fields = (path / "stat").read_text().rpartition(")")[2].split()
        peak = re.search(r"^VmHWM:\s*(\d+) kB", (path / "status").read_text(), re.MULTILINE)
        name = (path / "cmdline").read_text(errors="replace")
    except OSError:
        return None
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Process(int(fields[1]), cpu, int(peak[1]) * 1024 // 10**6 if peak else 0, name.startswith(WORKER))
