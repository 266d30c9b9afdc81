"""Files that hold many images each: where they lie, and which are to train on and to test on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fastmlp.common.counted import check_counted
from fastmlp.common.errors import DataError
from fastmlp.common.progress import warn
from fastmlp.common.text import normalized
from fastmlp.datasets.base import LeftOut
from fastmlp.datasets.places import Place, expanded

PARTS = ("train", "test")
PART_NAME = re.compile(r"(train|test)(?![a-z])", re.IGNORECASE)  # as in train-00000-of-00002.parquet


class Shards(NamedTuple):
    """The files of train and test, or of one set; and how many other things lie there, by what they are."""

    splits: list[list[Place]]
    others: Counter[str]

    def told(self, split: int, name: str) -> str:
        """What a class of a split is called."""
        files = self.splits[split]
        return f"The class {name!r} of {files[0]}" + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")


def find_shards(place: Place, endings: Sequence[str]) -> Shards:
    """The files of those endings: the place itself, those that its wildcards or braces mean, or those in that folder.

    Where there are folders train/ and test/, or files whose names begin with these words, they are taken as they are;
    what else lies there is told and left out, but for hidden files. Raises DataError if there are none.
    """
    if place.is_dir() and all((place / part).is_dir() for part in PARTS):
        listed = [_listed(place / part, endings) for part in PARTS]
        shards = Shards([files for files, _ in listed], sum((others for _, others in listed), Counter[str]()))
    else:
        files, others = _listed(place, endings) if place.is_dir() else _split([*expanded(place)], endings)
        shards = _by_name(place, files, others)
    if not all(shards.splits):
        only = f", only {LeftOut(dict(shards.others))}" if shards.others else ""
        kinds = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise DataError(f"There are no {kinds} files in {place}{only}: check the path.")
    if place.is_dir() or not place.exists():  # one file alone is what somebody wants
        check_counted([file for split in shards.splits for file in split])
    if shards.others:
        warn(f"Left out of {place}: {LeftOut(dict(shards.others))}.")
    return shards


def _by_name(place: Place, files: list[Place], others: Counter[str]) -> Shards:
    """Those of train and of test, or all of them where no names tell."""
    train, test = ([file for file in files if _part_of(file) == part] for part in PARTS)
    if train and test:
        more = Counter(f"{file.suffix.lower()} of neither train nor test" for file in files if not _part_of(file))
        return Shards([train, test], others + more)
    if train and len(train) < len(files):
        raise DataError(f"{place} has files of train but none of test: add some, or give a glob of those you mean.")
    return Shards([files], others)


def _part_of(file: Place) -> str:
    found = PART_NAME.match(file.name)
    return found[1].lower() if found else ""


def _listed(folder: Place, endings: Sequence[str]) -> tuple[list[Place], Counter[str]]:
    """What is visible in a folder, in the order of names, as `_split` has it."""
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): give yourself read permission.") from error
    return _split(sorted(visible, key=lambda path: (normalized(path.name), path.name)), endings)


def _split(places: Sequence[Place], endings: Sequence[str]) -> tuple[list[Place], Counter[str]]:
    """The files of those endings, and how many other things there are, by what they are."""
    files, others = list[Place](), Counter[str]()
    for place in places:
        if place.name.lower().endswith(tuple(endings)) and place.is_file():
            files.append(place)
        elif place.exists():
            others["nested folder" if place.is_dir() else place.suffix.lower() or "without a suffix"] += 1
    return files, others
