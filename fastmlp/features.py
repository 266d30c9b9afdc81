"""The feature store: features, labels and provenance of one extraction, in a folder keyed by all that shaped them.

A store is written as `<key>.partial`, batch by batch, with a journal of the rows that are safely on disk, so a killed
extraction goes on where it stopped; finished and checksummed, it is renamed to `<key>`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.errors import DataError
from fastmlp.extractors.base import Extractor
from fastmlp.files import read_json, sha256_of, write_json
from fastmlp.progress import progress, say

FORMAT = 1
SECONDS_BETWEEN_JOURNALS = 0.25  # at most so much work is done again after a kill


@dataclass(frozen=True)
class FeatureStore:
    """features float32 (n, d), read from disk as they are needed, labels int64 (n,), and where they came from."""

    path: Path
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    provenance: dict[str, Any]
    reused: bool


def key_of(provenance: dict[str, Any]) -> str:
    """A readable name and a hash of everything in the provenance."""
    canonical = json.dumps({"format": FORMAT, **provenance}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    readable = [str(provenance.get("dataset", "")), str(provenance.get("split", "")), provenance["extractor"]["name"]]
    return "-".join("".join(c if c.isalnum() else "_" for c in part)[:40] for part in [*readable, digest])


def open_or_extract(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    extractor: Extractor,
    provenance: dict[str, Any],
    root: Path,
) -> FeatureStore:
    """The store with that provenance under root: opened if it is there, else extracted, going on from a partial one.

    Raises DataError if a store is there but damaged.
    """
    provenance = {**provenance, "extractor": extractor.provenance()}
    path = root / key_of(provenance)
    reused = path.is_dir()
    if not reused:
        _extract(images, labels, extractor, provenance, path)
    return open_store(path, provenance, reused)


def open_store(path: Path, provenance: dict[str, Any] | None = None, reused: bool = True) -> FeatureStore:
    """A finished store, its checksums verified and, if given, its provenance compared; else DataError."""
    meta = read_json(path / "store.json")
    mend = f"delete the folder {path} and extract again."
    if meta.get("format") != FORMAT or not isinstance(meta.get("sha256"), dict):
        raise DataError(f"The feature store {path} is of another format: {mend}")
    if provenance is not None and meta.get("provenance") != provenance:
        raise DataError(f"The feature store {path} was made from other data or by another extractor: {mend}")
    for name in ("features.npy", "labels.npy"):
        if not (path / name).is_file() or sha256_of(path / name) != meta["sha256"].get(name):
            raise DataError(f"The feature store's {path / name} is missing or damaged: {mend}")
    features = np.load(path / "features.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(path / "labels.npy", allow_pickle=False)
    return FeatureStore(path, features, labels, meta["provenance"], reused)


def _extract(
    images: NDArray[np.uint8], labels: NDArray[np.int64], extractor: Extractor, provenance: dict[str, Any], path: Path
) -> None:
    """Fill `<path>.partial`, then rename it to path."""
    partial = path.with_name(path.name + ".partial")
    rows = _finished_rows(partial, len(images), extractor.features)
    if rows == 0:
        _start_partial(partial, len(images), extractor.features)
    else:
        say(f"Going on with {partial.name} after {rows:,} images.")
    _fill(partial, images, extractor, rows, provenance)
    np.save(partial / "labels.npy", labels)
    sums = {name: sha256_of(partial / name) for name in ("features.npy", "labels.npy")}
    write_json(partial / "store.json", {"format": FORMAT, "provenance": provenance, "sha256": sums})
    (partial / "journal.json").unlink()
    os.replace(partial, path)


def _fill(
    partial: Path, images: NDArray[np.uint8], extractor: Extractor, rows: int, provenance: dict[str, Any]
) -> None:
    """Extract the rows from `rows` on, in the same batches as an unbroken run, journalling what is on disk."""
    features = np.load(partial / "features.npy", mmap_mode="r+", allow_pickle=False)
    title = f"extract {provenance['extractor']['name']} {provenance.get('split', '')}".strip()
    last_journal = time.monotonic()
    with progress(title, len(images), "images", rows) as bar:
        for start in range(rows, len(images), extractor.batch_size):
            batch = images[start : start + extractor.batch_size]
            features[start : start + len(batch)] = extractor(batch)
            bar.advance(len(batch))
            if time.monotonic() - last_journal >= SECONDS_BETWEEN_JOURNALS:
                features.flush()  # first the rows, then the word that they are there
                write_json(partial / "journal.json", {"rows": start + len(batch)})
                last_journal = time.monotonic()
    features.flush()
    write_json(partial / "journal.json", {"rows": len(images)})


def _finished_rows(partial: Path, count: int, width: int) -> int:
    """How many rows an earlier run left safely on disk; 0 if what it left cannot be used."""
    try:
        rows = read_json(partial / "journal.json")["rows"]
        features = np.load(partial / "features.npy", mmap_mode="r", allow_pickle=False)
    except (DataError, KeyError, TypeError, OSError, ValueError):
        return 0  # killed before its first journal: start over
    usable = features.shape == (count, width) and features.dtype == np.float32 and type(rows) is int
    return rows if usable and 0 < rows <= count else 0


def _start_partial(partial: Path, count: int, width: int) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.lib.format.open_memmap(partial / "features.npy", mode="w+", dtype=np.float32, shape=(count, width)).flush()
