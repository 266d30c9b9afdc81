"""The files of sharded features: how they are found, and how ours are written.

A folder's manifest.json, where there is one, says which shards there are, in which order:

    {"format": 1, "shards": [{"name": "shard-00000.safetensors", "rows": 4096, "sha256": "..."}, ...]}

Elsewhere every file of a known kind is a shard, in the order of their names.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.counted import check_counted
from fastmlp.common.errors import DataError
from fastmlp.common.files import has_wildcards, is_file, is_folder, read_json, write_bytes, write_json
from fastmlp.common.progress import say, warn
from fastmlp.features.columns import listed
from fastmlp.features.contents import SUFFIXES

MANIFEST, FORMAT = "manifest.json", 1
PARTIAL = ".partial"  # ends the name of a feature store that is being extracted


class Entry(NamedTuple):
    """A shard in a manifest: the name and the SHA-256, hexadecimal, of its file, and how many rows it has."""

    name: str
    rows: int
    sha256: str


# Finding.


def is_sharded(place: Path) -> bool:
    """Whether that is a folder or a glob, and not a file."""
    return is_folder(place) or (not os.path.lexists(place) and has_wildcards(place))


def shard_paths(place: Path) -> list[Path]:
    """The shards in a folder or glob. Raises DataError if there are none, or if one is known to be missing."""
    found = _entries(place)
    paths = [path for path in found if path.suffix.lower() in SUFFIXES]
    if has_manifest(place):
        return _listed(place, paths)
    _check_finished(paths)
    if not paths:
        kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise DataError(f"There are no {kinds} files in {place}: check the path, or put it in quotes if it is a glob.")
    others = [path.name for path in found if path not in paths]
    if others:
        say(f"Left out {len(others):,} entries of {place} that are no shards: {listed(others)}.")
    check_counted(paths)
    return paths


def by_number(paths: Sequence[Path]) -> list[int]:
    """Their places in the order of names in which numbers count as numbers: 2 before 10."""
    keys = [
        [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", str(path)))] for path in paths
    ]
    return sorted(range(len(paths)), key=keys.__getitem__)


def _listed(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """The shards in the folder's manifest; others of these paths are told of."""
    listed_ones = [folder / entry.name for entry in read_manifest(folder)]
    others = [path.name for path in paths if path not in set(listed_ones)]
    if others:
        warn(f"Left out {len(others):,} files of {folder} that its {MANIFEST} does not list: {listed(others)}.")
    return listed_ones


def _check_finished(paths: Iterable[Path]) -> None:
    """DataError for shards of a feature store that is being extracted, or whose extraction was killed."""
    for folder in {path.parent for path in paths}:
        if folder.suffix == PARTIAL and not has_manifest(folder):
            raise DataError(
                f"{folder} is a feature store whose extraction has not finished: run it again, which resumes, and give "
                f"{folder.with_suffix('')}."
            )


def holds_shards(place: Path) -> bool:
    """Whether that is a folder or glob of features, rather than of images."""
    return is_sharded(place) and any(path.suffix.lower() in SUFFIXES for path in _entries(place))


def _entries(place: Path) -> list[Path]:
    """What is visible in a folder or glob, in the order of names."""
    try:
        found = place.iterdir() if is_folder(place) else glob.glob(str(place), recursive=True)  # noqa: PTH207  (of any path)
        return [path for path in sorted(map(Path, found)) if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{place} cannot be listed ({error.strerror}): give yourself read permission.") from None


# The manifest, and shards of our own.


def has_manifest(folder: Path) -> bool:
    """Whether there is one, be it damaged."""
    return os.path.lexists(folder / MANIFEST)


def read_manifest(folder: Path) -> list[Entry]:
    """The shards in a folder, by its manifest. Raises DataError if that is damaged, or of another format."""
    path = folder / MANIFEST
    content = read_json(path)
    try:
        if content["format"] != FORMAT:
            raise DataError(f"{path} has format {content['format']!r}, not {FORMAT}: write the shards again.")
        entries = [Entry(entry["name"], entry["rows"], entry["sha256"]) for entry in content["shards"]]
        names = {entry.name for entry in entries}
        sound = 0 < len(entries) == len(names) and all(_is_sound(entry) for entry in entries)
    except (LookupError, TypeError):
        sound = False
    if not sound:
        raise DataError(f"{path} is damaged: write it again, or delete it to take every file in the folder as a shard.")
    for entry in entries:
        if not is_file(folder / entry.name):
            raise DataError(f"The shard {folder / entry.name} is missing, by {path}: write it again.")
    return entries


def _is_sound(entry: Entry) -> bool:
    named = isinstance(entry.name, str) and Path(entry.name).name == entry.name
    return (
        named
        and Path(entry.name).suffix.lower() in SUFFIXES
        and type(entry.rows) is int
        and entry.rows > 0
        and isinstance(entry.sha256, str)
    )


def write_shard(folder: Path, number: int, features: NDArray[Any], labels: NDArray[np.int64]) -> Entry:
    """Write features (n, d) and labels int64 (n,) as that shard of the folder, whole or not at all."""
    return write_rows(folder / f"shard-{number:05d}.safetensors", features, labels)


def write_rows(path: Path, features: NDArray[Any], labels: NDArray[np.int64]) -> Entry:
    """Write features (n, d) and labels int64 (n,) as that file, whole or not at all."""
    from safetensors.numpy import save

    content = save({"features": np.ascontiguousarray(features), "labels": np.ascontiguousarray(labels)})
    write_bytes(path, content)
    return Entry(path.name, len(features), hashlib.sha256(content).hexdigest())


def write_manifest(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the manifest of these shards, in that order: last, as the folder is taken to be complete with it."""
    write_json(folder / MANIFEST, {"format": FORMAT, "shards": [entry._asdict() for entry in entries]})
