"""Features in many files, the shards of one table: a folder or a glob of what `fastmlp.features.tables` reads singly.

All shards are checked when they are opened; their features are read when rows are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.files import BFLOAT16, is_file
from fastmlp.common.progress import say, warn
from fastmlp.features import first_format
from fastmlp.features.columns import ANY, Choice, Columns, choose, listed
from fastmlp.features.contents import Contents, check_readable, open_contents
from fastmlp.features.first_format import FILES
from fastmlp.features.row_files import PARTS_KEPT, PartReader, RowFile, open_rows, read_part
from fastmlp.features.shard_files import MANIFEST, by_number, has_manifest, is_sharded, read_manifest, shard_paths
from fastmlp.features.sharded_rows import Shard, ShardedRows, about_file, stamp_of
from fastmlp.features.tables import (
    RowArray,
    Table,
    checked_features,
    choose_features,
    notices,
    read_chosen_labels,
    read_features,
    read_labels,
    read_table,
    refuse_copies,
)

Chooser = Callable[[Contents, Columns], Choice]  # of the features, and perhaps labels, in a file


def open_table(features: Path, labels: Path | None = None, columns: Columns = ANY) -> Table:
    """Features and labels in a file, as `read_table` has them, or in a folder or glob of shards, as `open_shards`."""
    return (open_shards if is_sharded(features) else read_table)(features, labels, columns)


def open_features(features: Path, columns: Columns = ANY) -> RowArray:
    """The features in a file, as `read_features` has them, or in a folder or glob of shards. Errors as for both."""
    place, _ = _in_store(features, None)
    return open_sharded(place, columns) if is_sharded(place) else read_features(place, columns)


def open_sharded(features: Path, columns: Columns = ANY) -> ShardedRows:
    """The features in a folder or glob of shards, or in a file, which is then the only one. Errors as for both."""
    place, _ = _in_store(features, None)
    return ShardedRows(_opened(place, columns, choose_features).shards)


def open_shards(place: Path, labels: Path | None = None, columns: Columns = ANY) -> Table:
    """The shards in a folder or glob as one table; labels, where they are not inside: a file for all, or one for each.

    A feature store is one shard. Raises DataError, naming the shard, for one that is missing, damaged or does not go
    with the others, BackendError if pyarrow is missing.
    """
    place, labels = _in_store(place, labels)
    inside = labels is None
    opener = _opened(place, columns, partial(choose, with_labels=inside), with_labels=inside)
    X = ShardedRows(opener.shards)
    paths = [shard.path for shard in X.shards]
    y = _joined(opener.labels, paths) if labels is None else _labels_beside(X, place, labels, columns)
    told = (*opener.told(y), *_doubts_of_order(paths, place, labels))
    say(f"{len(X.shards):,} shard{'s' if len(X.shards) > 1 else ''} in {place}: {len(X):,} rows.")
    return Table(X, y, opener.names, columns.label or opener.first.label, told)


def _in_store(place: Path, labels: Path | None) -> tuple[Path, Path | None]:
    """The features and labels of a feature store of the first format, where the place is one's folder; else the same.

    Raises DataError where they are not those that were written.
    """
    if not all(is_file(place / name) for name in FILES):
        return place, labels
    first_format.check(place, "extract again.")
    return place / FILES[0], labels or place / FILES[1]


def _opened(place: Path, columns: Columns, chooser: Chooser, with_labels: bool = False) -> _Opener:
    opener = _Opener(columns, chooser, with_labels)
    sharded = is_sharded(place)
    if not sharded:
        check_readable(place)
    for path in shard_paths(place) if sharded else [place]:
        opener.add(path)
    if has_manifest(place):
        _check_manifest(place, opener.shards)
    return opener


def _check_manifest(folder: Path, shards: Sequence[Shard]) -> None:
    for shard, entry in zip(shards, read_manifest(folder), strict=True):
        if shard.rows != entry.rows or shard.digest != entry.sha256:
            raise DataError(f"The shard {shard.path} is not the one in {folder / MANIFEST}: write it again.")


class _Opener:
    """Opens shards one after the other, and holds each against the first."""

    def __init__(self, columns: Columns, chooser: Chooser, with_labels: bool) -> None:
        self.columns, self._choose, self.with_labels = columns, chooser, with_labels
        self.shards: list[Shard] = []
        self.labels: list[NDArray[Any]] = []
        self._opened: dict[tuple[int, int], Path] = {}
        self._read_part: PartReader = lru_cache(PARTS_KEPT)(read_part)

    def add(self, path: Path) -> None:
        about = about_file(path)
        self._check_once(path, about)
        contents = open_contents(path)
        choice = self._choose(contents, self._known(contents))
        if not self.shards:
            self.contents, self.first = contents, choice
        file = open_rows(contents, choice, self._read_part)
        self._check(path, file)
        start = self.shards[-1].start + self.shards[-1].rows if self.shards else 0
        self.shards.append(Shard(path, start, file, stamp_of(about)))
        if self.with_labels:
            labels = read_chosen_labels(contents, choice.label)
            _check_as_many(self.shards[-1], path, labels)
            self.labels.append(labels)

    def _check_once(self, path: Path, about: os.stat_result) -> None:
        """Raise DataError for a file that was opened under another name: its rows would be trained on, and tested."""
        other = self._opened.setdefault((about.st_dev, about.st_ino), path)
        if other != path:
            raise DataError(f"The shard {path} is the same file as {other}: give it once.")

    def _known(self, contents: Contents) -> Columns:
        """What is known of a shard's columns, by those of the first."""
        if not self.shards:
            return self.columns
        known = replace(self.columns, usual_label=self.first.label)
        if not self.first.columnar:
            return known
        _check_same_columns(contents, self.contents)
        return replace(known, features=self.first.features)

    def _check(self, path: Path, file: RowFile) -> None:
        checked_features(np.broadcast_to(np.zeros((), file.dtype), file.shape), path)  # of its shape, without its rows
        if len(file.shape) != 2:
            raise DataError(f"{path} holds images: train on them by --dataset folder:PATH, or give their features.")
        if not self.shards:
            return
        first = self.shards[0]
        (_, width), (_, usual) = file.shape, first.file.shape
        if width != usual:
            raise DataError(
                f"The shard {path} has {width:,} features per row, but {first.path} {usual:,}: give the same."
            )
        kind, first_kind = (_kind_of(one) for one in (file, first.file))
        if kind != first_kind:
            raise DataError(f"The shard {path} has {kind} features, but {first.path} {first_kind}: save them alike.")

    @property
    def names(self) -> tuple[str, ...] | None:
        """Those of the features, where they are columns."""
        return self.first.features if self.first.columnar else None

    def told(self, labels: NDArray[Any]) -> tuple[str, ...]:
        """What is said of how the shards were read, judged by the first rows of the first."""
        file = self.shards[0].file
        rows = np.arange(file.shape[0] if file.parts is None else file.parts[1])
        few = np.empty((len(rows) if self.first.columnar else 0, file.shape[1]), file.dtype)
        if self.first.columnar:
            file.read(rows, few)
        if self.names is not None:
            refuse_copies(self.names, few, labels[: len(few)], self.contents.path)
        return notices(self.contents, self.first, self.columns, few)


