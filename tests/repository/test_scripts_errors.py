"""Every way in which setting up can fail, and the sentence it ends with."""

import errno
import importlib.util
import subprocess
import venv
from pathlib import Path

import environment
import installer
import pytest
from environment import Environment
from installer import SetupError

from tests.shell import is_one_sentence, program


def log_of(tmp_path: Path, *lines: str) -> Path:
    log = tmp_path / "setup.log"
    log.write_text("\n".join(lines))
    return log


RETRY = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError'"
MISSING = "ERROR: No matching distribution found for numpy==2.4.6"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([MISSING], ["fix what pip names", "pip said: No matching distribution found for numpy==2.4.6"]),
        ([RETRY, MISSING], ["package index cannot be reached", "No matching distribution"]),
        (["ERROR: Could not install: [Errno 28] No space left on device"], ["disk is full"]),
        ([MISSING, "ERROR: ResolutionImpossible: for help visit"], ["No matching distribution"]),
        (["Killed", "", "note: not a problem with pip."], ["pip said: note: not a problem with pip;"]),
        ([], ["pip said: nothing"]),
        (["ERROR: " + 100 * "word "], ["[...]"]),
    ],
)
def test_a_failed_pip_is_one_sentence(lines, words, tmp_path):
    sentence = installer.failure(log_of(tmp_path, *lines))
    assert is_one_sentence(sentence)
    assert "setup.log" in sentence
    for word in words:
        assert word in sentence


def test_pip_runs_constrained_and_its_output_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(installer, "SECONDS_BETWEEN_LINES", 0.0)
    python = program(tmp_path / "python", 'echo "$PIP_CONSTRAINT $PIP_BUILD_CONSTRAINT"; echo "$@" >&2')
    lock, log = tmp_path / "the lock.txt", tmp_path / "setup.log"
    installer.pip_install(python, lock, ["--editable", "."], log)
    constraints, options = log.read_text().splitlines()
    assert constraints == f"{lock.as_uri()} {lock.as_uri()}"  # which pip splits at spaces
    assert options.startswith("-m pip install")
    assert options.endswith("--editable .")
    output = capsys.readouterr()
    assert output.out == ""
    assert "-m pip install" in output.err


def test_a_pip_that_fails_raises_its_sentence(tmp_path):
    python = program(tmp_path / "python", f"echo '{MISSING}'; exit 1")
    with pytest.raises(SetupError, match=r"numpy==2\.4\.6"):
        installer.pip_install(python, tmp_path / "lock.txt", ["."], tmp_path / "setup.log")


def test_an_interrupted_pip_is_not_left_running(tmp_path, monkeypatch):
    def interrupt(process: subprocess.Popen[bytes], log: object) -> None:
        started.append(process)
        raise KeyboardInterrupt

    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(installer, "follow", interrupt)
    python = program(tmp_path / "python", "exec sleep 60")
    with pytest.raises(KeyboardInterrupt):
        installer.pip_install(python, tmp_path / "lock.txt", ["."], tmp_path / "setup.log")
    assert started[0].poll() is not None


def test_a_python_without_venv_names_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    with pytest.raises(SetupError, match=r"has no venv module.*apt install python3\.\d+-venv") as caught:
        environment.require_venv()
    assert is_one_sentence(str(caught.value))


def test_a_venv_without_pip_says_what_its_installation_said(tmp_path, monkeypatch):
    def create(folder: Path, **options: bool) -> None:
        raise subprocess.CalledProcessError(1, "ensurepip", b"OSError: [Errno 28] No space left on device")

    monkeypatch.setattr(venv, "create", create)
    with pytest.raises(SetupError, match="disk is full"):
        environment.make_venv(tmp_path, tmp_path / "setup.log")


@pytest.mark.parametrize(
    "error",
    [
        SetupError("One thing is wrong: fix it."),
        OSError(errno.ENOSPC, "No space left on device", "/checkout/.venv"),
        PermissionError(errno.EACCES, "Permission denied", "/checkout/.venv"),
    ],
)
def test_a_set_up_that_fails_ends_with_one_sentence(error, monkeypatch):
    def fail(self: Environment, extras: object) -> None:
        raise error

    monkeypatch.setattr(Environment, "prepare", fail)
    with pytest.raises(SystemExit) as ended:
        environment.enter(set())
    assert is_one_sentence(ended.value.code)


def test_an_interrupted_set_up_ends_with_130(monkeypatch, capsys):
    def interrupt(self: Environment, extras: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Environment, "prepare", interrupt)
    with pytest.raises(SystemExit) as ended:
        environment.enter(set())
    assert ended.value.code == 130
    assert is_one_sentence(capsys.readouterr().err.strip())
