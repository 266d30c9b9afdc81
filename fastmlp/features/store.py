"""The feature store: features, labels and provenance of one extraction, in a folder keyed by all that determines them.

A store is written as `<key>.partial`, shard by shard, so that a killed extraction can resume: what it lacks is the
shards that are not there. Once finished, and listed with checksums in `manifest.json`, it is renamed to `<key>`.
Meanwhile `<key>.lock` keeps a second process waiting.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError, FastMLPError, UsageError
from fastmlp.common.files import locked, read_json, sha256_of, write_json
from fastmlp.common.progress import progress, say
from fastmlp.extractors.base import Extractor
from fastmlp.features import first_format
from fastmlp.features.extraction import Engine, Extraction, Here, Rows, Shard, read_shard
from fastmlp.features.shard_files import MANIFEST, PARTIAL, Entry, write_manifest
from fastmlp.features.sharded_rows import ShardedRows
from fastmlp.features.shards import open_sharded

KEYS = 1  # the version of keys
FORMAT = 2  # of what is written; stores of the first are read


@dataclass(frozen=True)
class FeatureStore:
    """Labels int64 (n,), where they and their features came from, and the features, which are read when asked for."""

    path: Path
    shape: tuple[int, int]
    labels: NDArray[np.int64]
    provenance: dict[str, Any]
    reused: bool
    shards: tuple[str, ...] = ()

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """float32 (n, d): of a store of the first format memory-mapped, else read once, and kept."""
        if not self.shards:
            return first_format.features_in(self.path, _fix(self.path))
        features, start = np.empty(self.shape, np.float32), 0
        for name in self.shards:
            rows = _rows_in(self.path / name, self.path).features
            features[start : start + len(rows)] = rows
            start += len(rows)
        return features

    @cached_property
    def sharded(self) -> ShardedRows:
        """The same, of which those rows are read that are asked for, every time."""
        return open_sharded(self.path)


def key_of(provenance: dict[str, Any]) -> str:
    """A readable name and a hash of everything in the provenance (JSON values, no NaN, no entry `format`)."""
    if "format" in provenance:
        raise UsageError("The entry 'format' of a provenance is reserved for the store: choose another name.")
    content = {"format": KEYS, **provenance}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    readable = [str(provenance.get("dataset", "")), str(provenance.get("split", "")), provenance["extractor"]["name"]]
    return "-".join(re.sub("[^0-9A-Za-z]", "_", part)[:40] for part in [*readable, digest])


# Opening.


def open_or_extract(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    extractor: Extractor,
    provenance: dict[str, Any],
    root: Path,
    engine: Engine | None = None,
) -> FeatureStore:
    """The store with that provenance under root: opened if it exists, else extracted, resuming a partial extraction.

    engine: what extracts the shards that are not there; by default this process. The store is the same by any.
    Raises DataError if the store exists but is damaged, FastMLPError if root cannot be written, UsageError if the
    labels are not one integer per image.
    """
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} labels {labels.shape} for {len(images):,} images"
        raise UsageError(f"{found}: pass one integer per image.")
    provenance, path = _named(provenance, extractor, root)
    extraction = Extraction(images, labels, extractor, path.with_name(path.name + PARTIAL))
    reused = path.is_dir()
    if not reused:
        try:
            with locked(path.with_name(f"{path.name}.lock"), f"extracting {path.name}"):
                reused = path.is_dir()  # by now
                if not reused:
                    _extract(extraction, engine or Here(), provenance, path)
        except OSError as error:
            raise FastMLPError(
                f"The features cannot be written under {root} ({error.strerror or error}): make room there, or set "
                "FASTMLP_CACHE_DIR to another folder; the same command then resumes."
            ) from error
    return _opened(path, labels, extractor, provenance, reused)


def open_stored(
    labels: NDArray[np.int64], extractor: Extractor, provenance: dict[str, Any], root: Path
) -> FeatureStore | None:
    """What `open_or_extract` opens, without the images, which it needs to extract; None if it is not there.

    Raises DataError if the store is damaged.
    """
    provenance, path = _named(provenance, extractor, root)
    return _opened(path, labels, extractor, provenance, reused=True) if path.is_dir() else None


def _named(provenance: dict[str, Any], extractor: Extractor, root: Path) -> tuple[dict[str, Any], Path]:
    """The whole provenance, and where the store with it lies."""
    provenance = {**provenance, "extractor": extractor.provenance()}
    return provenance, root / key_of(provenance)


def _opened(
    path: Path, labels: NDArray[np.int64], extractor: Extractor, provenance: dict[str, Any], reused: bool
) -> FeatureStore:
    """The store, checked to have these labels, and features of that extractor's width."""
    store = open_store(path, provenance, reused)
    if store.shape != (len(labels), extractor.features) or not np.array_equal(store.labels, labels):
        raise DataError(f"The feature store {path} is for other images: {_fix(path)}")
    return store


