"""Tar archives of samples, as WebDataset has them: files of one stem, one an image and one its label.

PHOTO.jpg has its label in PHOTO.cls, as a whole number or a word, or in PHOTO.json as "label" or "cls": of several, the
first of these counts, and they may only differ as a number and a word do. Archives are read from their beginning to
their end, each as one part.
"""

from __future__ import annotations

import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fastmlp.common.errors import DataError, first_line
from fastmlp.datasets import image_files, image_store
from fastmlp.datasets.base import Dataset
from fastmlp.datasets.image_files import PART, decoded, of_bytes, stacked
from fastmlp.datasets.image_shards import find_shards
from fastmlp.datasets.image_store import Listing
from fastmlp.datasets.places import Place, stamp_of
from fastmlp.datasets.reading import Reading
from fastmlp.datasets.sources import Label, Named, OfFile, Put, Reader, Samples

ENDINGS = (".tar", ".tar.gz", ".tgz")
NUMBER = re.compile(r"-?\d+", re.ASCII)
IN_CLS, IN_JSON = ".cls", ("label", "cls")
KINDS = (IN_CLS, *(f".json {name}" for name in IN_JSON))  # of places of labels; the first counts
DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error)


def load(place: Place, reading: Reading, reader: Reader | None = None, keep: Path | None = None) -> Dataset:
    """The dataset in a tar file, or in a folder, glob or braces of them; errors as for `image_store.load`."""
    shards = find_shards(place, ENDINGS)
    splits = [[TarFile(Named.of(file)) for file in files] for files in shards.splits]
    listing = Listing(f"tar:{place}", splits, None, shards.told, dict(shards.others), unit="files")
    return image_store.load(listing, reading, reader, keep)


@dataclass(frozen=True)
class TarFile(OfFile):
    """A source of the samples in one archive. Raises DataError for one that is damaged or lacks its end."""

    count: int = 1

    def identity(self) -> list[Any]:
        return ["tar", self.file.shown, str(self.file.place), stamp_of(self.file.place)]

    def read(self, max_pixels: int, threads: int, put: Put) -> Samples:
        found = _Found(self.file.shown, max_pixels, threads, put)
        with _members(self.file) as members:
            for name, content in members:
                found.add(name, content)
        return found.samples()


class _Told(NamedTuple):
    """A label, the kind of place that it has, and which place that is."""

    label: Label
    kind: str
    place: str


@dataclass
class _Found:
    """The samples of an archive as they come: images are decoded, and put, few at a time."""

    shown: str
    max_pixels: int
    threads: int
    put: Put
    names: dict[str, str] = field(default_factory=dict)  # of image files, by their stems
    reasons: dict[str, str] = field(default_factory=dict)  # of images that cannot be read, by their stems
    labels: dict[str, list[_Told]] = field(default_factory=dict)  # by their stems
    others: Counter[str] = field(default_factory=Counter)  # by their suffixes
    waiting: list[bytes] = field(default_factory=list)

    def add(self, name: str, content: bytes | None) -> None:
        if content is None:
            self.others["link or device"] += 1
            return
        folder, _, base = name.rpartition("/")
        stem, _, suffixes = base.partition(".")
        stem, suffix = f"{folder}/{stem}" if folder else stem, f".{suffixes.rpartition('.')[2].lower()}"
        if suffix in image_files.suffixes():
            if stem in self.names:
                raise DataError(
                    f"{self.shown} has two images in one sample, {self.names[stem]} and {name}: give each a name of "
                    "its own before the first dot."
                )
            self.names[stem] = name
            self.waiting.append(content)
            if len(self.waiting) == PART:
                self._decode()
        elif suffix in (IN_CLS, ".json"):
            if told := _labels(content, f"{self.shown}/{name}", suffix):
                self.labels.setdefault(stem, []).extend(told)
        else:
            self.others[suffix if suffixes else "without a suffix"] += 1

    def samples(self) -> Samples:
        """In the order of the images. Raises DataError for an image without a label, or with two."""
        self._decode()
        for stem, name in self.names.items():
            if stem not in self.labels:
                raise DataError(f"{self.shown}/{name} has no label: put {stem}.cls beside it, or remove it.")
        labels = [self._label(stem) for stem in self.names if stem not in self.reasons]
        reasons = {f"{self.shown}/{self.names[stem]}": reason for stem, reason in self.reasons.items()}
        alone = {f"{self.shown}/{stem}": "a label without an image" for stem in self.labels if stem not in self.names}
        return Samples(labels, reasons | alone, dict(self.others))

    def _label(self, stem: str) -> Label:
        """That of an image; what tells it in another way is counted among what is left out."""
        first, *others = sorted(self.labels[stem], key=lambda told: (KINDS.index(told.kind), told.place))
        for other in others:
            if type(other.label) is not type(first.label):
                self.others[f"{other.kind} beside {first.kind}"] += 1
            elif other.label != first.label:
                raise DataError(
                    f"{self.shown}/{self.names[stem]} has two labels, {first.label!r} in {first.place} and "
                    f"{other.label!r} in {other.place}: remove one of them."
                )
        return first.label

    def _decode(self) -> None:
        found = decoded(self.waiting, of_bytes, self.max_pixels, self.threads)
        self.put(stacked(found))
        stems = list(self.names)[len(self.names) - len(found) :]
        self.reasons |= {stem: image for stem, image in zip(stems, found, strict=True) if isinstance(image, str)}
        self.waiting = []


def _labels(content: bytes, shown: str, suffix: str) -> list[_Told]:
    """Whole numbers from 0 on, or words; none of JSON that has none."""
    try:
        values = {IN_CLS: _number_or_word(content)} if suffix == IN_CLS else _in_json(json.loads(content))
    except (ValueError, RecursionError):
        raise DataError(f"{shown} is damaged: write the label as text, or as JSON.") from None
    for value in values.values():
        number = type(value) is int and value >= 0  # true is no number
        if not number and not (isinstance(value, str) and value):
            raise DataError(f"{shown} has the label {value!r}: give a whole number from 0 on, or a word.")
    return [_Told(value, kind, shown) for kind, value in values.items()]


def _number_or_word(content: bytes) -> Label:
    text = content.decode().strip()
    return int(text) if NUMBER.fullmatch(text) else text  # or ValueError, of too many digits


def _in_json(about: Any) -> dict[str, Any]:
    """By its kind of place."""
    found = about if isinstance(about, dict) else {}
    return {kind: found[name] for kind, name in zip(KINDS[1:], IN_JSON, strict=True) if found.get(name) is not None}


@contextmanager
def _members(file: Named) -> Iterator[Iterator[tuple[str, bytes | None]]]:
    """The names of what is in an archive, one after the other, but for folders and hidden files; contents of files."""
    try:
        with file.place.open("rb") as opened, tarfile.open(fileobj=opened, mode="r|*", tarinfo=_Member) as archive:
            yield (
                (member.name.removeprefix("./"), _content(archive, member) if member.isreg() else None)
                for member in archive
                if not (member.isdir() or member.name.rpartition("/")[2].startswith("."))
            )
    except DAMAGE as error:
        raise DataError(f"{file.shown} is truncated or damaged ({first_line(error)}): fetch it again.") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    assert opened is not None  # as it is a file
    content = opened.read()
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


class _Member(tarfile.TarInfo):
    """A member of an archive whose end must be marked: elsewhere tarfile takes damage for the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(first_line(error)) from None
