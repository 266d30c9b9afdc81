"""scripts/gpu_check: its parts one after another, each in a process of its own with its own time limit.

The first two take a minute and tell the essentials: what GPU it is, whether training on it is right, and how fast every
variant of a step is. A part that fails, hangs or crashes is told and the next goes on. All output goes to
OUT/gpu-check.log, the outcome and the tables to OUT/gpu-check.md, the measurements to OUT/GPU-DATE.jsonl, which may be
added to bench/results/ as it is; OUT/gpu-check.tar.gz has them all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from environment import INTERRUPTED, ROOT, enter
from extras import needed
from installer import say

PARTS = ROOT / "scripts" / "gpu_parts.py"
LOG, REPORT, ARCHIVE = "gpu-check.log", "gpu-check.md", "gpu-check.tar.gz"
MINUTES = 9.5
PATIENCE = 15.0  # seconds for a part that is told to end, to keep what it has measured
TAIL = 15  # lines of a failed part's output
OPTIONAL = {
    "torch": "PyTorch, as extractor and peer",
    "torchvision": "ResNet-18",
    "pytest": "tests and benchmarks",
    "pytest-benchmark": "benchmarks",
    "hypothesis": "the tests",
    "jax": "a peer",
    "kornia": "a peer",
}
# Tools of compute-sanitizer and their own options. Drivers refuse calls by which libraries ask what they can do: only
# what kernels do counts. Synccheck follows so many mbarriers as it is told, and otherwise fails at the first launch.
SANITIZERS = {"memcheck": ["--report-api-errors=no"], "racecheck": [], "synccheck": ["--num-cuda-barriers=65536"]}
CLEAN = r"(ERROR|RACECHECK) SUMMARY: 0 "  # a tool's last line; where it never ran, there is none
SUITES = {"step": 90, "heads": 90, "sweep": 120, "augment": 60, "extract": 90}  # seconds each


@dataclass(frozen=True)
class Part:
    """A command, the seconds it may take, why it is left out, if it is, and a pattern of what it says if it held."""

    name: str
    command: Sequence[str]
    seconds: float
    absent: str = ""
    shows: str = ""


@dataclass(frozen=True)
class Outcome:
    name: str
    status: str  # held, failed, left out
    seconds: float
    note: str = ""


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if every part that could run held."""
    options = _parse(arguments)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    python = _python(options)
    if python is None:
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        parts = _parts(python, out, Path(scratch), options)
        unknown = set(options.only) - {part.name for part in parts}
        if unknown:
            say(f"There is no part {min(unknown)}: choose of {', '.join(part.name for part in parts)}.")
            return 2
        chosen = [part for part in parts if not options.only or part.name in options.only]
        variables = _variables(options.here, Path(scratch))
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever limits the time sends this one
        try:
            outcomes = _run_all(chosen, out, variables, 60 * options.minutes)
            _write(out, outcomes, _tables(python, out, variables))
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            _pack(out)
        say(f"Report: {out / REPORT}; all of it: {out / ARCHIVE}")
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check",
        description="Check fastmlp on this GPU and measure it beside its peers; in .venv/, which is set up once.",
        allow_abbrev=False,
    )
    parser.add_argument("--here", action="store_true", help="with this Python and what it has, nothing being installed")
    parser.add_argument("--dry-run", action="store_true", help="the same, tiny, without a GPU: kernels are emulated")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-check", help="where to write (runs/gpu-check)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for everything ({MINUTES:g})")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="PART", help="some parts: doctor, essentials, bench-step, ..."
    )
    return parser.parse_args(arguments)


# The Python that runs the parts.


def _python(options: argparse.Namespace) -> str | None:
    """That of .venv/, or with --here this one, if it has all that fastmlp needs."""
    if not options.here:
        programs = enter({"bench", "test", *([] if options.dry_run else needed(["--backend", "cupy"], os.environ))})
        return str(programs / "python")
    missing = [name for name in _dependencies() if not _installed(name)]
    if missing:
        say(f"This Python lacks {', '.join(missing)}: pip install {' '.join(missing)}.")
        return None
    for name, purpose in OPTIONAL.items():
        if not _installed(name):
            say(f"Not installed: {name} ({purpose}); what needs it is left out or fails.")
    return sys.executable


def _dependencies() -> list[str]:
    """The names of the distributions that fastmlp cannot do without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [requirement.split(">=")[0] for requirement in project["dependencies"]]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _variables(here: bool, scratch: Path) -> dict[str, str]:
    """The parts' environment: caches of their own, and with --here the way to the uninstalled checkout."""
    variables = {**os.environ, "FASTMLP_CACHE_DIR": str(scratch / "cache"), "PYTHONUNBUFFERED": "1"}
    if here:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return variables


# The parts.


