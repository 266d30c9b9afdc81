"""Rows of features as they lie in one file: mapped into memory or, where they are packed, read part by part."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.files import BFLOAT16, widened
from fastmlp.features.columns import Choice
from fastmlp.features.contents import Contents, damage_reported, open_contents
from fastmlp.features.tables import read_chosen

Index = NDArray[np.int64]
PartReader = Callable[[Path, Choice, int | None], NDArray[Any]]
NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "U8": "|u1", "I8": "|i1"} | {
    f"{sign}{bits}": f"<{sign.lower()}{bits // 8}" for sign in "UI" for bits in (16, 32, 64)
}  # by what safetensors calls them


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

    def read(self, rows: Index) -> NDArray[Any]:
        """Those rows (m, d), in that order."""


def open_rows(contents: Contents, choice: Choice, read_part: PartReader) -> RowFile:
    """The chosen features of an open file. Raises DataError for a damaged one."""
    with damage_reported(contents.path):
        if contents.path.suffix.lower() == ".npy":
            return _of_npy(contents.path)
        if contents.path.suffix.lower() == ".safetensors":
            return _of_safetensors(contents.path, choice.features[0])
        return PackedRows.opened(contents, choice, read_part)


@dataclass(frozen=True)
class MappedRows:
    """An array that lies in a file as it would in memory. It is mapped anew for each reading, so that no page stays."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    stored: str
    fortran: bool = False
    parts: Index | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32 if self.stored == BFLOAT16 else self.stored)

    def read(self, rows: Index) -> NDArray[Any]:
        dtype = np.dtype(np.uint16 if self.stored == BFLOAT16 else self.stored)
        mapped = np.memmap(self.path, dtype, "r", self.offset, self.shape, "F" if self.fortran else "C")
        taken = np.take(mapped, rows, axis=0)
        return widened(taken) if self.stored == BFLOAT16 else taken


def _of_npy(path: Path) -> MappedRows:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        return MappedRows(path, file.tell(), shape, dtype.str, fortran)


def _of_safetensors(path: Path, name: str) -> MappedRows:
    """Of a file that safetensors itself has opened, and found sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
    stored = entry["dtype"] if entry["dtype"] == BFLOAT16 else NUMPY_DTYPES.get(entry["dtype"])
    if stored is None:
        raise ValueError(f"{name!r} is of type {entry['dtype']}, which NumPy lacks; convert it to float32")
    return MappedRows(path, 8 + length + entry["data_offsets"][0], tuple(entry["shape"]), stored)


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

    def read(self, rows: Index) -> NDArray[Any]:
        owners = np.searchsorted(self.parts, rows, side="right") - 1
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for part in np.unique(owners).tolist():
            places = np.flatnonzero(owners == part)
            out[places] = self._part(part)[rows[places] - self.parts[part]]
        return out

    def _part(self, number: int) -> NDArray[Any]:
        return self.read_part(self.path, self.choice, number if self.grouped else None)


def read_part(path: Path, choice: Choice, group: int | None) -> NDArray[Any]:
    """The chosen features of a file, or their rows in one row group."""
    return read_chosen(open_contents(path), choice, group)
