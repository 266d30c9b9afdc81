"""`python -m fastmlp`, and `python -m fastmlp.cli`, are the command `fastmlp`."""

import os
import subprocess
import sys

import pytest

from fastmlp import __version__


def run(module: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("module", ["fastmlp", "fastmlp.cli"])
def test_the_module_is_the_command(module):
    done = run(module, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["fastmlp", __version__]


def test_its_exit_code_is_the_commands():
    done = run("fastmlp", "no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr


def test_what_the_terminal_cannot_show_is_escaped():
    shown = "cli.COMMANDS['backends'] = lambda _: print('K\\u00e4fer'); cli.main(['backends'])"
    script = f"from fastmlp.cli import main as cli; {shown}"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "K\\xe4fer\n"
