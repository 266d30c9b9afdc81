"""Rows of features as they lie in one file: read where they are or, where they are packed, part by part."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.files import BFLOAT16, widened
from fastmlp.features.columns import Choice
from fastmlp.features.contents import Contents, damage_reported, open_contents
from fastmlp.features.tables import read_chosen
from fastmlp.kernels import Halves, RowSource
from fastmlp.network.scaling import Scaling

PARTS_KEPT = 2  # of packed files: one for each of two threads
Index = NDArray[np.int64]
Stretch = tuple[int, int, int]  # of a file: its first row, how many, and where in the room they are to lie
PartReader = Callable[[Path, Choice, int | None], NDArray[Any]]
NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "|u1", "I8": "|i1"} | {
    f"{sign}{bits}": f"<{sign.lower()}{bits // 8}" for sign in "UI" for bits in (16, 32, 64)
}  # by what safetensors calls them
HALVES = {np.dtype(np.float16): Halves.FLOAT16}
STRETCH_BYTES = 2**18  # read together, and still in a core's cache when their rows are taken
COLUMN_BYTES = 2**22  # the same of a file that is stored by columns, each of which takes a call
GAP_BYTES = 2**14  # between two rows: what is not wanted is read with them, which takes less time than another call

_kept = threading.local()  # its room: what the thread reads to; wide: the same in float32, where that is halves


def _put(rows: NDArray[Any], places: Index, out: NDArray[Any], scaling: Scaling | None) -> None:
    """Write the rows in these places to out, which may have another dtype, standardised if there is a scaling."""
    if scaling is not None:
        scaling.take(rows, places, out)
    elif out.dtype == rows.dtype:
        np.take(rows, places, axis=0, out=out, mode="clip")  # "raise" would copy twice
    else:
        out[...] = rows[places]


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

    def read(self, rows: Index, out: NDArray[Any], scaling: Scaling | None = None) -> None:
        """Put those rows, in that order, into out (m, d), of any dtype, standardised if there is a scaling."""

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

    @cached_property
    def in_file(self) -> np.dtype[Any]:
        """The type that reads its numbers as they lie there."""
        return np.dtype(np.uint16 if self.stored == BFLOAT16 else self.stored)

    def read(self, rows: Index, out: NDArray[Any], scaling: Scaling | None = None) -> None:
        """Rows in ascending order take the fewest calls."""
        with opened([self.path]) as (file,):
            done = 0
            if scaling is not None and not self.fortran:
                done = read_together([self], [file], [len(rows)], rows, out, scaling)
            if done < len(rows):
                self._read_in_calls(file, rows[done:], out[done:], scaling)

    def _read_in_calls(self, file: int, rows: Index, out: NDArray[Any], scaling: Scaling | None) -> None:
        row_bytes = self.shape[1] * self.in_file.itemsize
        room = _room("room", self.in_file, self.at_once, self.shape[1], self.fortran)
        direct = scaling is None and out.dtype == self.in_file == self.dtype and out.flags.c_contiguous
        for part, places, stretches in _roomfuls(rows, 1 + GAP_BYTES // row_bytes, len(room)):
            filled = room[: places[-1] + 1]
            whole = len(filled) == len(places)
            target = out[part] if direct and whole and not self.fortran else filled
            for first, count, place in stretches:
                self._fill_rows(file, first, target[place : place + count])
            if target is filled:
                _put(widened(filled) if self.stored == BFLOAT16 else filled, places, out[part], scaling)

    @cached_property
    def at_once(self) -> int:
        """Rows that are read together, at most."""
        size = (COLUMN_BYTES if self.fortran else STRETCH_BYTES) // (self.shape[1] * self.in_file.itemsize)
        return min(max(1, size), self.shape[0])

    def _fill_rows(self, file: int, first: int, out: NDArray[Any]) -> None:
        """Read rows from the first one on, as many as out has."""
        if not self.fortran:
            self._fill(file, first * self.shape[1], out)
            return
        for number, column in enumerate(out.T):
            self._fill(file, number * self.shape[0] + first, column)

    def _fill(self, file: int, place: int, out: NDArray[Any]) -> None:
        """Read numbers from that place on, as many as out has, which lies in memory as in the file."""
        if os.preadv(file, [out.data], self.offset + place * out.itemsize) != out.nbytes:
            raise DataError(f"{self.path} ends before its rows do: it has changed since it was opened.")

    def at(self, path: Path) -> PlainRows:
        return replace(self, path=path)


@contextmanager
def opened(paths: Sequence[Path]) -> Iterator[list[int]]:
    """The descriptors of files to read."""
    files = list[int]()
    try:
        files.extend(os.open(path, os.O_RDONLY) for path in paths)
        yield files
    finally:
        for file in files:
            os.close(file)


def are_alike(files: Sequence[RowFile]) -> TypeGuard[Sequence[PlainRows]]:
    """Whether `read_together` can read them."""
    return all(isinstance(file, PlainRows) and not file.fortran and file.stored == files[0].stored for file in files)


def read_together(
    files: Sequence[PlainRows],
    descriptors: Sequence[int],
    stops: Sequence[int],
    rows: Index,
    out: NDArray[Any],
    scaling: Scaling,
) -> int:
    """Read rows of files that are alike, those of each up to its stop, in one compiled call, where there is one.

    How many it read: each file can tell why not the rest.
    """
    stored, width, at_once = files[0].in_file, files[0].shape[1], max(file.at_once for file in files)
    halves = Halves.BFLOAT16 if files[0].stored == BFLOAT16 else HALVES.get(stored, Halves.NONE)
    wide = None if halves == Halves.NONE else _room("wide", np.dtype(np.float32), at_once, width)
    row_bytes = width * stored.itemsize
    opened_files, offsets = np.array(descriptors, np.int32), np.array([file.offset for file in files], np.int64)
    gap = 1 + GAP_BYTES // row_bytes
    source = RowSource(opened_files, offsets, np.array(stops, np.int64), row_bytes, int(halves), gap)
    return scaling.read(source, np.ascontiguousarray(rows), _room("room", stored, at_once, width), wide, out)


def _room(name: str, dtype: np.dtype[Any], rows: int, width: int, fortran: bool = False) -> NDArray[Any]:
    """Room for so many rows, in memory that the thread has used before: fresh memory takes longer than reading does."""
    size = rows * width * dtype.itemsize
    kept = getattr(_kept, name, None)
    if kept is None or kept.nbytes < size:
        kept = np.empty(size, np.uint8)
        setattr(_kept, name, kept)
    return kept[:size].view(dtype).reshape((rows, width), order="F" if fortran else "C")


def _roomfuls(rows: Index, gap: int, size: int) -> Iterator[tuple[slice, Index, list[Stretch]]]:
    """Parts of the rows that are read together to a room of that size: which, their places in it, and what to read.

    That is stretches of the file, one behind the other, each of rows that ascend by no more than a gap.
    """
    if not len(rows):
        return
    steps = rows[1:] - rows[:-1]
    jumps = (steps < 0) | (steps > gap)
    steps[jumps] = 1
    places = np.zeros(len(rows), np.int64)  # in a room that is large enough for all
    steps.cumsum(out=places[1:])
    rooms = places // size
    full = rooms[1:] > rooms[:-1]
    starts, heads = ([0, *(1 + ends.nonzero()[0]).tolist()] for ends in (full, full | jumps))
    firsts, lasts = rows[heads].tolist(), rows[[head - 1 for head in (*heads[1:], len(rows))]].tolist()
    head = 0
    for start, stop in pairwise([*starts, len(rows)]):
        own, stretches = places[start:stop] - places[start], list[Stretch]()
        while head < len(heads) and heads[head] < stop:
            stretches.append((firsts[head], lasts[head] - firsts[head] + 1, int(own[heads[head] - start])))
            head += 1
        yield slice(start, stop), own, stretches


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
        filled = next((number for number, rows in enumerate(contents.groups) if rows), 0)
        first = read_part(contents.path, choice, filled if grouped else None)
        parts = np.cumsum(contents.groups if grouped else [len(first)])
        shape = (int(parts[-1]), *first.shape[1:])
        return cls(contents.path, choice, shape, first.dtype, np.array([0, *parts]), grouped, read_part)

    @property
    def stored(self) -> str:
        return self.dtype.str

    def read(self, rows: Index, out: NDArray[Any], scaling: Scaling | None = None) -> None:
        owners = np.searchsorted(self.parts, rows, side="right") - 1
        for part in np.unique(owners).tolist():
            places = np.flatnonzero(owners == part)
            taken = np.empty((len(places), out.shape[1]), out.dtype)
            _put(self._part(part), rows[places] - self.parts[part], taken, scaling)
            out[places] = taken

    def at(self, path: Path) -> PackedRows:
        return replace(self, path=path, read_part=kept_part)

    def _part(self, number: int) -> NDArray[Any]:
        part = self.read_part(self.path, self.choice, number if self.grouped else None)
        if part.shape[1] != self.shape[1]:
            raise DataError(
                f"{self.path} has {self.shape[1]:,} features per row, but {part.shape[1]:,} from row "
                f"{self.parts[number]} on: give all rows as many."
            )
        return part


def read_part(path: Path, choice: Choice, group: int | None) -> NDArray[Any]:
    """The chosen features of a file, or their rows in one row group."""
    return read_chosen(open_contents(path), choice, group)


@lru_cache(PARTS_KEPT)
def kept_part(path: Path, choice: Choice, group: int | None) -> NDArray[Any]:
    """The same, of the last few that the process has read."""
    return read_part(path, choice, group)
