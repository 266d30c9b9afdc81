"""Features made elsewhere, by CLIP or DINO, say, as a feature set: `fastmlp train --features X.npy --labels y.npy`.

They lie in one file or, as `fastmlp.features.shards` has them, in many.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import hash_array
from fastmlp.common.progress import warn
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import Labelled
from fastmlp.experiments.windows import named, tell_of_windows, window_of
from fastmlp.features.columns import ANY, Columns, listed
from fastmlp.features.sharded_rows import ShardedRows
from fastmlp.features.shards import open_shards, open_table
from fastmlp.features.streamed import StreamedRows
from fastmlp.features.tables import RowArray, Table, check_finite, finite_rows, indices_of
from fastmlp.models.trained_rows import TrainedRows, digests, row_hashes
from fastmlp.training.held_out import LEAST_ROWS, hold_out
from fastmlp.training.standardize import odd_scale

HEAD = "head"  # the name and the folder of the model
Classes = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Features (n, d) as they lie in a file, and the labels int64 (n,) of their classes.

    names: those of the features, where they were columns; rows: the ones to use; None: all.
    """

    place: Path
    features: RowArray
    labels: NDArray[np.int64]
    names: tuple[str, ...] | None = None
    rows: NDArray[np.int64] | None = None

    @cached_property
    def sources(self) -> list[str]:
        """What changes with the content: `name`, and before it, of shards, a name and a hash of each."""
        shards = self.features.names if isinstance(self.features, ShardedRows) else []
        return [*shards, self.name]

    @cached_property
    def name(self) -> str:
        """The file's name, and a hash of features, unless they are in shards, their names, and labels."""
        digest = hashlib.sha256()
        if self.names is not None:
            digest.update(repr(self.names).encode())
        sharded = isinstance(self.features, ShardedRows)
        for array in (self.labels,) if sharded else (self.features, self.labels):
            hash_array(digest, array)
        return f"{self.place.name}-{digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class Tables:
    """What to train and to test on, and the classes, sorted, int64 or strings.

    label: the name of the labels, where they had one; notices: what was said about the reading of the files.
    """

    train: Source
    test: Source
    classes: Classes
    label: str | None
    notices: tuple[str, ...]


def open_tables(
    features: Path,
    labels: Path | None,
    test_features: Path | None,
    test_labels: Path | None,
    seed: int,
    limit: int | None = None,
    columns: Columns = ANY,
    folds: bool = False,
    streamed: bool = False,
) -> Tables:
    """The tables in these files; without test features, a tenth of each class, drawn from the seed, is held out.

    folds: instead, the training rows are the test rows too, out of their folds. streamed: read no features yet, not
    even of a single file.

    Each may be a file, or a folder or glob of shards. labels may stand in the file of the features; limit: use only the
    first rows of each, that many. Test features are matched to the training's by their names. Raises DataError for
    files that are missing, damaged, do not go together or hold too little.
    """
    table = _read(features, labels, limit, columns, streamed)
    if test_features is None:
        return tables_of(table, features, seed, folds=folds)
    test = _read(test_features, test_labels, limit, _as_in(table, columns), streamed)
    return tables_of(table, features, seed, test, test_features)


def tables_of(
    table: Table,
    place: Path,
    seed: int,
    test_table: Table | None = None,
    test_place: Path | None = None,
    folds: bool = False,
) -> Tables:
    """Tables that were read, or are in memory, to train and to test on, as `open_tables` has them; places name them."""
    classes, indices = np.unique(table.labels, return_inverse=True)
    if not 2 <= len(classes) <= len(indices) / 2:
        found = "is one class" if len(classes) == 1 else f"are {len(classes):,} classes"
        raise DataError(f"There {found} in {len(indices):,} labels: give two classes or more, and two rows per class.")
    train, notices = Source(place, table.features, indices.astype(np.int64), table.names), table.notices
    if test_table is None or test_place is None:
        train, test = (train, train) if folds else _split(train, seed)
    else:
        test, notices = _test_of(train, test_table, test_place, classes), (*notices, *test_table.notices)
    return Tables(train, test, classes, table.label, (*notices, *_untested(test, classes)))


def _read(features: Path, labels: Path | None, limit: int | None, columns: Columns, streamed: bool) -> Table:
    table = (open_shards if streamed else open_table)(features, labels, columns)
    if table.features.ndim != 2:
        raise DataError(f"{features} holds images: train on them by --dataset folder:PATH, or give their features.")
    return table if limit is None else replace(table, features=table.features[:limit], labels=table.labels[:limit])


def _as_in(table: Table, columns: Columns) -> Columns:
    """How a test file is read after that table: the same features by name, and all others left out."""
    known = replace(columns, usual_label=table.label)
    return known if table.names is None else replace(known, features=table.names, drop=())


