"""Downloads large files over HTTP: tries mirrors in turn, resumes, verifies; a file is whole or absent.

The bytes so far are kept in NAME.part beside the file. The files never change, so one mirror can complete what another
began.
"""

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from fastmlp.common.errors import DataError
from fastmlp.common.files import locked
from fastmlp.common.progress import progress, warn

TIMEOUTS = (10.0, 30.0)  # seconds to connect, and without a byte
SECONDS_OF_PATIENCE = 60.0
SLOWEST = 1000  # bytes per second: two days for CIFAR-10
CHUNK_BYTES = 1 << 14  # at most this much is read at once
MOST_TRIES = 100


@dataclass(frozen=True)
class RemoteFile:
    """A file that is the same on every mirror; `size` in bytes, `md5` in hexadecimal."""

    title: str
    urls: tuple[str, ...]
    size: int
    md5: str


class _MirrorError(Exception):
    """Why one mirror failed."""


def download(remote: RemoteFile, path: Path) -> None:
    """Download `remote` to `path`, unless it exists, from the first mirror that works; DataError if none does."""
    part = path.with_name(f"{path.name}.part")
    try:
        with locked(path.with_name(f"{path.name}.lock"), f"downloading {remote.title}"):
            if not path.exists():
                _bring_from_any(remote, part)
                part.replace(path)
    except OSError as error:
        raise DataError(
            f"{part} cannot be written ({error.strerror or error}): make room there, or name another folder in "
            "FASTMLP_CACHE_DIR."
        ) from error


def md5_of(path: Path) -> str:
    """Hexadecimal MD5 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _bring_from_any(remote: RemoteFile, part: Path) -> None:
    """Complete `part` from the first mirror that can. Raises DataError with each mirror's reason if none can."""
    failures = []
    for url in remote.urls:
        try:
            return _bring(remote, url, part)
        except _MirrorError as error:
            failures.append(f"{_host(url)}: {error}")
            warn(f"{remote.title}: {failures[-1]}")
    raise DataError(
        f"{remote.title} could not be downloaded ({'; '.join(failures)}): try again later, which resumes this "
        f"download, or download {remote.urls[0]} by hand and pass its folder as --data-dir."
    )


def _bring(remote: RemoteFile, url: str, part: Path) -> None:
    """Complete `part` from one mirror and verify it; wrong content is deleted."""
    part.touch()
    resumed = part.stat().st_size > 0
    _complete(remote, url, part)
    if md5_of(part) == remote.md5:
        return
    part.unlink()
    if not resumed:
        raise _MirrorError("sent wrong content (its MD5 differs), which was deleted")
    _bring(remote, url, part)  # the bytes of an earlier attempt may be at fault, not this mirror


def _complete(remote: RemoteFile, url: str, part: Path) -> None:
    """Request the rest of `part` again as long as each attempt brings a fair share of the file."""
    while (have := part.stat().st_size) < remote.size:
        trouble = "ended too early"
        try:
            _ask(remote, url, part, have)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:  # the last for bad URLs
            trouble = _reason(error)
        if part.stat().st_size < min(remote.size, have + remote.size / MOST_TRIES):
            raise _MirrorError(trouble)


def _ask(remote: RemoteFile, url: str, part: Path, have: int) -> None:
    """Make one request for what follows the first `have` bytes, and write the answer in its place."""
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={have}-"}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as answer:
        start = _start(answer, remote.size, have)
        with part.open("r+b") as file, progress(remote.title, remote.size, "bytes", start) as bar:
            file.seek(start)
            pace = _Pace(start)
            while chunk := answer.raw.read1(CHUNK_BYTES, decode_content=False):
                if file.tell() + len(chunk) > remote.size:
                    raise _MirrorError("sends more bytes than the file has")
                file.write(chunk)
                bar.advance(len(chunk))
                pace.check(file.tell())


class _Pace:
    """Detects a server that sends a byte now and then, which no connection timeout detects."""

    def __init__(self, place: int) -> None:
        self._place, self._time = place, time.monotonic()

    def check(self, place: int) -> None:
        now = time.monotonic()
        if now - self._time < SECONDS_OF_PATIENCE:
            return
        if place - self._place < SLOWEST * (now - self._time):
            raise _MirrorError("sends too slowly")
        self._place, self._time = place, now


def _start(answer: requests.Response, size: int, have: int) -> int:
    """The position in the file of the answer's first byte. Raises _MirrorError if that is not what was requested."""
    if not answer.ok:
        raise _MirrorError(f"answered {answer.status_code} {answer.reason}")
    if "text/html" in answer.headers.get("Content-Type", ""):
        raise _MirrorError("answered with a web page, not the file")
    start, total = 0, answer.headers.get("Content-Length")
    if answer.status_code == requests.codes.partial_content:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        start, total = (int(span[1]), span[2]) if span else (-1, "?")
    if start not in (0, have) or total not in (str(size), None):
        raise _MirrorError(f"offers a file of {total} bytes, not of {size}")
    return start


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:
        return url


def _reason(error: Exception) -> str:
    """The reason in the user's terms."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "stopped answering"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"broke off ({type(error).__name__})"
