"""The arrays that a .npy, .npz, .safetensors or Parquet file holds, by name; pickles are never loaded."""

from __future__ import annotations

import json
import math
import re
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import BackendError, DataError, first_line
from fastmlp.common.files import is_file, read_safetensors, safetensors_dimensions

SUFFIXES = (".npy", ".npz", ".parquet", ".safetensors")
TEXTS = (".csv", ".tsv", ".txt")
ONLY = ""  # the name of the array in a .npy file
# No honest array in a .npz file exceeds both: bytes unpacked, and the ratio of unpacked to packed size.
BOMB_BYTES, BOMB_FACTOR = 2**30, 200
# What the column of an index without a name is called: by pandas, and in tables that have been CSV files, by R too.
UNNAMED_INDEX = re.compile(r"(__index_level_\d+__|Unnamed: 0)?")
DAMAGE = (  # what reading a damaged or crafted file may raise
    *(ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
    *(MemoryError, RecursionError, OverflowError, NotImplementedError, TypeError, LookupError),
)

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Contents:
    """The arrays, or columns, of a file: the number of dimensions of each, and a function that reads some of them.

    index: the columns that hold a data frame's index; columnar: whether columns of numbers may be features together;
    groups: the rows of each row group, which can be read by its number, of files that have them.
    """

    path: Path
    dimensions: dict[str, int]
    reader: Callable[[Iterable[str], int | None], Arrays]
    index: tuple[str, ...] = ()
    columnar: bool = False
    groups: tuple[int, ...] = ()

    def read(self, *names: str, group: int | None = None) -> list[NDArray[Any]]:
        """Those arrays, or their rows in one row group.

        Raises DataError for a damaged file, and for a column that lacks values.
        """
        with damage_reported(self.path):
            arrays = self.reader(names, group)
        return [arrays[name] for name in names]


def open_contents(path: Path) -> Contents:
    """What the file holds; .npy is memory-mapped, and of .safetensors and Parquet only what is asked for is read.

    Raises DataError if it is missing, damaged or something else, BackendError if pyarrow is missing.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _open_safetensors, ".parquet": _open_parquet}
    check_readable(path)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        text = path.suffix.lower() in TEXTS
        fix = "read it with numpy.loadtxt and save it with numpy.save" if text else "save it as one of these"
        raise DataError(f"{path} is not a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file: {fix}.")
    with damage_reported(path):
        return reader(path)


def check_readable(path: Path) -> None:
    """Raise DataError if it cannot be: the libraries tell the reason less well."""
    if not is_file(path):
        raise DataError(f"{path} does not exist or is not a file: check the path.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give yourself read permission.") from None


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Raise what the block finds wrong with the file as a DataError."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}): save its arrays again.") from None


def _whole(path: Path, arrays: Arrays) -> Contents:
    """Of arrays that are read, or mapped, already."""
    return Contents(path, {name: array.ndim for name, array in arrays.items()}, lambda *_: arrays)


# .npy and .npz.


def _read_npy(path: Path) -> Contents:
    with path.open("rb") as file:
        beyond = _check_header(file, path.stat().st_size)
    if beyond:
        raise ValueError(f"there are {beyond:,} bytes after its array; save one array per file")
    # "c", copy on write: some libraries reject read-only arrays; the file is not written
    return _whole(path, {ONLY: np.lib.format.open_memmap(path, mode="c")})


def _read_npz(path: Path) -> Contents:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return _whole(path, {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members})


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.flag_bits & 1:
        raise ValueError("it is encrypted")
    if member.file_size > max(BOMB_BYTES, BOMB_FACTOR * member.compress_size):
        raise ValueError(f"{member.filename} would unpack to {member.file_size:,} bytes")
    with archive.open(member) as file:
        _check_header(file, member.file_size)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_header(file: IO[bytes], size: int) -> int:
    """How many of so many bytes come after the array that a .npy header declares. ValueError if it does not fit."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it has Python objects, which are never loaded; turn words into strings by y.astype(str)")
    beyond = size - file.tell() - math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or beyond < 0:
        raise ValueError("it is truncated")
    return beyond


def _open_safetensors(path: Path) -> Contents:
    """Only what is asked for is read."""
    return Contents(path, safetensors_dimensions(path), lambda names, _: read_safetensors(path, names)[1])


# Parquet.


def _open_parquet(path: Path) -> Contents:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BackendError("Parquet files need pyarrow: pip install 'fastmlp[parquet]'.") from None

    def read(names: Iterable[str], group: int | None) -> Arrays:
        try:
            file, columns = parquet.ParquetFile(path), list(names)
            table = file.read(columns=columns) if group is None else file.read_row_group(group, columns=columns)
            first = sum(groups[:group]) if group is not None else 0
            return {name: _column(path, name, table.column(name), first) for name in names}
        except ArrowException as error:
            raise ValueError(first_line(error)) from None

    try:
        file = parquet.ParquetFile(path)
        schema, about = file.schema_arrow, file.metadata
    except ArrowException as error:
        raise ValueError(first_line(error)) from None
    _check_different(path, schema.names)
    dimensions = {field.name: _dimensions(field.type) for field in schema}
    groups = tuple(about.row_group(number).num_rows for number in range(about.num_row_groups))
    return Contents(path, dimensions, read, _index_of(schema), columnar=True, groups=groups)


def _check_different(path: Path, names: Iterable[str]) -> None:
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(f"{path} has {count} columns called {name!r}: give each a name of its own.")


def _dimensions(kind: Any) -> int:
    """Of an array of that type of Arrow: 1 for numbers, words, or anything else, 2 for lists of numbers."""
    return 1 + (_dimensions(kind.value_type) if _is_of_rows(kind) else 0)


def _is_of_rows(kind: Any) -> bool:
    """Whether values of that type are lists of numbers, or of such lists."""
    from pyarrow import types

    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    of = kind.value_type
    return types.is_integer(of) or types.is_floating(of) or types.is_boolean(of) or _is_of_rows(of)


def _index_of(schema: Any) -> tuple[str, ...]:
    """The columns that hold a data frame's index; of pandas' own, a mere numbering of the rows is in no column."""
    about = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    named = about.get("index_columns", []) if isinstance(about, dict) else []
    return tuple(name for name in schema.names if name in named or UNNAMED_INDEX.fullmatch(name))


def _column(path: Path, name: str, column: Any, first: int) -> NDArray[Any]:
    """A column (n,), or (n, d) from lists of equal length, from that row of the file on.

    Raises DataError for missing values.
    """
    import pyarrow as pa
    from pyarrow import compute, types

    array = column.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    _check_complete(path, name, array, first)
    if types.is_string(array.type) or types.is_large_string(array.type) or types.is_string_view(array.type):
        return np.array(array.to_pylist(), dtype=np.str_)
    if types.is_decimal(array.type):
        array = array.cast(pa.float64())
    if not _is_of_rows(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    values = array.flatten()
    width = len(values) // max(1, len(array))
    if (np.asarray(compute.list_value_length(array)) != width).any():
        raise ValueError(f"column {name!r} has lists of different lengths")
    if values.null_count:
        row = first + int(np.asarray(values.is_null()).argmax()) // width
        raise _missing(path, name, row)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), width)


def _check_complete(path: Path, name: str, array: Any, first: int) -> None:
    if array.null_count:
        raise _missing(path, name, first + int(np.asarray(array.is_null()).argmax()))


def _missing(path: Path, name: str, row: int) -> DataError:
    fix = f"fill them, or leave out those rows, or the column by --drop-columns {name}"
    return DataError(f"Column {name!r} of {path} has missing values, the first in row {row}: {fix}.")
