"""pip, run quietly: a line of progress on stderr, everything else in a log, one sentence when it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Python compiles what is imported, when it is: all that is installed would take most of a minute.
OPTIONS = ("--disable-pip-version-check", "--no-input", "--progress-bar=off", "--only-binary=:all:", "--no-compile")
CHANGING = "Installing collected packages"
SECONDS_BETWEEN_LINES = 15.0
REWRITE = "\r\x1b[K"
CAUSES = (
    ("No space left on device", "the disk is full, free some space"),
    ("Retrying (Retry(", "the package index cannot be reached, check the network"),
)


class SetupError(Exception):
    """What is in the way and how to fix it, in one sentence."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def pip_install(python: Path, constraints: Path, requirements: list[str], log: Path) -> None:
    """Install with the pip of `python`, at the versions that `constraints` gives; SetupError if it fails."""
    command: list[str | Path] = [python, "-m", "pip", "install", *OPTIONS, *requirements]
    # The environment, unlike the option, holds for the build of a project as well; the second name is newer pips'.
    constrained = {name: constraints.as_uri() for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")}
    with log.open("wb") as file, start(command, {**os.environ, **constrained}) as process:
        try:
            follow(process, file)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        raise SetupError(failure(log))


def start(command: Sequence[str | Path], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, env=variables, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT)


def follow(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    status = Status()
    try:
        for line in process.stdout or ():
            log.write(line)
            status.show(line.decode(errors="replace").strip())
    finally:
        status.clear()


def failure(log: Path) -> str:
    """The sentence for a pip that ended badly and left this log."""
    output = read(log)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ") and "ResolutionImpossible" not in line]
    said = textwrap.shorten((errors or lines or ["nothing"])[-1].removeprefix("ERROR: ").rstrip("."), 300)
    causes = [cause for sign, cause in CAUSES if sign in output] or ["fix what pip names"]
    return f"Setting up .venv failed: {causes[0]}, then run this again (pip said: {said}; its log is {log})."


def touched(log: Path) -> bool:
    """Whether that pip got as far as changing packages: until then it only downloads and builds."""
    return log.exists() and CHANGING in read(log)


def read(log: Path) -> str:
    return log.read_text(errors="replace")


class Status:
    """What pip does now: rewritten in place on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._last = time.monotonic()

    def show(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        if self.live:
            print(f"{REWRITE}{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            say(line)

    def clear(self) -> None:
        if self.live:
            print(REWRITE, end="", file=sys.stderr, flush=True)
