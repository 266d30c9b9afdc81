"""Parts of a dataset, each of which is read by itself: here or on another machine, in any order."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np

from fastmlp.common.environment import available_cores
from fastmlp.common.files import atomic_path
from fastmlp.datasets.mapped import BLOCK, IMAGE_BYTES, IMAGE_SHAPE, Images
from fastmlp.datasets.places import Place

MOST_THREADS = 8  # each may hold an honest giant
LENGTH = struct.Struct("<Q")

Label = int | str


class Named(NamedTuple):
    """A file or folder, and what the user calls it."""

    place: Place
    shown: str

    @classmethod
    def of(cls, place: Place) -> Named:
        return cls(place.absolute(), str(place))  # others may be in another folder

    def inner(self, name: str) -> Named:
        return Named(self.place / name, f"{self.shown}/{name}")


class Samples(NamedTuple):
    """The labels of the images that could be read, in their order, and by its path why another could not.

    others: how many things of the source are neither images nor labels, by what they are.
    """

    labels: list[Label]
    reasons: dict[str, str]
    others: dict[str, int]


Put = Callable[[Images], None]  # takes images uint8 (n, 3, 32, 32), few at a time


class Source(Protocol):
    """A part of a dataset."""

    @property
    def shown(self) -> str:
        """What the user calls it."""

    @property
    def count(self) -> int:
        """How many units of progress it is."""

    @property
    def needed(self) -> list[Place]:
        """The files and folders that must be there."""

    def identity(self) -> list[Any]:
        """All that shapes what is read, as JSON has it."""

    def read(self, max_pixels: int, threads: int, put: Put) -> Samples:
        """The samples, whose images are put. Raises DataError for what is no bad image, such as a damaged archive."""


@dataclass(frozen=True)
class OfFile:
    """What sources have that are, or are in, one file."""

    file: Named

    @property
    def shown(self) -> str:
        return self.file.shown

    @property
    def needed(self) -> list[Place]:
        return [self.file.place]


class PartFile(NamedTuple):
    """A source, and the file that keeps what was read of it: images, then JSON, then how long that is."""

    source: Source
    path: Path

    def write(self, max_pixels: int, threads: int) -> None:
        """Read the source, and write the file, whole or not at all."""
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            samples = self.source.read(max_pixels, threads, lambda images: _append(images, file))
            about = json.dumps(samples._asdict()).encode()
            file.write(about + LENGTH.pack(len(about)))

    def samples(self) -> Samples | None:
        """What is in the file, but for images; None if it is not there, or is not whole."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(-LENGTH.size, os.SEEK_END)
                (length,) = LENGTH.unpack(file.read())
                file.seek(size - length)
                samples = Samples(**json.loads(file.read(length)))
        except (OSError, ValueError, TypeError, struct.error):
            return None
        return samples if len(samples.labels) * IMAGE_BYTES + length == size else None

    def images(self) -> Iterator[Images]:
        """So many as the file has labels, few at a time."""
        samples = self.samples()
        with self.path.open("rb") as file:
            left = len(samples.labels) if samples else 0
            while left:
                count = min(left, BLOCK)
                yield np.frombuffer(file.read(count * IMAGE_BYTES), np.uint8).reshape(count, *IMAGE_SHAPE)
                left -= count


def _append(images: Images, file: IO[bytes]) -> None:
    file.write(np.ascontiguousarray(images).data)


class Reader(Protocol):
    """What reads parts into their files, here or on other machines, in any order."""

    def __call__(self, parts: Sequence[PartFile], max_pixels: int) -> Iterator[int]:
        """The number of each part, from 0 on, once its file is there."""


def read_here(parts: Sequence[PartFile], max_pixels: int) -> Iterator[int]:
    """The reader of this process."""
    threads = min(available_cores(), MOST_THREADS)
    for number, part in enumerate(parts):
        part.write(max_pixels, threads)
        yield number
