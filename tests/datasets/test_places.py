"""Images on a web server, and file systems that fail now and then: the same dataset, or one sentence."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from fastmlp import datasets
from fastmlp.common.errors import DataError
from fastmlp.datasets import Reading, places
from tests.datasets.stored import members_of, samples_in, write_layouts, write_tar
from tests.photos import draw_photos

fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("own_folders", "served")
SKIP = Reading(on_bad_image="skip")
SITE = "http://here"
PHOTOS = f"folder:{SITE}/folder"
ODD = "a b%20ü#1?.png"


class RefusedError(Exception):
    """What a client raises for an answer of that status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answer {status}")
        self.status = status


class Web(fsspec.AbstractFileSystem):  # type: ignore[misc,name-defined]
    """The current folder as fsspec's own file system for the web shows it: all are files, and pages are listings.

    trouble: called with each path; what it raises keeps the server from being asked.
    """

    protocol = ("http", "https")
    cachable = False
    trouble: Callable[[str], object] = staticmethod(lambda _: None)
    cuts = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def _file(self, url: str) -> Path:
        self.trouble(url)
        path = Path(unquote(url.partition("?")[0].removeprefix(SITE).strip("/")) or ".")
        if not path.exists():
            raise RefusedError(404)
        return path

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        try:
            file = self._file(path)
        except RefusedError as error:
            raise FileNotFoundError(path) from error
        kind = {"mimetype": "text/html"} if file.is_dir() else {"Last-Modified": str(file.stat().st_mtime_ns)}
        return {"name": path, "size": None, "type": "file", **kind}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        try:
            folder = self._file(path)
        except RefusedError as error:
            if error.status == 404:
                raise FileNotFoundError(path) from None
            raise
        names = [quote(one.name) + "/" * one.is_dir() for one in folder.iterdir()] + ["?C=N;O=D", "./", "x/y.png"]
        urls = [f"{path.rstrip('/')}/{name}" for name in names]
        return [{"name": url, "size": None, "type": "directory" if url[-1] == "/" else "file"} for url in urls]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        return self._file(path).read_bytes()

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return Cut(self._file(path).read_bytes()) if self.cuts else self._file(path).open(mode)


class Cut(io.BytesIO):
    """A file whose connection ends before it does."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > len(self.getvalue()) // 2 or (size or 0) > 100:
            raise RefusedError(206)
        return super().read(size)


@pytest.fixture
def served(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """folder/, parquet/ and tar/ of the same images, on a web server."""
    draw_photos(Path("folder"), {"train": 4, "test": 2})
    write_layouts(Path("folder"))
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "http", Web)


def hashes(name: str, **options: Any) -> list[str]:
    found = datasets.load(name, **options)
    return [found.train.content_hash, found.test.content_hash]


@pytest.mark.parametrize("name", ["folder:{}/folder", "folder:{}/folder/", "parquet:{}/parquet", "tar:{}/tar/*.tar"])
def test_a_web_server_has_the_dataset_that_a_disk_has(name: str) -> None:
    assert hashes(name.format(SITE)) == hashes("folder:folder")


def test_a_url_may_end_with_a_key() -> None:
    write_tar(Path("all.tar"), members_of(samples_in(Path("folder/train"))))
    assert hashes(f"tar:{SITE}/all.tar?key=1/2") == hashes("tar:all.tar")


def test_names_are_quoted_as_urls_are() -> None:
    Path("folder/train/dog/1.png").rename(f"folder/train/dog/{ODD}")
    Path("folder/train/dog/2.png").write_bytes(b"no image")
    left_out = [
        datasets.load(name, reading=SKIP).left_out.images.keys() for name in (PHOTOS, f"folder:{SITE}/folder/train")
    ]
    assert left_out == [{f"{SITE}/folder/train/dog/2.png"}] * 2
    assert hashes(PHOTOS, reading=SKIP) == hashes("folder:folder", reading=SKIP)


@pytest.mark.parametrize("name", ["folder:{}/folder", "parquet:{}/parquet", "tar:{}/tar/*.tar"])
def test_a_file_that_changed_on_a_web_server_is_read_again(name: str) -> None:
    kept = Path("kept")
    hashes(name.format(SITE), keep=kept)
    assert len([*kept.glob("*-*")]) == 1
    hashes(name.format(SITE), keep=kept)
    assert len([*kept.glob("*-*")]) == 1
    for path in ("folder/train/cat/0.png", "parquet/train-00000-of-00002.parquet", "tar/train-00000-of-00002.tar"):
        os.utime(path, (0, 0))
    hashes(name.format(SITE), keep=kept)
    assert len([*kept.glob("*-*")]) == 2


@pytest.mark.parametrize("what", ["folder/train", "folder/test", "cat/", "cat/1.png", "folder"])
def test_what_cannot_be_asked_is_not_taken_for_missing(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the next run, once the server answers, begin anew."""

    def trouble(url: str) -> None:
        if url.partition(SITE)[2].strip("/").endswith(what.strip("/")):
            raise RefusedError(500)

    kept = Path("kept")
    with monkeypatch.context() as patched:
        patched.setattr(Web, "trouble", staticmethod(trouble))
        with pytest.raises(DataError, match=rf"^{SITE}/.* cannot be read \(RefusedError: answer 500\): check the path"):
            datasets.load(PHOTOS, reading=SKIP, keep=kept)
    assert hashes(PHOTOS, keep=kept) == hashes("folder:folder")


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_connection_that_ends_in_a_file_is_no_damage(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Path("kept")
    with monkeypatch.context() as patched:
        patched.setattr(Web, "cuts", True)
        with pytest.raises(DataError, match=rf"^{SITE}/{kind}/.* cannot be read \(RefusedError: answer 206\): check"):
            datasets.load(f"{kind}:{SITE}/{kind}", reading=SKIP, keep=kept)
    assert not [path for path in kept.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert hashes(f"{kind}:{SITE}/{kind}", keep=kept) == hashes("folder:folder")


def test_a_folder_within_a_glob_that_cannot_be_listed_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):
        Path("globs", split).mkdir(parents=True)
        Path("tar", f"{split}-00000-of-00002.tar").rename(f"globs/{split}/{split}.tar")
    glob = f"tar:{SITE}/globs/*/*.tar"
    assert all(
        len(datasets.load(name).train) == 5
        for name in (glob, glob.replace("*/*", "**/*"), glob.replace("*/*", "t*/t*"))
    )

    def trouble(url: str) -> None:
        if url.rstrip("/").endswith("globs/test"):
            raise TimeoutError("no answer")

    monkeypatch.setattr(Web, "trouble", staticmethod(trouble))
    with pytest.raises(DataError, match=r"cannot be read \(TimeoutError: no answer\)"):
        datasets.load(glob)
    with pytest.raises(DataError, match=rf"There are no .*files in {SITE}/nothing/\*\.tar"):
        datasets.load(f"tar:{SITE}/nothing/*.tar")


@pytest.mark.parametrize(
    ("url", "line"),
    [("s3://bucket", "fsspec[s3]"), ("https://here", "fsspec[http]"), ("simplecache::gs://bucket", "fsspec[gs]")],
)
def test_what_a_url_needs_is_installed_by_a_line(url: str, line: str) -> None:
    assert places._install_line(url) == f"pip install '{line}'"
    assert places._install_line("other://x") == "install that"
