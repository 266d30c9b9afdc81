"""Features and labels in files made elsewhere: .npy, .npz, .safetensors and Parquet; pickles are never loaded.

In files of several arrays or columns, the features have one of the names FEATURES or are the only two-dimensional
array; the labels have one of the names LABELS. A Parquet file has its features in a column of lists, or in columns of
numbers.
"""

from __future__ import annotations

import math
import textwrap
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import BackendError, DataError, first_line
from fastmlp.common.files import read_safetensors
from fastmlp.common.progress import warn
from fastmlp.common.text import normalized
from fastmlp.datasets.images import as_images

SUFFIXES = (".npy", ".npz", ".parquet", ".safetensors")
TEXTS = (".csv", ".tsv", ".txt")
FEATURES = ("features", "X", "x", "embeddings", "embedding", "images")
LABELS = ("labels", "label", "y", "target")
ONLY = ""  # the name of the array in a file that has only one
LARGEST_LABEL = 2**31 - 1
BLOCK = 4096  # rows to check or copy at a time
# No honest array in a .npz file exceeds both: bytes unpacked, and the ratio of unpacked to packed size.
BOMB_BYTES, BOMB_FACTOR = 2**30, 200
DAMAGE = (  # what reading a damaged or crafted file may raise
    *(ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
    *(MemoryError, RecursionError, OverflowError, NotImplementedError, TypeError, LookupError),
)

Arrays = dict[str, NDArray[Any]]


def read_features(path: Path) -> NDArray[Any]:
    """Features (n, d) of a real dtype, or images uint8 (n, 3, h, w); from a .npy file, memory-mapped.

    Raises DataError if the file is missing, damaged or has something else, BackendError if pyarrow is missing.
    """
    arrays = _read(path)
    return _checked_features(_features_in(arrays, path), path)


def read_labels(path: Path) -> NDArray[Any]:
    """Labels (n,): int64 from 0 on, or strings. Raises DataError for anything else."""
    labels = _labels_in(_read(path))
    if labels is None:
        raise DataError(f"{path} has no labels: name them {LABELS[0]!r}.")
    return _checked_labels(labels, path)


def read_labelled(features: Path, labels: Path | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features and labels of the same number of rows; without a second file, both are in the first."""
    arrays = _read(features)
    found = _features_in(arrays, features)
    X = _checked_features(found, features)
    beside = _labels_in({name: array for name, array in arrays.items() if array is not found})
    if labels is not None:
        y = read_labels(labels)
    elif beside is not None:
        y = _checked_labels(beside, features)
    else:
        raise DataError(f"{features} has no labels: pass them with --labels FILE.")
    if len(X) != len(y):
        transposed = X.ndim == 2 and X.shape[1] == len(y)
        fix = "X seems transposed, so save X.T" if transposed else "give one label per row"
        raise DataError(f"{len(X):,} rows of features in {features}, but {len(y):,} labels: {fix}.")
    return X, y


def finite_rows(features: NDArray[Any], rows: NDArray[np.int64] | None, dtype: str, place: object) -> NDArray[Any]:
    """Those rows of features (None: all), in that order, in that dtype, checked to be finite.

    Not copied if all rows are taken and have that dtype already. Raises DataError, naming the place, for NaN, infinity,
    or a number beyond the range of the dtype.
    """
    whole = rows is None and features.dtype == dtype and features.flags.c_contiguous
    taken = features if whole else np.empty((len(features) if rows is None else len(rows), features.shape[1]), dtype)
    for block in _blocks(len(taken)):
        if not whole:
            with np.errstate(over="ignore"):  # infinity is detected below
                taken[block] = features[block if rows is None else rows[block]]
        finite = np.isfinite(taken[block]).all(axis=1)
        if not finite.all():
            row = block.start + int(finite.argmin())
            row = row if rows is None else int(rows[row])
            raise DataError(f"Row {row} of {place} has NaN, infinity or a number beyond {dtype}: fix or remove it.")
    return np.asarray(taken)


def indices_of(labels: NDArray[Any], classes: NDArray[Any], place: object) -> NDArray[np.int64]:
    """The index (n,) of each label in the classes, in any order. Raises DataError for one that is not among them."""
    kinds = {"i": "whole numbers", "u": "whole numbers", "U": "strings"}
    found, wanted = (kinds.get(array.dtype.kind, f"labels of type {array.dtype}") for array in (labels, classes))
    if found != wanted:
        raise DataError(f"There are {found} in {place}, but the classes are {wanted}: convert them.")
    known = classes
    if labels.dtype.kind == "U":
        labels, known = _in_one_spelling(labels), _in_one_spelling(classes)
    order = np.argsort(known, kind="stable")
    indices = order[np.searchsorted(known, labels, sorter=order).clip(max=len(known) - 1)]
    strange = np.flatnonzero(known[indices] != labels)
    if len(strange):
        row = strange[0]
        shown = textwrap.shorten(", ".join(map(str, classes.tolist())), 60, placeholder=" ...")
        raise DataError(f"Row {row} of {place} has label {str(labels[row])!r}, but the classes are {shown}.")
    return indices.astype(np.int64)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))


# Reading.


def _read(path: Path) -> Arrays:
    """The arrays in a file, by name."""
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        text = path.suffix.lower() in TEXTS
        fix = "read it with numpy.loadtxt and save it with numpy.save" if text else "save it as one of these"
        raise DataError(f"{path} is not a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file: {fix}.")
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file: check the path.")
    try:
        return reader(path)
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}): save its arrays again.") from None


def _read_npy(path: Path) -> Arrays:
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size)
    # "c", copy on write: some libraries reject read-only arrays; the file is not written
    return {ONLY: np.lib.format.open_memmap(path, mode="c")}


def _read_npz(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    if member.flag_bits & 1:
        raise ValueError("it is encrypted")
    if member.file_size > max(BOMB_BYTES, BOMB_FACTOR * member.compress_size):
        raise ValueError(f"{member.filename} would unpack to {member.file_size:,} bytes")
    with archive.open(member) as file:
        _check_header(file, member.file_size)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _check_header(file: IO[bytes], size: int) -> None:
    """Raise ValueError unless the array that a .npy header declares fits into a file of that many bytes."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it has Python objects, which are never loaded; turn words into strings by y.astype(str)")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size - file.tell():
        raise ValueError("it is truncated")


def _read_safetensors(path: Path) -> Arrays:
    return read_safetensors(path)[1]


def _read_parquet(path: Path) -> Arrays:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BackendError("Parquet files need pyarrow: pip install 'fastmlp[parquet]'.") from None
    try:
        table = parquet.ParquetFile(path).read()
        return {name: _column(name, column) for name, column in zip(table.column_names, table.columns, strict=True)}
    except ArrowException as error:
        raise ValueError(first_line(error)) from None


def _column(name: str, column: Any) -> NDArray[Any]:
    """A column (n,), or (n, d) from lists of equal length. Raises ValueError for missing values or other types."""
    import pyarrow as pa
    from pyarrow import compute

    array = column.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if array.null_count:
        raise ValueError(f"column {name!r} has missing values")
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return np.array(array.to_pylist(), dtype=np.str_)
    if not hasattr(array, "flatten") or not hasattr(array.type, "value_type"):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    values = array.flatten()
    if values.null_count or not len(array) or len(values) % len(array):
        raise ValueError(f"column {name!r} has missing values, or lists of different lengths")
    width = len(values) // len(array)
    if (np.asarray(compute.list_value_length(array)) != width).any():
        raise ValueError(f"column {name!r} has lists of different lengths")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), width)


