"""Rows of features as they lie in one file: read where they are or, where they are packed, part by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.files import BFLOAT16, widened
from fastmlp.features.columns import Choice
from fastmlp.features.contents import Contents, damage_reported, open_contents
from fastmlp.features.tables import read_chosen

PARTS_KEPT = 2  # of packed files: one for each of two threads
Index = NDArray[np.int64]
PartReader = Callable[[Path, Choice, int | None], NDArray[Any]]
NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "|u1", "I8": "|i1"} | {
    f"{sign}{bits}": f"<{sign.lower()}{bits // 8}" for sign in "UI" for bits in (16, 32, 64)
}  # by what safetensors calls them
STRETCH_BYTES = 2**18  # read by one call, and still in a core's cache when its rows are taken
COLUMN_BYTES = 2**22  # the same of a file that is stored by columns, each of which takes a call
GAP_BYTES = 2**14  # between two rows: what is not wanted is read with them, which takes less time than another call


class RowFile(Protocol):
    """The features (n, d) in one file; stored: the dtype they have there, dtype: the one they are read in.

    parts: the first rows of those parts that are only read whole, and the end of the last; None: any row is read alone.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def stored(self) -> str: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def parts(self) -> Index | None: ...

    def read(self, rows: Index, out: NDArray[Any]) -> None:
        """Write those rows, in that order, to out (m, d), of any dtype."""

    def at(self, path: Path) -> RowFile:
        """The same by another path, and fit to be sent to another process."""


def open_rows(contents: Contents, choice: Choice, read_part: PartReader) -> RowFile:
    """The chosen features of an open file. Raises DataError for a damaged one."""
    with damage_reported(contents.path):
        if contents.path.suffix.lower() == ".npy":
            return _of_npy(contents.path)
        if contents.path.suffix.lower() == ".safetensors":
            return _of_safetensors(contents.path, choice.features[0])
        return PackedRows.opened(contents, choice, read_part)


@dataclass(frozen=True)
class PlainRows:
    """An array that lies in a file as it would in memory. It is not mapped: mapped pages count as the process's memory.

    fortran: it is stored by columns.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    stored: str
    fortran: bool = False
    parts: Index | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self.stored == BFLOAT16 else self.stored)

    @property
    def _in_file(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.stored == BFLOAT16 else self.stored)

    def read(self, rows: Index, out: NDArray[Any]) -> None:
        """Rows in ascending order take the fewest calls."""
        row_bytes = self.shape[1] * self._in_file.itemsize
        longest = max(1, (COLUMN_BYTES if self.fortran else STRETCH_BYTES) // row_bytes)
        room = np.empty(min(longest, self.shape[0]) * self.shape[1], self._in_file)
        with self.path.open("rb", buffering=0) as file:
            for part in _stretches(rows, 1 + GAP_BYTES // row_bytes, longest):
                self._read_stretch(file, rows[part], room, out[part])

    def _read_stretch(self, file: Any, rows: Index, room: NDArray[Any], out: NDArray[Any]) -> None:
        """Read all from the first to the last of these rows into the room, and take them; or where they are wanted."""
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        whole, width = count == len(rows), self.shape[1]
        if whole and out.dtype == self._in_file == self.dtype and out.flags.c_contiguous and not self.fortran:
            self._fill(file, first * width, out)
            return
        stretch = room[: count * width].reshape(*((width, count) if self.fortran else (count, width)))
        if self.fortran:
            for number, column in enumerate(stretch):
                self._fill(file, number * self.shape[0] + first, column)
            stretch = stretch.T
        else:
            self._fill(file, first * width, stretch)
        if self.stored == BFLOAT16:
            out[...] = widened(stretch[rows - first])
        elif whole:
            out[...] = stretch
        elif out.dtype == stretch.dtype:
            np.take(stretch, rows - first, axis=0, out=out, mode="clip")  # "raise" would copy twice
        else:
            out[...] = stretch[rows - first]

    def _fill(self, file: Any, place: int, out: NDArray[Any]) -> None:
        """Read numbers from that place on, as many as out has, which lies in memory as in the file."""
        file.seek(self.offset + place * out.itemsize)
        if file.readinto(out.data) != out.nbytes:
            raise DataError(f"{self.path} ends before its rows do: it has changed since it was opened.")

    def at(self, path: Path) -> PlainRows:
        return replace(self, path=path)


def _stretches(rows: Index, gap: int, longest: int) -> Iterator[slice]:
    """Parts of the rows, each of which ascends by no more than a gap, and goes over no more than so many."""
    steps = np.diff(rows, prepend=-gap - 1)
    firsts = np.flatnonzero((steps < 0) | (steps > gap))
    for start, stop in pairwise([*firsts.tolist(), len(rows)]):
        first, last = rows[start], rows[stop - 1]
        borders = start + np.searchsorted(rows[start:stop], np.arange(first, last + 1, longest))
        yield from (slice(*ends) for ends in pairwise([*borders.tolist(), stop]))


def _of_npy(path: Path) -> PlainRows:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        return PlainRows(path, file.tell(), shape, dtype.str, fortran)


def _of_safetensors(path: Path, name: str) -> PlainRows:
    """Of a file that safetensors itself has opened, and found sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    stored = entry["dtype"] if entry["dtype"] == BFLOAT16 else NUMPY_DTYPES.get(entry["dtype"])
    if stored is None:
        raise ValueError(f"{name!r} is of type {entry['dtype']}, which NumPy lacks; convert it to float32")
    return PlainRows(path, 8 + length + entry["data_offsets"][0], tuple(entry["shape"]), stored)


@dataclass(frozen=True)
class PackedRows:
    """Features that are unpacked part by part: the row groups of a Parquet file, or a .npz file as a whole."""

    path: Path
    choice: Choice
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: Index
    grouped: bool
    read_part: PartReader

    @classmethod
    def opened(cls, contents: Contents, choice: Choice, read_part: PartReader) -> PackedRows:
        grouped = bool(contents.groups)
        first = read_part(contents.path, choice, 0 if grouped else None)
        parts = np.cumsum(contents.groups if grouped else [len(first)])
        shape = (int(parts[-1]), *first.shape[1:])
        return cls(contents.path, choice, shape, first.dtype, np.array([0, *parts]), grouped, read_part)

    @property
    def stored(self) -> str:
        return self.dtype.str

    def read(self, rows: Index, out: NDArray[Any]) -> None:
        owners = np.searchsorted(self.parts, rows, side="right") - 1
        for part in np.unique(owners).tolist():
            places = np.flatnonzero(owners == part)
            out[places] = self._part(part)[rows[places] - self.parts[part]]

    def at(self, path: Path) -> PackedRows:
        return replace(self, path=path, read_part=kept_part)

    def _part(self, number: int) -> NDArray[Any]:
        return self.read_part(self.path, self.choice, number if self.grouped else None)


def read_part(path: Path, choice: Choice, group: int | None) -> NDArray[Any]:
    """The chosen features of a file, or their rows in one row group."""
    return read_chosen(open_contents(path), choice, group)


@lru_cache(PARTS_KEPT)
def kept_part(path: Path, choice: Choice, group: int | None) -> NDArray[Any]:
    """The same, of the last few that the process has read."""
    return read_part(path, choice, group)
