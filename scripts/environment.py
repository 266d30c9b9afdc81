"""The project's own virtual environment, .venv/ in the checkout: made once, from exact versions, then reused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from installer import SetupError, failure, pip_install, say, touched

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130


def enter(extras: Iterable[str]) -> Path:
    """The folder of .venv's programs, once it has these extras; ends the script with a sentence if it cannot."""
    # pip left compiling to what imports, and without bytecode each of hundreds of processes would do that anew
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environment = Environment(ROOT)
    try:
        environment.prepare(extras)
    except SetupError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"Setting up .venv failed ({error}): fix that, then run this again.")
    except KeyboardInterrupt:
        say("Interrupted: run this again to go on.")
        sys.exit(INTERRUPTED)
    return environment.programs


@dataclass(frozen=True)
class Record:
    """What an environment is and holds; `sources` is the digest of the files it was installed from."""

    python: str
    checkout: str
    sources: str = ""
    extras: tuple[str, ...] = ()
    whole: bool = True


class Environment:
    """.venv/ of one checkout, for the Python that runs this."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.folder = checkout / ".venv"
        self.programs = self.folder / "bin"
        self.python = self.programs / "python"
        self.lock = checkout / "scripts" / "lock.txt"
        self.log = self.folder / "setup.log"
        self._record = self.folder / "fastmlp.json"

    def prepare(self, extras: Iterable[str]) -> None:
        """Make the environment, or bring it to the locked versions, with these extras beside those it has."""
        extras = set(extras)
        if self._is_ready(extras):
            return
        with alone(self.lock):
            if not self._is_ready(extras):  # another set-up may have ended meanwhile
                record = self.read() or self._create()
                self._install(record, self._wanted(record, extras))

    def read(self) -> Record | None:
        """The record of an environment that this Python made here and finished, else None."""
        try:
            fields = json.loads(self._record.read_text())
            record = Record(**{**fields, "extras": tuple(fields["extras"])})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return None
        usable = replace(record, sources="", extras=()) == self._empty() and self.python.exists()
        return record if usable else None

    def write(self, record: Record) -> None:
        self._record.write_text(json.dumps(asdict(record), indent=2) + "\n")

    def _is_ready(self, extras: set[str]) -> bool:
        record = self.read()
        return record is not None and record == self._wanted(record, extras)

    def _wanted(self, record: Record, extras: set[str]) -> Record:
        files = (self.lock, self.checkout / "pyproject.toml")
        digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
        return replace(record, sources=digest, extras=tuple(sorted({*record.extras, *extras})))

    def _empty(self) -> Record:
        return Record(python=f"{sys.version_info[0]}.{sys.version_info[1]}", checkout=str(self.checkout))

    def _create(self) -> Record:
        """An environment with little but pip, in place of an unfinished one; a good one of other making is kept."""
        record = self._empty()
        if self._record.exists() or not self._is_working():
            require_venv()
            say(f"Making .venv for Python {record.python}.")
            self.folder.mkdir(exist_ok=True)
            clear(self.folder)
            self.write(replace(record, whole=False))
            make_venv(self.folder, self.log)
        self.write(record)
        return record

    def _is_working(self) -> bool:
        check = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        quiet = subprocess.DEVNULL
        return self.python.exists() and subprocess.call([self.python, "-c", check], stdout=quiet, stderr=quiet) == 0

    def _install(self, before: Record, wanted: Record) -> None:
        project = f"{self.checkout}[{','.join(wanted.extras)}]" if wanted.extras else str(self.checkout)
        say(f"Setting up .venv (once): {', '.join(['fastmlp', *wanted.extras])}.")
        started = time.monotonic()
        self.write(replace(wanted, whole=False))
        self.log.unlink(missing_ok=True)
        try:
            pip_install(self.python, self.lock, ["--editable", project], self.log)
        except BaseException:
            if not touched(self.log):
                self.write(before)
            raise
        self.write(wanted)
        say(f"Set up .venv in {time.monotonic() - started:.0f} s.")


def require_venv() -> None:
    """SetupError if this Python came without the modules that make environments, as Debian's does."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    raise SetupError(f"{sys.executable} has no venv module: install it (on Debian and Ubuntu: apt install {package}).")


def make_venv(folder: Path, log: Path) -> None:
    try:
        venv.create(folder, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:  # pip could not be put in
        log.write_bytes(error.output or b"")
        raise SetupError(failure(log)) from None


def clear(folder: Path) -> None:
    """Empty a folder, which may be a link to another disk."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One set-up at a time in a checkout: the lock file of versions locks this too."""
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up of .venv is running: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
