"""Heads on features made elsewhere, by CLIP or DINO, say: `fastmlp train --features X.npy --labels y.npy`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.progress import warn
from fastmlp.common.randomness import Purpose, generator
from fastmlp.experiments.config import Config
from fastmlp.experiments.experiment import Experiment
from fastmlp.features.tables import finite_rows, indices_of, read_labelled
from fastmlp.training.loop import Recipe, odd_scale
from fastmlp.training.samples import Samples

HEAD = "head"  # the name and the folder of the model
HELD_OUT = 10  # one row in so many, where no test features are given
BYTES_HASHED = 2**24  # at a time
Classes = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Features (n, d) as they lie in a file, the labels int64 (n,) of their classes, and the rows used (None: all)."""

    place: Path
    features: NDArray[Any]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    @cached_property
    def name(self) -> str:
        """The file's name, and a hash of features and labels."""
        digest = hashlib.sha256()
        for array in (self.features, self.labels):
            digest.update(repr((array.dtype.str, array.shape)).encode())
            step = max(1, BYTES_HASHED // max(1, array[:1].nbytes))
            for start in range(0, len(array), step):
                digest.update(np.ascontiguousarray(array[start : start + step]).data)
        return f"{self.place.name}-{digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class Tables:
    """What to train and to test a head on, and the classes, sorted, int64 or strings."""

    train: Source
    test: Source
    classes: Classes


def open_tables(
    features: Path,
    labels: Path | None,
    test_features: Path | None,
    test_labels: Path | None,
    seed: int,
    limit: int | None = None,
) -> Tables:
    """The tables in these files; without test features a tenth of the rows, drawn from the seed, is held out for it.

    labels may stand in the file of the features; limit: of each file only the first so many rows. Raises DataError for
    files that are missing, damaged, do not go together or hold too little.
    """
    X, y = _read(features, labels, limit)
    classes, indices = np.unique(y, return_inverse=True)
    if not 2 <= len(classes) <= len(y) / 2:
        found = "is one class" if len(classes) == 1 else f"are {len(classes):,} classes"
        raise DataError(f"There {found} in {len(y):,} labels: give two classes or more, and two rows a class.")
    train = Source(features, X, indices.astype(np.int64))
    if test_features is None:
        return Tables(*_split(train, seed), classes)
    X_test, y_test = _read(test_features, test_labels, limit)
    if X_test.shape[1] != X.shape[1]:
        raise DataError(
            f"{test_features} has {X_test.shape[1]} features a row, but {features} {X.shape[1]}: give the same ones."
        )
    return Tables(train, Source(test_features, X_test, indices_of(y_test, classes, test_features)), classes)


def _read(features: Path, labels: Path | None, limit: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    X, y = read_labelled(features, labels)
    if X.ndim != 2:
        raise DataError(f"{features} holds images: train on them by --dataset folder:PATH, or give their features.")
    return X[:limit], y[:limit]


def _split(whole: Source, seed: int) -> tuple[Source, Source]:
    count = len(whole)
    if count < HELD_OUT:
        raise DataError(f"A tenth of the rows is held out, and {count} are too few: give 10, or --test-features.")
    order = generator(seed, Purpose.VALIDATION).permutation(count)
    held, kept = np.sort(order[: count // HELD_OUT]), np.sort(order[count // HELD_OUT :])
    return replace(whole, rows=kept), replace(whole, rows=held)


class HeadExperiment(Experiment):
    """One configuration's head on tables; its data options but the seed count for nothing."""

    def __init__(self, config: Config, tables: Tables) -> None:
        super().__init__(config)
        self.tables = tables

    @property
    def recipe(self) -> Recipe:
        return self.config.recipe.for_rows(len(self.tables.train))

    def samples(self, name: str = HEAD) -> Samples:
        return self._train_samples

    @cached_property
    def _train_samples(self) -> Samples:
        source = self.tables.train
        samples = self._place(source)
        finding = odd_scale(source.features, self.recipe.standardize)
        if finding:
            warn(f"The features in {source.place} {finding}.")
        return samples

    @cached_property
    def test(self) -> Samples:
        return self._place(self.tables.test)

    def _place(self, source: Source) -> Samples:
        features = finite_rows(source.features, source.rows, self.config.dtype, source.place)
        labels = source.labels if source.rows is None else source.labels[source.rows]
        return Samples.place(self.backend, features, labels, self.config.dtype)

    @property
    def sizes(self) -> tuple[int, ...]:
        inputs = self.tables.train.features.shape[1]
        return (inputs, *self.config.hidden_layer_sizes, len(self.tables.classes))

    def feature_sets(self, name: str) -> list[str]:
        train, test = self.tables.train, self.tables.test
        return [train.name, "a tenth of it, held out" if test.rows is not None else test.name]

    def data_description(self) -> dict[str, Any]:
        classes = self.tables.classes
        return {
            "dataset": self.tables.train.place.name,
            "note": "",
            "class_names": [str(label) for label in classes.tolist()],
            "integer_classes": classes.dtype.kind == "i",
            "rows": {"training": len(self.tables.train), "test": len(self.tables.test)},
            "extractor": None,
        }

    def place_weights(self, folder: Path) -> None:
        return None  # there is no extractor
