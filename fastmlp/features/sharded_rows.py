"""Rows of features that lie in many files, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError, first_line
from fastmlp.common.files import sha256_of
from fastmlp.common.progress import warn
from fastmlp.features.row_files import Index, RowFile, are_alike, opened, read_together
from fastmlp.network.scaling import Scaling

SHARD = "shard "  # begins the name of one
TOGETHER = 64  # files are open at a time, at most
Stamp = tuple[int, int]  # bytes, and nanoseconds of the last change


@dataclass(frozen=True)
class Shard:
    """One file of the features, whose rows are those from `start` on of the whole; stamp: of the file as opened."""

    path: Path
    start: int
    file: RowFile
    stamp: Stamp

    @property
    def rows(self) -> int:
        return self.file.shape[0]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal. Errors as for `read`."""
        with self._unchanged():
            return sha256_of(self.path)

    def read(self, rows: Index, out: NDArray[Any], scaling: Scaling | None = None) -> None:
        """Put those of its rows, numbered from 0, into out (m, d), standardised if there is a scaling.

        Raises DataError if the file is not what it was when it was opened.
        """
        with self._unchanged():
            self.file.read(rows, out, scaling)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Let the block read the file, and see to it that it was the one that was opened."""
        self._check_unchanged()
        try:
            yield
        except (OSError, ValueError) as error:
            raise DataError(f"The shard {self.path} cannot be read ({first_line(error)}): save it again.") from None
        finally:
            self._check_unchanged()  # which tells more than damage that comes of it

    def _check_unchanged(self) -> None:
        if stamp_of(about_file(self.path)) != self.stamp:
            raise DataError(f"The shard {self.path} has changed since it was opened: start again, and leave it alone.")


class Piece(NamedTuple):
    """The rows from start to stop, of those that are asked for, are a shard's."""

    shard: Shard
    start: int
    stop: int


class ShardedRows:
    """Features (n, d) in shards. Indexed by a row, a slice or an array of rows, it reads those as a NumPy array.

    Threads may share it.
    """

    ndim = 2

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self._ends = np.cumsum([shard.rows for shard in shards])
        self._starts = np.array([shard.start for shard in shards])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *shards[0].file.shape[1:])
        self.dtype = shards[0].file.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Index) -> NDArray[Any]:
        if isinstance(rows, int | np.integer):
            return self[np.array([range(len(self))[rows]])][0]
        index = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, np.int64)
        out = np.empty((len(index), self.shape[1]), self.dtype)
        self.read(index, out)
        return out

    def read(self, rows: Index, out: NDArray[Any], scaling: Scaling | None = None) -> None:
        """Put those rows, in that order, into out (m, d), of any dtype, standardised if there is a scaling."""
        owners = np.searchsorted(self._ends, rows, side="right")
        borders = np.flatnonzero(np.diff(owners, prepend=-1, append=-1)).tolist()
        pieces = [Piece(self.shards[owners[start]], start, stop) for start, stop in pairwise(borders)]
        places = rows - self._starts[owners]
        for first in range(0, len(pieces), TOGETHER):
            some = pieces[first : first + TOGETHER]
            done = some[0].start + (0 if scaling is None else _read_together(some, places, out, scaling))
            for shard, start, stop in some:
                if done < stop:
                    rest = slice(max(start, done), stop)
                    shard.read(places[rest], out[rest], scaling)

    def place_of(self, row: int) -> tuple[int, Path]:
        """The number of a row in its shard, and that shard's file."""
        shard = self.shards[int(np.searchsorted(self._ends, row, side="right"))]
        return row - shard.start, shard.path

    def absolute(self) -> ShardedRows:
        """The same, fit to be sent to a process that sees the files, in whatever folder it runs."""
        paths = [shard.path.absolute() for shard in self.shards]
        moved = [
            replace(shard, path=path, file=shard.file.at(path)) for shard, path in zip(self.shards, paths, strict=True)
        ]
        return ShardedRows(moved)

    @property
    def largest_part(self) -> int:
        """Rows of the largest part of a file that is only read whole, 0 where there is none."""
        borders = [shard.file.parts for shard in self.shards]
        return max((int(np.diff(parts).max()) for parts in borders if parts is not None), default=0)

    @cached_property
    def names(self) -> list[str]:
        """Of each shard its file, and a hash of its content. What lies there twice is told."""
        first: dict[str, Path] = {}
        for shard in self.shards:
            if first.setdefault(shard.digest, shard.path) != shard.path:
                warn(f"The shard {shard.path} is a copy of {first[shard.digest]}: its rows count twice.")
        return [f"{SHARD}{shard.path.name}-{shard.digest[:16]}" for shard in self.shards]


def _read_together(pieces: Sequence[Piece], places: Index, out: NDArray[Any], scaling: Scaling) -> int:
    """Read what one compiled call can of consecutive pieces, each at its places in its shard; how many rows it read."""
    files, begin, end = [shard.file for shard, _, _ in pieces], pieces[0].start, pieces[-1].stop
    if not are_alike(files):
        return 0
    try:
        with opened([file.path for file in files]) as descriptors:
            stops = [stop - begin for _, _, stop in pieces]
            done = read_together(files, descriptors, stops, places[begin:end], out[begin:end], scaling)
            same = all(
                stamp_of(os.fstat(file)) == piece.shard.stamp for file, piece in zip(descriptors, pieces, strict=True)
            )
            return done if same else 0
    except OSError:
        return 0  # each shard tells what it is


def stamp_of(about: os.stat_result) -> Stamp:
    return about.st_size, about.st_mtime_ns


def about_file(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise DataError(f"The shard {path} is gone: put it back, and start again.") from None
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read ({error.strerror}): replace it, and start again.") from None
