"""Files and folders on this machine, or wherever fsspec finds them by their URL."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fastmlp.common.errors import DataError, FastMLPError, UsageError, first_line
from fastmlp.common.files import SCHEME, has_wildcards, is_url

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
# What tells that a file of another system has changed, by the names that its file system has for it.
STAMPS = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "md5Hash", "md5", "created")
INSTALL = "pip install 'fastmlp[remote]'"


@dataclass(frozen=True)
class RemotePath:
    """A file or folder of a file system of fsspec, with what datasets need of a pathlib.Path.

    info: what a listing told of it, so that it is not asked for again. Raises DataError for what cannot be reached.
    """

    system: Any
    path: str
    info: dict[str, Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return str(self.system.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.system, f"{self.path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]

    def with_name(self, name: str) -> RemotePath:
        return RemotePath(self.system, f"{self.parent}/{name}")

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    def absolute(self) -> RemotePath:
        return self

    def exists(self) -> bool:
        return bool(self._details())

    def is_dir(self) -> bool:
        return self._details().get("type") == "directory"

    def is_file(self) -> bool:
        return self._details().get("type") == "file"

    def iterdir(self) -> Iterator[RemotePath]:
        with _reached(self):
            entries = self.system.ls(self.path, detail=True)
        own = self.path.strip("/")
        return (self._listed(entry) for entry in entries if entry["name"].strip("/") != own)

    def glob(self) -> list[RemotePath]:
        """What the path, which has wildcards, matches."""
        with _reached(self):
            found = self.system.glob(self.path, detail=True)
        return [self._listed(entry) for entry in found.values()]

    def open(self, mode: str) -> IO[bytes]:
        with _reached(self):
            return self.system.open(self.path, mode)

    def read_bytes(self) -> bytes:
        with _reached(self):
            return bytes(self.system.cat_file(self.path))

    def stamp(self) -> list[str]:
        about = self._details()
        return [f"{name} {about[name]}" for name in STAMPS if about.get(name) is not None]

    def _listed(self, entry: dict[str, Any]) -> RemotePath:
        return RemotePath(self.system, entry["name"].rstrip("/"), entry)

    def _details(self) -> dict[str, Any]:
        """Nothing of what is not there."""
        if self.info is not None:
            return self.info
        with _reached(self):
            try:
                return dict(self.system.info(self.path))
            except FileNotFoundError:
                return {}


Place = Path | RemotePath


def place_of(text: str) -> Place:
    """What the text names: a path, or a URL such as s3://bucket/photos.

    Raises UsageError for a URL of which nothing is known, or where fsspec or what it needs is not installed.
    """
    if not is_url(text):
        return Path(text).expanduser()
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UsageError(f"{text} needs fsspec: {INSTALL}.") from None
    try:
        system, path = url_to_fs(text)
    except ImportError as error:
        raise UsageError(f"{text} cannot be read yet ({first_line(error)}): install that.") from None
    except ValueError as error:
        raise UsageError(f"{text} cannot be read ({first_line(error)}): check the part before {SCHEME}.") from None
    except Exception as error:  # noqa: BLE001  (each file system raises its own)
        raise _unreached(text, error) from None
    return RemotePath(system, path)


def expanded(place: Place) -> list[Place]:
    """The place itself, or what it stands for: those that match its wildcards, and each that its braces name, sorted.

    Braces are as shells have them: {a,b} and {0000..0009}. Raises DataError for one that braces name but is not there.
    """
    text = place.path if isinstance(place, RemotePath) else str(place)
    if place.exists() or not (BRACES.search(text) or has_wildcards(text)):
        return [place]
    named = [_like(place, name) for name in _unbraced(text)]
    return list(chain.from_iterable(_matching(one) for one in named))


def stamp_of(place: Place) -> list[str]:
    """What differs once the file is another one; of what is not there, nothing."""
    if isinstance(place, RemotePath):
        return place.stamp()
    try:
        about = place.stat()
    except OSError:
        return []
    return [str(about.st_size), str(about.st_mtime_ns), str(about.st_ino)]


def _like(place: Place, text: str) -> Place:
    return RemotePath(place.system, text) if isinstance(place, RemotePath) else Path(text)


def _unbraced(text: str) -> list[str]:
    found = BRACES.search(text)
    if found is None:
        return [text]
    before, after = text[: found.start()], text[found.end() :]
    return [name for choice in _choices(found[1]) for name in _unbraced(before + choice + after)]


def _choices(inside: str) -> list[str]:
    numbers = RANGE.fullmatch(inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    step = 1 if first <= last else -1
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + step, step)]


def _matching(place: Place) -> list[Place]:
    if not has_wildcards(place):
        if not place.exists():
            raise DataError(f"{place} is missing: give all that the braces name, or other numbers.")
        return [place]
    found = place.glob() if isinstance(place, RemotePath) else map(Path, glob.glob(str(place), recursive=True))  # noqa: PTH207
    return sorted(found, key=str)


@contextmanager
def _reached(place: RemotePath) -> Iterator[None]:
    """Raise what a file system raises, each its own kind, as a DataError."""
    try:
        yield
    except FastMLPError:
        raise
    except Exception as error:  # noqa: BLE001
        raise _unreached(str(place), error) from None


def _unreached(place: str, error: Exception) -> DataError:
    return DataError(
        f"{place} cannot be read ({type(error).__name__}: {first_line(error)}): check the path, the network and your "
        "credentials."
    )
