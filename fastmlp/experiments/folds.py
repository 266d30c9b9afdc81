"""Cross-validation: the training rows in K folds, and K models, each tested on the fold that it was not trained on."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.progress import say, warn
from fastmlp.common.statistics import summarize
from fastmlp.experiments.feature_sets import FeatureSet, Labelled
from fastmlp.experiments.models import OUT_OF_FOLD, Models
from fastmlp.experiments.results import Validated, answers_of
from fastmlp.models.metrics import Answers
from fastmlp.models.trained_rows import TrainedRows, digests

FOLDS = "folds"  # the folder of their models, in that of the final one

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """All training rows of a feature set but one fold, with their augmented copies; tested on that fold."""

    out_of_fold: ClassVar[bool] = False
    of: FeatureSet
    name: str
    kept: Rows
    held_out: Rows

    @property
    def of_any_scale(self) -> bool:
        return self.of.of_any_scale

    @cached_property
    def parts(self) -> list[Labelled]:
        return [part.take(self.kept) for part in self.of.parts]

    @cached_property
    def test(self) -> Labelled:
        return self.of.parts[0].take(self.held_out)

    @property
    def images(self) -> int:
        return len(self.kept)

    @property
    def window(self) -> int | None:
        return self.of.window

    @property
    def inputs(self) -> int:
        return self.of.inputs

    @property
    def class_names(self) -> Sequence[str]:
        return self.of.class_names

    @property
    def sources(self) -> list[str]:
        return [*self.of.sources, self.name]

    def describe(self) -> dict[str, Any]:
        return {**self.of.describe(), "rows": {"training": len(self.kept), "test": len(self.held_out)}}

    @cached_property
    def trained_rows(self) -> TrainedRows:
        return TrainedRows.of(self.of.parts[0].features, self.kept, self.held_out)

    @cached_property
    def test_set(self) -> dict[str, Any]:
        return digests(self.trained_rows.held_out_hashes, self.test.labels)

    def place_weights(self, folder: Path) -> str | None:
        return self.of.place_weights(folder)


def cross_validate(models: Models, name: str, count: int) -> Validated:
    """Train and test a model for each of so many folds, one after the other; with config.resume, as `Models.train`.

    The models lie in OUT/NAME/folds/. figures: `folds`, Table 1's four figures of each, and mean, standard deviation
    and values of each figure over them.
    """
    config, features = models.config, models.feature_sets[name]
    folder = config.folder / name / FOLDS
    if not config.resume:
        shutil.rmtree(folder, ignore_errors=True)
    rows, tested = [], []
    for number, split in enumerate(fold_rows(features, count, config.seed), start=1):
        fold = Fold(features, f"fold-{number}", *split)
        own = Models(replace(config, out=folder), models.machine, {fold.name: fold})
        say(f"{fold.name}: {len(fold.kept):,} rows to train on, {len(fold.held_out):,} to test on.")
        network = own.train()[fold.name].network
        rows.extend(own.table_rows(fold.name, [network]))
        tested.append((fold.held_out, answers_of(own, {fold.name: network})[fold.name]))
    if features.out_of_fold:
        say(OUT_OF_FOLD)
    over_folds = {figure: summarize([row[figure] for row in rows]) for figure in rows[0]}
    return Validated({"folds": rows, **over_folds}, _in_order(tested))


def fold_rows(features: FeatureSet, count: int, seed: int) -> list[tuple[Rows, Rows]]:
    """The rows to train on and to test on of each fold: scikit-learn's StratifiedKFold, shuffled by the seed.

    Raises DataError where the classes are too small.
    """
    from sklearn.model_selection import StratifiedKFold

    labels = features.parts[0].labels
    rows_of = np.bincount(labels, minlength=len(features.class_names))
    if rows_of.min() < 2 or rows_of.max() < count:
        least = features.class_names[int(rows_of.argmin())]
        raise DataError(
            f"--folds {count} needs two rows of each class, and {count} of one of them, but {least!r} has "
            f"{rows_of.min()}: give more rows, or fewer folds."
        )
    if (few := int(np.count_nonzero(rows_of < count))) > 0:
        warn(f"{few:,} of {len(rows_of):,} classes have fewer than {count} rows: some folds test none of them.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said above
        return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels))


def _in_order(tested: Sequence[tuple[Rows, Answers]]) -> Answers:
    """The answers to all rows, in the order of the rows."""
    order = np.argsort(np.concatenate([rows for rows, _ in tested]))
    columns = zip(*(vars(answers).values() for _, answers in tested), strict=True)
    return Answers(*(np.concatenate(column)[order] for column in columns))
