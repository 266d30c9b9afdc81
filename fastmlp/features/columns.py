"""Which arrays, or columns, of a file are features and which the labels: as the user says, or by their names."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastmlp.common.errors import DataError, did_you_mean
from fastmlp.features.contents import ONLY, Contents

FEATURES = ("features", "X", "x", "embeddings", "embedding", "images")  # two-dimensional, or images
LABELS = ("labels", "label", "y", "target")
LISTED = 100  # characters of a list of names


@dataclass(frozen=True)
class Columns:
    """What is known of a file's columns, or arrays, before it is opened.

    label: the one with the labels; None: usual_label where the file has it, else the only one of the names LABELS.
    drop: those to leave out. features: those to take, in that order; None: all others, in the order of the file.
    """

    label: str | None = None
    drop: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    usual_label: str | None = None


ANY = Columns()


class Choice(NamedTuple):
    """Features: one array of rows, or (columnar) several of numbers; the labels; all that nobody asked to leave out."""

    features: tuple[str, ...]
    columnar: bool
    label: str | None
    left_out: tuple[str, ...]

    def told(self, contents: Contents) -> str:
        """What was read as what."""
        count = f"{len(self.features):,} feature{'' if len(self.features) == 1 else 's'}"
        features = f"{count} ({listed(self.features)})" if self.columnar else f"features from {self.features[0]!r}"
        labels = "" if self.label is None else f", labels from {self.label!r}"
        others = [f"{name} (a data frame's index)" if name in contents.index else name for name in self.left_out]
        left_out = f"; left out {len(others):,}: {listed(others)}" if others else ""
        return f"Read {contents.path.name}: {features}{labels}{left_out}."


def choose(contents: Contents, columns: Columns, with_labels: bool = True) -> Choice:
    """with_labels: the labels are in the file, if it has any named like that, and not elsewhere or unneeded.

    Raises DataError for names that the file does not have, and where several arrays could be meant."""
    _check_known(contents, columns.drop)
    label = label_of(contents, columns) if with_labels else None
    taken = {label, columns.label, *columns.drop, *contents.index}
    offered = {name: dimensions for name, dimensions in contents.dimensions.items() if name not in taken}
    features = _matched(contents, columns, offered) or _by_name_and_shape(contents, offered)
    columnar = contents.columnar and contents.dimensions[features[0]] == 1
    used = {*features, label, *columns.drop}
    return Choice(features, columnar, label, tuple(name for name in contents.dimensions if name not in used))


def label_of(contents: Contents, columns: Columns) -> str | None:
    """The name of the labels; None where nothing is named like labels."""
    if columns.label is not None:
        _check_known(contents, [columns.label])
        return columns.label
    if columns.usual_label in contents.dimensions and columns.usual_label not in columns.drop:
        return columns.usual_label
    not_labels = (*columns.drop, *contents.index, *(columns.features or ()))
    named = [name for name in LABELS if name in contents.dimensions and name not in not_labels]
    if len(named) > 1:
        rest = "; the rest are features, unless --drop-columns leaves them out" if contents.columnar else ""
        raise DataError(
            f"{contents.path} has {_both(named)}, each of which could be the labels: name the right one, such as "
            f"--label-column {named[0]}{rest}."
        )
    return named[0] if named else None


def _matched(contents: Contents, columns: Columns, offered: dict[str, int]) -> tuple[str, ...]:
    """The features asked for by name; none where no names were, or where the file has rows without names instead."""
    wanted, names = columns.features or (), contents.dimensions
    missing = [name for name in wanted if names.get(name) != 1]
    if not contents.columnar or (len(missing) == len(wanted) and _rows_in(offered)):
        return ()
    check_complete(wanted, [name for name in names if name not in missing], contents.path)
    return wanted


def check_complete(wanted: Sequence[str], names: Iterable[str], place: object) -> None:
    """Raise DataError for columns of the training that are not among the names at that place."""
    known = set(names)
    missing = [name for name in wanted if name not in known]
    if missing:
        more = f", nor {len(missing) - 1:,} more" if len(missing) > 1 else ""
        near = did_you_mean(missing[0], sorted(known.difference(wanted)))
        raise DataError(
            f"{place} has no column {missing[0]!r}{near}{more}, which the model was trained on: give every column of "
            "the training."
        )


def _by_name_and_shape(contents: Contents, offered: dict[str, int]) -> tuple[str, ...]:
    rows = _rows_in(offered)
    if not rows and contents.columnar and offered:
        return tuple(offered)
    if FEATURES[0] in rows:
        return FEATURES[:1]
    candidates = [name for name in FEATURES if name in rows] or rows or list(offered)  # of a wrong shape, and refused
    if not candidates:
        raise DataError(f"{contents.path} has no features: give an array (n, d), named {FEATURES[0]!r}.")
    if len(candidates) > 1:
        raise DataError(
            f"{contents.path} has {_both(candidates)}, each of which could be the features: name the right one "
            f"{FEATURES[0]!r}, or leave out the others by --drop-columns."
        )
    return tuple(candidates)


def _rows_in(offered: dict[str, int]) -> list[str]:
    """The arrays of two dimensions or more."""
    return [name for name, dimensions in offered.items() if dimensions > 1]


def _check_known(contents: Contents, names: Iterable[str]) -> None:
    known = [name for name in contents.dimensions if name != ONLY]
    for name in names:
        if name not in known:
            fix = f"it has {listed(known)}" if known else "its one array has no name, so leave that option out"
            raise DataError(f"{contents.path} has no column {name!r}{did_you_mean(name, known)}: {fix}.")


def listed(names: Iterable[str]) -> str:
    """The names in a sentence, and how many more there are."""
    return textwrap.shorten(", ".join(names), LISTED, placeholder=" ...")


def _both(names: Iterable[str]) -> str:
    *first, last = (repr(name) for name in names)
    return f"{', '.join(first)} and {last}"