# Choosing and checking.


def _features_in(arrays: Arrays, path: Path) -> NDArray[Any]:
    named = [name for name in (ONLY, *FEATURES) if name in arrays]
    wide = [name for name, array in arrays.items() if array.ndim > 1]
    if named or len(wide) == 1:
        return arrays[(named or wide)[0]]
    columns = {name: array for name, array in arrays.items() if name not in LABELS}
    if wide or not columns or path.suffix.lower() != ".parquet":
        raise DataError(f"Several arrays in {path} could be the features: name the right one {FEATURES[0]!r}.")
    words = [name for name, column in columns.items() if column.dtype.kind not in "fiu"]
    if words:
        raise DataError(f"Column {words[0]!r} of {path} is not numeric: leave it out, or name it {LABELS[0]!r}.")
    return np.stack(list(columns.values()), axis=1)


def _labels_in(arrays: Arrays) -> NDArray[Any] | None:
    """The labels among a file's arrays."""
    name = next((name for name in (ONLY, *LABELS) if name in arrays), None)
    if name is None and len(arrays) == 1:
        (name,) = arrays
    return None if name is None else arrays[name]


def _checked_features(features: NDArray[Any], path: Path) -> NDArray[Any]:
    if features.ndim == 4:
        return as_images(features, lambda sentence: DataError(f"{path}: {sentence}"))
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        fix = "; flatten them by X.reshape(len(X), -1)" if features.ndim > 2 else ""
        raise DataError(f"{path} has {features.dtype} {features.shape}: features must be numbers (n, d){fix}.")
    if features.size == 0:
        raise DataError(f"{path} has no features, its shape is {features.shape}: give at least one row.")
    return features


def _checked_labels(labels: NDArray[Any], path: Path) -> NDArray[Any]:
    """int64 or strings (n,)."""
    if labels.ndim != 1:
        fix = "save y.ravel()" if labels.shape[1:] == (1,) else "for one-hot rows, save y.argmax(axis=1)"
        raise DataError(f"{path} has labels {labels.shape}, not one per row (n,): {fix}.")
    if labels.dtype.kind in "SU":
        return _decoded(labels, path)
    if labels.dtype.kind not in "iu":
        fix = "whole numbers, y.astype(int), or strings"
        raise DataError(f"{path} has labels of type {labels.dtype}: save them as {fix}.")
    wrong = np.flatnonzero((labels < 0) | (labels > LARGEST_LABEL))
    if len(wrong):
        raise DataError(
            f"Row {wrong[0]} of {path} has label {labels[wrong[0]]}, but labels run from 0 to {LARGEST_LABEL}: leave "
            "out rows without a class."
        )
    return np.array(labels, np.int64)


def _decoded(labels: NDArray[Any], path: Path) -> NDArray[np.str_]:
    try:
        words = np.array(labels).astype(np.str_)
    except UnicodeDecodeError:
        raise DataError(f"{path} has labels that are not valid text: save them as strings (dtype U).") from None
    spelled = _in_one_spelling(words)
    twice = len(np.unique(words)) - len(np.unique(spelled))
    if twice:
        warn(f"{path} has {twice:,} of its labels in two spellings of Unicode, NFC and NFD: each is one class.")
    return spelled


def _in_one_spelling(words: NDArray[np.str_]) -> NDArray[np.str_]:
    """The words as `normalized` spells each, (n,)."""
    different, places = np.unique(words, return_inverse=True)
    return np.array([normalized(word) for word in different.tolist()], np.str_)[places]