def _test_of(train: Source, table: Table, place: Path, classes: Classes) -> Source:
    widths = table.features.shape[1], train.features.shape[1]
    if widths[0] != widths[1]:
        raise DataError(f"{place} has {widths[0]} features per row, but {train.place} {widths[1]}: give the same ones.")
    return Source(place, table.features, indices_of(table.labels, classes, place), table.names)


def _untested(test: Source, classes: Classes) -> list[str]:
    """Say, and return, which classes no test row has."""
    absent = np.setdiff1d(np.arange(len(classes)), test.labels if test.rows is None else test.labels[test.rows])
    if not len(absent):
        return []
    names = listed(map(str, classes[absent].tolist()))
    sentence = (
        f"{len(absent):,} of {len(classes):,} classes have no test row, so no test figure tells of them: {names}."
    )
    warn(sentence)
    return [sentence]


def _split(whole: Source, seed: int) -> tuple[Source, Source]:
    count = len(whole)
    if count < LEAST_ROWS:
        raise DataError(
            f"A tenth of the rows is held out, and {count} are too few: give {LEAST_ROWS}, or --test-features."
        )
    kept, held = hold_out(whole.labels, seed)
    return replace(whole, rows=kept), replace(whole, rows=held)


@dataclass(frozen=True)
class FileFeatures:
    """A feature set of files; of the configuration's data options only the seed and the limit count."""

    of_any_scale: ClassVar[bool] = True
    tables: Tables
    config: Config

    @property
    def out_of_fold(self) -> bool:
        return self.tables.test is self.tables.train

    @cached_property
    def parts(self) -> list[Labelled]:
        source = self.tables.train
        rows = self._rows_of(source)
        standardize = self.config.recipe.standardize
        scaled = standardize in ("each", "unit")
        finding = None if scaled else odd_scale(source.features, standardize == "together")
        if finding:
            option = "--preset tabular" if self.config.protocol is None else "--normalize standard"
            warn(f"The features in {source.place} {finding}: try {option}, which standardises each of them.")
        return [rows]

    @cached_property
    def test(self) -> Labelled:
        return self._rows_of(self.tables.test)

    def _rows_of(self, source: Source) -> Labelled:
        """Rows that are standardised later keep their dtype until then: an offset may need all of its digits."""
        as_they_come = self.config.recipe.standardize == "none"
        dtype = self.config.dtype if as_they_come else source.features.dtype.name
        labels = source.labels if source.rows is None else source.labels[source.rows]
        if self.window is None or not isinstance(source.features, ShardedRows):
            return Labelled(finite_rows(source.features, source.rows, dtype, source.place, source.names), labels)
        check_finite(source.features, source.rows, dtype, source.place, source.names)
        return Labelled(StreamedRows(source.features, self.window, self.config.seed, source.rows), labels)

    @cached_property
    def window(self) -> int | None:
        """How many rows are held at a time, where not all of them may be."""
        train, test = self.tables.train.features, self.tables.test.features
        parts = [rows.largest_part if isinstance(rows, ShardedRows) else 0 for rows in (train, test)]
        rows = len(train) + (0 if test is train else len(test))
        window = window_of(self.config, rows, train.shape[1], train.dtype.itemsize, max(parts), least=parts[0])
        if window is not None and self.config.limit is not None:
            raise UsageError("--limit reads so many rows into memory, more than --memory allows: give fewer.")
        if window is not None:
            tell_of_windows(window, rows)
        return window

    @property
    def images(self) -> int:
        return len(self.tables.train)

    @property
    def inputs(self) -> int:
        return int(self.tables.train.features.shape[1])

    @property
    def class_names(self) -> list[str]:
        return [str(label) for label in self.tables.classes.tolist()]

    @property
    def sources(self) -> list[str]:
        train, test = self.tables.train, self.tables.test
        if self.out_of_fold:
            return [*train.sources, "its rows, out of their folds", *named(self.window)]
        tested = ["a tenth of it, held out"] if test.rows is not None else test.sources
        return [*train.sources, *tested, *named(self.window)]

    def describe(self) -> dict[str, Any]:
        return {
            "dataset": self.tables.train.place.name,
            "note": "",
            "class_names": self.class_names,
            "integer_classes": self.tables.classes.dtype.kind == "i",
            "feature_names": None if self.tables.train.names is None else list(self.tables.train.names),
            "label_column": self.tables.label,
            "notices": list(self.tables.notices),
            "window_rows": self.window,
            "rows": {"training": self.images, **({} if self.out_of_fold else {"test": len(self.tables.test)})},
            "extractor": None,
        }

    @cached_property
    def trained_rows(self) -> TrainedRows:
        train, test = self.tables.train, self.tables.test
        return TrainedRows.of(train.features, train.rows, test.rows)

    @cached_property
    def test_set(self) -> dict[str, Any]:
        test = self.tables.test
        hashes = row_hashes(test.features) if test.rows is None else self.trained_rows.held_out_hashes
        return digests(hashes, self.test.labels)

    def place_weights(self, _: Path) -> None:
        return None  # there is no extractor