def _parts(python: str, out: Path, scratch: Path, options: argparse.Namespace) -> list[Part]:
    device = "emulated" if options.dry_run else "cuda"

    def run(name: str, *more: str) -> list[str]:
        return [python, str(PARTS), name, *more, f"--device={device}", f"--out={out}", f"--scratch={scratch}"]

    doctor, essentials = Part("doctor", run("doctor"), 30), Part("essentials", run("essentials"), 60)
    many = Part("many-heads", run("many-heads"), 90)
    works = [Part("parity", run("parity"), 150), Part("short", run("short"), 60)]
    paper = [Part("reproduce", run("reproduce"), 120), Part("again", run("again"), 60)]
    if options.dry_run:  # one process, for the libraries' imports take longest, and time for emulations to be compiled
        bench = Part("bench", run("bench", *SUITES), 300)
        return [replace(part, seconds=300) for part in (doctor, essentials, many, *works, *paper, bench)]
    step, *others = (Part(f"bench-{suite}", run("bench", suite), seconds) for suite, seconds in SUITES.items())
    sanitized = (_sanitizer(tool, run("short")) for tool in SANITIZERS)
    ways = [Part("convolutions", run("convolutions"), 100), Part("compiled-again", run("convolutions", "again"), 45)]
    tests = Part("tests", run("tests"), 90)
    return [doctor, essentials, many, step, *paper, *works, *ways, *others, *sanitized, tests]


def _sanitizer(tool: str, command: Sequence[str]) -> Part:
    """The short run under one of compute-sanitizer's tools, alone on the GPU: a tool takes all memory there is."""
    program = shutil.which("compute-sanitizer")
    absent = "" if program else "compute-sanitizer is not installed"
    options = [f"--tool={tool}", *SANITIZERS[tool], "--error-exitcode=9", "--print-limit=20"]
    return Part(tool, [str(program), *options, *command], 60, absent, CLEAN)


# Running them.


def _run_all(parts: Sequence[Part], out: Path, variables: Mapping[str, str], seconds: float) -> list[Outcome]:
    end = time.monotonic() + seconds
    outcomes = []
    with (out / LOG).open("w+b") as log:
        for part in parts:
            outcome = _run(part, log, variables, end - time.monotonic())
            say(f"{outcome.status:8} {part.name:14} {outcome.seconds:5.0f} s  {outcome.note}".rstrip())
            outcomes.append(outcome)
            _write(out, outcomes)  # in case that somebody ends all this
    return outcomes


def _run(part: Part, log: IO[bytes], variables: Mapping[str, str], left: float) -> Outcome:
    if part.absent:
        return Outcome(part.name, "left out", 0, part.absent)
    if left < 1:
        return Outcome(part.name, "failed", 0, "not begun: the time for everything was up")
    log.write(f"\n== {part.name}\n".encode())
    log.flush()
    before, began = log.tell(), time.monotonic()
    limit = min(part.seconds, left)
    code = _call(part.command, log, variables, limit)
    seconds = time.monotonic() - began
    if wrong := _wrong(part, code, limit, _output(log, before)):
        _show_tail(log, before)
        return Outcome(part.name, "failed", seconds, f"{wrong}, see {LOG}")
    return Outcome(part.name, "held", seconds)


def _wrong(part: Part, code: int | None, limit: float, output: str) -> str:
    """What is, of a part that has ended with that code and output; empty if it held."""
    if code is None:
        return f"ended after its {limit:.0f} s"
    if code:
        return f"exit code {code}"
    return "" if re.search(part.shows, output) else f"it did not say that it ran ({part.shows})"


def _call(command: Sequence[str], log: IO[bytes], variables: Mapping[str, str], limit: float) -> int | None:
    """The exit code, None where the limit was passed; nothing that the command started is left then."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # benchmarks then write what they have measured
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _show_tail(log: IO[bytes], start: int) -> None:
    for line in _output(log, start).splitlines()[-TAIL:]:
        say(f"    {line}")


def _output(log: IO[bytes], start: int) -> str:
    """What the log has from there on."""
    log.flush()
    log.seek(start)
    text = log.read().decode(errors="replace")
    log.seek(0, os.SEEK_END)
    return text


# The report.


def _write(out: Path, outcomes: Sequence[Outcome], tables: str = "") -> None:
    """What held and what did not, and the tables of what was measured."""
    lines = ["# GPU check", "", "| part | outcome | seconds | |", "| --- | --- | ---: | --- |"]
    lines += [f"| {one.name} | {one.status} | {one.seconds:.0f} | {one.note} |" for one in outcomes]
    (out / REPORT).write_text("\n".join([*lines, "", tables]))


def _tables(python: str, out: Path, variables: Mapping[str, str]) -> str:
    """Markdown, made by the Python that has fastmlp; where that fails, what it says."""
    command = [python, str(PARTS), "report", f"--out={out}"]
    made = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    return made.stdout if made.returncode == 0 else made.stderr


def _pack(out: Path) -> None:
    """All files of the folder as one."""
    with tarfile.open(out / ARCHIVE, "w:gz") as archive:
        for path in sorted(out.iterdir()):
            if path.is_file() and path.name != ARCHIVE:
                archive.add(path, f"gpu-check/{path.name}")
