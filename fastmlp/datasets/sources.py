"""Parts of a dataset, each of which is read by itself: here or on another machine, in any order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from safetensors.numpy import save

from fastmlp.common.environment import available_cores
from fastmlp.common.files import read_safetensors, write_bytes
from fastmlp.datasets.mapped import IMAGE_SHAPE, Images
from fastmlp.datasets.places import Place

MOST_THREADS = 8  # each may hold an honest giant
IMAGES, ABOUT = "images", "about"

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
    """The images uint8 (n, 3, 32, 32) that could be read, their labels, and by its path why another could not."""

    images: Images
    labels: list[Label]
    reasons: dict[str, str]


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

    def read(self, max_pixels: int, threads: int) -> Samples:
        """Raises DataError for what is no image that could be left out, such as a damaged archive."""


class PartFile(NamedTuple):
    """A source, and the file that keeps what was read of it."""

    source: Source
    path: Path

    def write(self, max_pixels: int, threads: int) -> None:
        """Read the source, and write the file, whole or not at all."""
        images, labels, reasons = self.source.read(max_pixels, threads)
        about = json.dumps({"labels": labels, "reasons": reasons})
        write_bytes(self.path, save({IMAGES: np.ascontiguousarray(images)}, {ABOUT: about}))

    def about(self) -> tuple[list[Label], dict[str, str]] | None:
        """The labels and reasons in the file; None if it is not there, or not what was written."""
        try:
            metadata, _ = read_safetensors(self.path, ())
            about = json.loads(metadata[ABOUT])
            return about["labels"], about["reasons"]
        except (OSError, ValueError, KeyError):
            return None

    def images(self) -> Images:
        images: Images = read_safetensors(self.path, (IMAGES,))[1][IMAGES]
        return images


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


def stacked(images: Sequence[Images]) -> Images:
    """(n, 3, 32, 32), also of none."""
    return np.stack(images) if images else np.empty((0, *IMAGE_SHAPE), np.uint8)
