"""The checks of scripts/test: all of them run, types beside the tests, and every one must pass."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from environment import INTERRUPTED, ROOT, enter
from installer import say

# A process a core, each of which holds libraries of its own in memory. Each begins with a stretch of the tests, so that
# what a module shares is made once, and who is done takes over from the others.
WORKERS = ["-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]
# A test that takes so many seconds hangs: its stacks are shown, it has failed, and another worker does the rest.
HANGS = ["-o", "faulthandler_timeout=600", "-o", "faulthandler_exit_on_timeout=true"]
QUICK = ["-m", "not slow"]
STYLE = (["ruff", "check"], ["ruff", "format", "--check"])
TYPES = ["mypy"]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 if every check passes."""
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        usage="%(prog)s [--quick] [--repeat N] [pytest options]",
        description="Check style, types and tests, in .venv/, which is set up once.",
        allow_abbrev=False,
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run the tests N times, to find flaky ones")
    parser.add_argument("--quick", action="store_true", help="leave out the tests marked slow: under three minutes")
    options, pytest_options = parser.parse_known_args(arguments)
    programs = enter({"test"})
    tests = ["python", "-m", "pytest", *WORKERS, *HANGS, *(QUICK if options.quick else ()), *pytest_options]
    try:
        failed = [command for command in STYLE if not passes(programs, command)]
        with beside(programs, TYPES) as types:
            failed += [tests for _ in range(options.repeat) if not passes(programs, tests)]
        failed += [TYPES] if types.returncode else []
    except KeyboardInterrupt:
        return INTERRUPTED
    for command in failed:
        say(f"Failed: {' '.join(command)}")
    return 1 if failed else 0


@contextlib.contextmanager
def beside(programs: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command, which keeps one core busy for a minute, beside all else; what it says is shown at the end."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([programs / command[0], *command[1:]], cwd=ROOT, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.wait()
            said.seek(0)
            print("$", *command)
            print(said.read().decode(errors="replace"), end="", flush=True)


def passes(programs: Path, command: list[str]) -> bool:
    print("$", *command, flush=True)
    return subprocess.call([programs / command[0], *command[1:]], cwd=ROOT) == 0