def open_store(path: Path, provenance: dict[str, Any] | None = None, reused: bool = True) -> FeatureStore:
    """A finished store, its checksums verified and, if given, its provenance compared. Raises DataError otherwise."""
    meta = _read_meta(path)
    if provenance is not None and key_of(provenance) != key_of(meta["provenance"]):
        raise DataError(f"The feature store {path} was made from other data or by another extractor: {_fix(path)}")
    if meta["format"] == first_format.FORMAT:
        shape, labels = first_format.read(path, meta["sha256"], _fix(path))
        return FeatureStore(path, shape, labels, meta["provenance"], reused)
    widths, parts = set(), []
    manifest = _read_manifest(path, meta["sha256"].get(MANIFEST))
    for written in manifest:
        rows = _rows_in(path / written.name, path, written)
        widths.add(rows.features.shape[1])
        parts.append(rows.labels.copy())  # of which the features are no part, so that they can go
    if len(widths) != 1:
        raise DataError(f"The feature store {path} has shards of different widths: {_fix(path)}")
    labels = np.concatenate(parts)
    names = tuple(written.name for written in manifest)
    return FeatureStore(path, (len(labels), widths.pop()), labels, meta["provenance"], reused, names)


def _fix(path: Path) -> str:
    return f"delete the folder {path} and extract again."


def _rows_in(file: Path, path: Path, written: Entry | None = None) -> Rows:
    """The rows of a store's shard. Raises DataError if they are missing, damaged or not those that were written."""
    try:
        content = file.read_bytes()
        if written is not None and hashlib.sha256(content).hexdigest() != written.sha256:
            raise ValueError("its checksum differs")
        rows = read_shard(content)
        if written is not None and len(rows.labels) != written.rows:
            raise ValueError("it has other rows")
    except (OSError, ValueError):
        raise _damage_of(file, path) from None
    return rows


def _read_meta(path: Path) -> dict[str, Any]:
    """store.json, whose provenance is intact if its key is the folder's name. Raises DataError otherwise."""
    damaged = _damage_of(path / "store.json", path)
    try:
        meta: dict[str, Any] = read_json(path / "store.json")
        known, sums = meta["format"] in (first_format.FORMAT, FORMAT), meta["sha256"]
        intact = known and isinstance(sums, dict) and key_of(meta["provenance"]) == path.resolve().name
    except (DataError, OSError, KeyError, TypeError, ValueError):  # JSON, but not what we wrote
        raise damaged from None
    if not known:
        raise DataError(f"The feature store {path} has format {meta['format']}, not {FORMAT}: {_fix(path)}")
    if not intact:
        raise damaged
    return meta


def _read_manifest(path: Path, sha256: object) -> list[Entry]:
    """Its shards. Raises DataError unless they are all rows from the first to the last, as they were written."""
    try:
        intact = sha256_of(path / MANIFEST) == sha256
        listed = [Entry(**shard) for shard in read_json(path / MANIFEST)["shards"]]
        start = 0
        for written in listed:
            intact = intact and written.rows > 0 and written.name == Shard(start, start + written.rows).name
            start += written.rows
    except (DataError, OSError, KeyError, TypeError, ValueError):
        raise _damage_of(path / MANIFEST, path) from None
    if not intact or not listed:
        raise _damage_of(path / MANIFEST, path)
    return listed


def _damage_of(file: Path, path: Path) -> DataError:
    return DataError(f"The feature store's {file} is missing or damaged: {_fix(path)}")


# Extracting.


def _extract(extraction: Extraction, engine: Engine, provenance: dict[str, Any], path: Path) -> None:
    """Fill `<path>.partial`, then rename it to path."""
    partial = extraction.folder
    partial.mkdir(parents=True, exist_ok=True)
    written = _fill(extraction, engine, f"extract {extraction.extractor.name} {provenance.get('split', '')}".strip())
    _remove_all_but([shard.name for shard in written], partial)
    write_manifest(partial, written)
    sums = {MANIFEST: sha256_of(partial / MANIFEST)}
    write_json(partial / "store.json", {"format": FORMAT, "provenance": provenance, "sha256": sums})
    partial.replace(path)


def _fill(extraction: Extraction, engine: Engine, title: str) -> list[Entry]:
    """Have the missing shards extracted; all of them, in the order of their rows."""
    shards = extraction.shards()
    found = {written.name: written for shard in shards for written in _there(extraction, shard)}
    missing = [shard for shard in shards if shard.name not in found]
    if found:
        say(f"Resuming {extraction.folder.name}: {len(found):,} of {len(shards):,} shards are there.")
    done = sum(written.rows for written in found.values())
    with progress(title, len(extraction.labels), "images", done) as bar:
        for written in engine.extract(extraction, missing, bar.advance):
            found[written.name] = written
    return [found[shard.name] for shard in shards]


def _there(extraction: Extraction, shard: Shard) -> Iterator[Entry]:
    """The shard, if it was written by an earlier run, and is of these rows."""
    try:
        content = (extraction.folder / shard.name).read_bytes()
        rows = read_shard(content)
    except (OSError, ValueError):
        return
    labels = extraction.labels[shard.start : shard.stop]
    if rows.features.shape[1] == extraction.extractor.features and np.array_equal(rows.labels, labels):
        yield Entry(shard.name, len(labels), hashlib.sha256(content).hexdigest())


def _remove_all_but(names: list[str], folder: Path) -> None:
    """What killed runs, or those of an earlier version, left behind."""
    for path in folder.iterdir():
        if path.name in names:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
