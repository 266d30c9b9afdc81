"""Features and labels in files made elsewhere: .npy, .npz, .safetensors and Parquet; pickles are never loaded.

In files of several arrays or columns, the features have one of the names FEATURES or are the only two-dimensional
array; the labels have one of the names LABELS. A Parquet file has its features in a column of lists, or in columns of
numbers, which have names that a model is trained with. What was read as what is said where it can be taken in two ways.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.progress import say, warn
from fastmlp.common.text import normalized
from fastmlp.datasets.images import as_images
from fastmlp.features.columns import ANY, LABELS, Choice, Columns, choose, label_of, listed
from fastmlp.features.contents import ONLY, Contents, open_contents
from fastmlp.network.scaling import Scaling, blocks

LARGEST_LABEL = 2**31 - 1
BLOCK = 2**18  # numbers to check or copy at a time
FEWEST_NUMBERED = 10  # rows: fewer may be in order by chance
NOT_NUMBERS = {"U": "words", "O": "objects", "S": "bytes", "M": "dates", "m": "durations"}  # by kind of dtype


class RowArray(Protocol):
    """Rows (n, ...) that are read where they are indexed: a NumPy array, or shards of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def ndim(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@dataclass(frozen=True)
class Table:
    """Features (n, d) of a real dtype, or images uint8 (n, 3, h, w), and labels (n,), int64 or strings.

    names: those of the features, where they were columns; label: that of the labels, where they had one; notices: what
    was said about the reading of the file.
    """

    features: RowArray
    labels: NDArray[Any]
    names: tuple[str, ...] | None
    label: str | None
    notices: tuple[str, ...]


def read_table(features: Path, labels: Path | None = None, columns: Columns = ANY) -> Table:
    """Features and labels of the same number of rows; without a second file, both are in the first.

    Raises DataError if a file is missing, damaged or has something else, BackendError if pyarrow is missing.
    """
    contents = open_contents(features)
    elsewhere = labels is not None and labels != features
    choice = choose(contents, columns, with_labels=not elsewhere)
    X = read_chosen(contents, choice)
    y = read_labels(labels, columns) if labels is not None and elsewhere else read_chosen_labels(contents, choice.label)
    if len(X) != len(y):
        transposed = X.ndim == 2 and X.shape[1] == len(y)
        fix = "X seems transposed, so save X.T" if transposed else "give one label per row"
        raise DataError(f"{len(X):,} rows of features in {features}, but {len(y):,} labels: {fix}.")
    names = choice.features if choice.columnar else None
    if names is not None:
        refuse_copies(names, X, y, features)
    return Table(X, y, names, columns.label or choice.label, notices(contents, choice, columns, X))


def table_of(features: NDArray[Any], labels: NDArray[Any], place: Path) -> Table:
    """Features (n, d) and labels (n,) in memory as a table; the place is how errors, as for `read_table`, call them."""
    X, y = checked_features(features, place), checked_labels(labels, place)
    if len(X) != len(y):
        raise DataError(f"{len(X):,} rows of {place}, but {len(y):,} labels: give one label per row.")
    return Table(X, y, None, None, ())


def read_features(path: Path, columns: Columns = ANY) -> NDArray[Any]:
    """Features (n, d) of a real dtype, or images uint8 (n, 3, h, w); from a .npy file, memory-mapped.

    Errors as for `read_table`.
    """
    contents = open_contents(path)
    choice = choose_features(contents, columns)
    X = read_chosen(contents, choice)
    notices(contents, choice, columns, X)
    return X


def choose_features(contents: Contents, columns: Columns) -> Choice:
    """What to read of a file whose labels nobody asks for: among columns without known names they are told apart."""
    apart = columns.features is not None or any(dimensions > 1 for dimensions in contents.dimensions.values())
    return choose(contents, columns, with_labels=not apart)


def read_labels(path: Path, columns: Columns = ANY) -> NDArray[Any]:
    """Labels (n,): int64 from 0 on, or strings; an only array needs no name. Errors as for `read_table`."""
    contents = open_contents(path)
    offered = [name for name in contents.dimensions if name not in contents.index]
    alone = columns.label is None and len(offered) == 1
    label = offered[0] if alone else label_of(contents, columns)
    if label is None:
        raise DataError(f"{path} has no labels: name them {LABELS[0]!r}, or name their column by --label-column.")
    others = [name for name in contents.dimensions if name != label]
    if others:
        say(f"Read {path.name}: labels from {label!r}; left out {len(others):,}: {listed(others)}.")
    return read_chosen_labels(contents, label)


def read_labelled(
    features: Path, labels: Path | None = None, columns: Columns = ANY
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The features and labels of `read_table`."""
    table = read_table(features, labels, columns)
    return np.asarray(table.features), table.labels


def finite_rows(
    features: RowArray,
    rows: NDArray[np.int64] | None,
    dtype: str,
    place: object,
    names: Sequence[str] | None = None,
    scaling: Scaling | None = None,
) -> NDArray[Any]:
    """Those rows of features (None: all), in that order, in that dtype, checked to be finite.

    scaling standardises them before they are rounded to that dtype. Not copied if all rows are taken as they are and
    have that dtype already. Raises DataError, naming the place, and the column if the features have names, for NaN,
    infinity, or a number beyond the range of the dtype.
    """
    count = len(features) if rows is None else len(rows)
    whole = scaling is None and rows is None and _is_ready(features, dtype)
    taken: Any = features if whole else np.empty((count, features.shape[1]), dtype)
    for block in _blocks(len(taken), features.shape[1]):
        if not whole:
            source = features[block if rows is None else rows[block]]
            with np.errstate(over="ignore"):  # infinity is detected below
                taken[block] = source if scaling is None else scaling.applied(source, dtype)
        _check_block(taken[block], block, features, rows, place, names)
    return np.asarray(taken)


def check_finite(
    features: RowArray,
    rows: NDArray[np.int64] | None,
    dtype: str,
    place: object,
    names: Sequence[str] | None = None,
) -> None:
    """Raise what `finite_rows` raises, and keep nothing of what is read."""
    for block in _blocks(len(features) if rows is None else len(rows), features.shape[1]):
        with np.errstate(over="ignore"):
            read = features[block if rows is None else rows[block]].astype(dtype, copy=False)
        _check_block(read, block, features, rows, place, names)


def _check_block(
    read: NDArray[Any],
    block: slice,
    features: RowArray,
    rows: NDArray[np.int64] | None,
    place: object,
    names: Sequence[str] | None,
) -> None:
    finite = np.isfinite(read).all(axis=1)
    if finite.all():
        return
    first = int(finite.argmin())
    column = "" if names is None else f" in column {names[int(np.isfinite(read[first]).argmin())]!r}"
    row = block.start + first if rows is None else int(rows[block.start + first])
    row, place = _place_of(row, features, place)
    raise DataError(
        f"Row {row} of {place} has NaN, infinity or a number beyond {read.dtype}{column}: fix or remove it."
    )


def _is_ready(features: RowArray, dtype: str) -> bool:
    """Whether it is an array that can be used as it is."""
    return isinstance(features, np.ndarray) and features.dtype == dtype and features.flags.c_contiguous


def _place_of(row: int, features: RowArray, place: object) -> tuple[int, object]:
    """Where a row is found: in one of the shards, if the features lie in shards."""
    place_of = getattr(features, "place_of", None)
    return (row, place) if place_of is None else place_of(row)


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


def _blocks(rows: int, width: int) -> Iterator[slice]:
    return blocks(rows, max(1, BLOCK // width))


# Reading what was chosen.


def read_chosen(contents: Contents, choice: Choice, group: int | None = None) -> NDArray[Any]:
    """The features that were chosen, or their rows in one row group, checked."""
    arrays = contents.read(*choice.features, group=group)
    features = _stacked(arrays, choice, contents.path) if choice.columnar else arrays[0]
    return checked_features(features, contents.path)


def _stacked(columns: Sequence[NDArray[Any]], choice: Choice, path: Path) -> NDArray[Any]:
    """Columns of numbers (n,) as one array (n, d), truth as 1 and 0."""
    for name, column in zip(choice.features, columns, strict=True):
        if column.dtype.kind not in "fiub":
            held = NOT_NUMBERS.get(column.dtype.kind, str(column.dtype))
            or_labels = "" if choice.label else f" or, if it has the labels, say --label-column {name}"
            fix = f"leave it out by --drop-columns {name}{or_labels}"
            raise DataError(f"Column {name!r} of {path} has {held}, not numbers: {fix}.")
    return np.stack([column.astype(np.uint8) if column.dtype == bool else column for column in columns], axis=1)


def read_chosen_labels(contents: Contents, label: str | None) -> NDArray[Any]:
    """Labels (n,) of an open file, checked. Raises DataError where it has none."""
    if label is None:
        named = "" if ONLY in contents.dimensions else ", or name their column by --label-column"
        raise DataError(
            f"{contents.path} has no labels: pass them with --labels FILE, those of test features with --test-labels "
            f"FILE{named}."
        )
    return checked_labels(contents.read(label)[0], contents.path)


def refuse_copies(names: Sequence[str], features: NDArray[Any], labels: NDArray[Any], path: Path) -> None:
    """DataError for a feature that is named like labels and tells them."""
    classes, of_rows = np.unique(labels, return_inverse=True)
    for name in [name for name in LABELS if name in names]:
        values, places = np.unique(features[:, names.index(name)], return_inverse=True)
        pairs = len(np.unique(places * len(classes) + of_rows))
        if pairs == len(values) == len(classes):
            raise DataError(
                f"Column {name!r} of {path} says the same as the labels: leave it out by --drop-columns {name}."
            )


# What is said.


def notices(contents: Contents, choice: Choice, columns: Columns, features: NDArray[Any]) -> tuple[str, ...]:
    """Say, and return, how the file was read where that is not beyond doubt."""
    told = [choice.told(contents)] if choice.columnar or choice.left_out else []
    for sentence in told:
        say(sentence)
    doubts = _doubts(contents.path, choice, columns, features)
    for sentence in doubts:
        warn(sentence)
    return (*told, *doubts)


def _doubts(path: Path, choice: Choice, columns: Columns, features: NDArray[Any]) -> list[str]:
    """What the user should make sure of."""
    if columns.features is None:
        numbering = [choice.features[place] for place in _numbering(features)] if choice.columnar else []
        fix = "if it is no feature, leave it out by --drop-columns"
        return [f"Column {name!r} of {path} numbers the rows: {fix} {name}." for name in numbering]
    if choice.columnar:
        return []
    order = listed(columns.features)
    return [f"The features in {path} have no names, so they are taken in the order of the training: {order}."]


def _numbering(features: NDArray[Any]) -> list[int]:
    """The columns (n, d) that hold n consecutive whole numbers, in any order."""
    rows = len(features)
    if rows < FEWEST_NUMBERED:
        return []
    with np.errstate(invalid="ignore"):  # infinity is found elsewhere
        spans = features.max(axis=0).astype(np.float64) - features.min(axis=0)
    columns = {int(place): features[:, place] for place in np.flatnonzero(spans == rows - 1)}
    return [place for place, column in columns.items() if len(np.unique(np.floor(column))) == rows]


# Checking.


def checked_features(features: NDArray[Any], path: Path) -> NDArray[Any]:
    if features.ndim == 4:
        return as_images(features, lambda sentence: DataError(f"{path}: {sentence}"))
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise DataError(
            f"{path} has {features.dtype} {features.shape}: features must be numbers (n, d){_way_to_numbers(features)}."
        )
    if features.size == 0:
        raise DataError(f"{path} has no features, its shape is {features.shape}: give at least one row.")
    return features


def _way_to_numbers(features: NDArray[Any]) -> str:
    """How to make features of what is none, where that is clear."""
    if features.ndim > 2:
        return "; flatten them by X.reshape(len(X), -1)"
    if features.dtype == "V2":
        return "; if these are bfloat16, save X.astype('float32')"
    if features.dtype.kind == "V":
        return "; if these are named fields, save numpy.lib.recfunctions.structured_to_unstructured(X)"
    if features.dtype.kind == "b":
        return "; save X.astype('uint8')"
    return "; for one feature per row, save X.reshape(-1, 1)" if features.ndim == 1 else ""


def checked_labels(labels: NDArray[Any], path: Path) -> NDArray[Any]:
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
