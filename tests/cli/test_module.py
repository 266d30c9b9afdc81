"""`python -m fastmlp` is the command `fastmlp`."""

import subprocess
import sys

from fastmlp import __version__


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastmlp", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_module_is_the_command():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["fastmlp", __version__]


def test_its_exit_code_is_the_commands():
    done = run("no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr
