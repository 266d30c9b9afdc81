"""Files and folders on this machine, or wherever fsspec finds them by their URL."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.metadata import metadata
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from fastmlp.common.errors import DataError, FastMLPError, UsageError, first_line
from fastmlp.common.files import SCHEME, has_wildcards, is_url

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
# What tells that a file of another system has changed, by the names that its file system has for it.
STAMPS = (
    *("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "updated", "md5Hash", "md5"),
    *("Content-MD5", "Digest", "created"),
)
DEEP = "**"  # in a glob: folders within folders
WEB = ("http://", "https://")  # paths of web servers begin with it, and no others
GONE = (404, 410)  # a web server's words for what is not there
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
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def at(self, path: str, info: dict[str, Any] | None = None) -> RemotePath:
        """Another one of the same file system."""
        return replace(self, path=path, info=info)

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]

    def with_name(self, name: str) -> RemotePath:
        return self.at(self.parent) / name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def absolute(self) -> RemotePath:
        return self

    def exists(self) -> bool:
        return bool(self._details())

    def is_dir(self) -> bool:
        return self._details().get("type") == "directory"

    def is_file(self) -> bool:
        return self.exists() and not self.is_dir()

    def iterdir(self) -> Iterator[RemotePath]:
        with _reached(self):
            entries = self.system.ls(self.path, detail=True)
        return (self._listed(entry) for entry in entries if self._holds(entry["name"]))

    def glob(self) -> list[RemotePath]:
        """What the path, which has wildcards, matches, as glob.glob has it.

        fsspec's own would leave out in silence what is in folders that cannot be listed just now.
        """
        parts = self.path.split("/")
        first = next(number for number, part in enumerate(parts) if has_wildcards(part))
        base = self.at("/".join(parts[:first]))
        found = [base] if base.is_dir() else []
        for part in [*parts[first:], *(["*"] if parts[-1] == DEEP else [])]:
            found = [inner for place in found if place.is_dir() for inner in place._matching(part)]
        return found

    def _matching(self, part: str) -> Iterator[RemotePath]:
        """What a part of a glob matches in this folder."""
        if part == DEEP:
            yield self
        for inner in self.iterdir():
            if inner.name.startswith(".") and not part.startswith("."):
                continue
            if part == DEEP and inner.is_dir():
                yield from inner._matching(part)
            elif part != DEEP and fnmatchcase(inner.name, part):
                yield inner

    def open(self, mode: str) -> io.RawIOBase:
        with _reached(self):
            return _RemoteFile(self, self.system.open(self.path, mode))

    def read_bytes(self) -> bytes:
        with _reached(self):
            return bytes(self.system.cat_file(self.path))

    def stamp(self) -> list[str]:
        about = self._details()
        return [f"{name} {about[name]}" for name in STAMPS if about.get(name) is not None]

    def _holds(self, path: str) -> bool:
        """Whether what a listing of this folder has is in it, and is not the folder itself."""
        return path.strip("/") != self.path.strip("/")

    def _listed(self, entry: dict[str, Any]) -> RemotePath:
        return self.at(entry["name"].rstrip("/"), entry)

    def _tells_of_nothing(self, error: FileNotFoundError) -> bool:
        """Whether the error says that there is nothing, rather than that nobody knows."""
        return True

    def _details(self) -> dict[str, Any]:
        """Nothing of what is not there."""
        if self.info is not None:
            return self.info
        with _reached(self):
            try:
                return dict(self.system.info(self.path))
            except FileNotFoundError as error:
                if not self._tells_of_nothing(error):
                    raise
                return {}


class WebPath(RemotePath):
    """What a web server has under a URL, quoted as URLs are. Its folders are pages that list what is in them."""

    def __truediv__(self, name: str) -> RemotePath:
        return super().__truediv__(quote(name))

    @property
    def name(self) -> str:
        return unquote(PurePosixPath(urlsplit(self.path).path).name)

    def is_dir(self) -> bool:
        about = self._details()
        return about.get("type") == "directory" or about.get("mimetype") == "text/html"

    def stamp(self) -> list[str]:
        return super().stamp() if self.info is None else self.at(self.path).stamp()  # listings tell names alone

    def _holds(self, path: str) -> bool:
        """Pages have other links too: to other folders, and to themselves, sorted in another way."""
        inner = path.removeprefix(self.path.rstrip("/") + "/").removeprefix("./").rstrip("/")
        return bool(inner) and not any(sign in inner for sign in "/?#")

    def _tells_of_nothing(self, error: FileNotFoundError) -> bool:
        """The file system raises it for whatever keeps it from asking, too."""
        return error.__cause__ is None or getattr(error.__cause__, "status", None) in GONE


class _RemoteFile(io.RawIOBase):
    """An open file of a file system, read from which raises DataError for what cannot be reached any more."""

    def __init__(self, place: RemotePath, file: IO[bytes]) -> None:
        super().__init__()
        self._place, self._file = place, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        with _reached(self._place):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


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
        raise UsageError(f"{text} cannot be read yet ({first_line(error)}): {_install_line(text)}.") from None
    except ValueError as error:
        raise UsageError(f"{text} cannot be read ({first_line(error)}): check the part before {SCHEME}.") from None
    except Exception as error:  # noqa: BLE001  (each file system raises its own)
        raise _unreached(text, error) from None
    return (WebPath if path.startswith(WEB) else RemotePath)(system, path)


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
    return place.at(text) if isinstance(place, RemotePath) else Path(text)


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
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    reason = first_line(cause).partition(". ")[0]
    return DataError(
        f"{place} cannot be read ({type(cause).__name__}: {reason}): check the path, the network and your credentials, "
        "or fetch it first."
    )


def _install_line(url: str) -> str:
    """How to install what the URL needs."""
    extra = url.partition(SCHEME)[0].rpartition(":")[2].replace("https", "http")
    known = metadata("fsspec").get_all("Provides-Extra") or []
    return f"pip install 'fsspec[{extra}]'" if extra in known else "install that"
