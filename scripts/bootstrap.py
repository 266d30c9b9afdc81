"""Continues under a Python that is new enough. Old Pythons can read this file, so that they can say so."""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)
OTHERS = ("python3.13", "python3.12", "python3.11")


def ensure_python() -> None:
    """Nothing on a new Python; an old one gives way to a new one on PATH, or the script ends with a sentence."""
    version = sys.version_info[:2]
    if version >= OLDEST:
        return
    python = find_python()
    if python is None:
        sys.exit(too_old(version))
    os.execv(python, [python, *sys.argv])


def find_python() -> "str | None":
    """The path of a new Python on PATH that really starts: a name alone can be an empty shim."""
    paths = (shutil.which(name) for name in OTHERS)
    return next((path for path in paths if path and starts(path)), None)


def starts(python: str) -> bool:
    check = f"import sys; sys.exit(sys.version_info[:2] < {OLDEST})"
    return subprocess.call([python, "-c", check], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def too_old(version: "tuple[int, int]") -> str:
    needed, found = (".".join(map(str, pair)) for pair in (OLDEST, version))
    return f"fastmlp needs Python {needed} or newer and this is Python {found}: install a newer one and run this again."