def _kind_of(file: RowFile) -> str:
    """The type of the features that are stored, in whatever order of bytes."""
    return "bfloat16" if file.stored == BFLOAT16 else np.dtype(file.stored).name


def _check_same_columns(contents: Contents, first: Contents) -> None:
    for here, there in ((contents, first), (first, contents)):
        more = [name for name in here.dimensions if name not in there.dimensions and name not in here.index]
        if more:
            raise DataError(
                f"The shard {here.path} has a column {more[0]!r}, which {there.path} lacks: save them alike."
            )


def _check_as_many(shard: Shard, path: Path, labels: NDArray[Any]) -> None:
    if shard.rows != len(labels):
        raise DataError(
            f"The shard {shard.path} has {shard.rows:,} rows, but {path} {len(labels):,} labels: give one each."
        )


def _labels_beside(X: ShardedRows, place: Path, labels: Path, columns: Columns) -> NDArray[Any]:
    """Labels (n,) from one file for all shards, or from as many files as there are shards, in the order of names."""
    if not is_sharded(labels):
        y = read_labels(labels, columns)
        if len(y) != len(X):
            raise DataError(f"{len(X):,} rows of features in {place}, but {len(y):,} labels: give one label per row.")
        return y
    paths = shard_paths(labels)
    if len(paths) != len(X.shards):
        raise DataError(
            f"{len(X.shards):,} shards in {place}, but {len(paths):,} of labels in {labels}: give one each."
        )
    if not (has_manifest(place) or has_manifest(labels)):
        _check_same_order([shard.path for shard in X.shards], paths)
    parts = []
    for shard, path in zip(X.shards, paths, strict=True):
        parts.append(read_labels(path, columns))
        _check_as_many(shard, path, parts[-1])
    return _joined(parts, paths)


def _check_same_order(shards: Sequence[Path], labels: Sequence[Path]) -> None:
    """DataError where names put shards and labels in different orders, as 1, 10, 2 and 01, 02, 10 do."""
    for shard, path, *places in zip(shards, labels, by_number(shards), by_number(labels), strict=True):
        if places[0] != places[1]:
            raise DataError(
                f"In the order of their names, the labels {path} would be those of {shard}: number both with as many "
                "digits, such as 01 and 10."
            )


def _doubts_of_order(shards: Sequence[Path], place: Path, labels: Path | None) -> tuple[str, ...]:
    """Say, and return, whether labels in one file might be in another order than that of the shards' names."""
    places = by_number(shards)
    if labels is None or is_sharded(labels) or has_manifest(place) or places == sorted(places):
        return ()
    order = listed(path.name for path in shards)
    sentence = f"The labels in {labels} are taken in the order of the shards' names, which is {order}."
    warn(sentence)
    return (sentence,)


def _joined(parts: Sequence[NDArray[Any]], paths: Sequence[Path]) -> NDArray[Any]:
    """The labels of all shards, which lie at these paths and are of one kind."""
    for part, path in zip(parts, paths, strict=True):
        if part.dtype.kind != parts[0].dtype.kind:
            kinds = ["words" if labels.dtype.kind == "U" else "whole numbers" for labels in (part, parts[0])]
            raise DataError(
                f"The labels of {path} are {kinds[0]}, but those of {paths[0]} {kinds[1]}: save them alike."
            )
    return np.concatenate(parts)
