"""The feature store: features, labels and provenance of one extraction, in a folder keyed by all that shaped them.

A store is written as `<key>.partial`, batch by batch, with a journal of the rows that are safely on disk, so a killed
extraction goes on where it stopped; finished and checksummed, it is renamed to `<key>`. `<key>.lock` keeps a second
process waiting meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError, FastMLPError, UsageError
from fastmlp.common.files import TEMPORARY, locked, read_json, sha256_of, write_json
from fastmlp.common.progress import progress, say
from fastmlp.extractors.base import Extractor

FORMAT = 1
FILES = ("features.npy", "labels.npy")
HEADER_BYTES = 256  # a .npy file's header of two numbers ends before
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
    """A readable name and a hash of everything in the provenance (JSON values, no NaN, no entry `format`)."""
    if "format" in provenance:
        raise UsageError("A provenance has no entry 'format', for that is the store's: name it otherwise.")
    content = {"format": FORMAT, **provenance}
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
) -> FeatureStore:
    """The store with that provenance under root: opened if it is there, else extracted, going on from a partial one.

    Raises DataError if a store is there but damaged, FastMLPError if root cannot be written, UsageError if the
    labels are not one integer an image.
    """
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise UsageError(f"{labels.dtype} labels {labels.shape} for {len(images):,} images: pass one integer an image.")
    provenance = {**provenance, "extractor": extractor.provenance()}
    path = root / key_of(provenance)
    reused = path.is_dir()
    if not reused:
        try:
            with locked(path.with_name(f"{path.name}.lock"), f"extracting {path.name}"):
                reused = path.is_dir()  # by now
                if not reused:
                    _extract(images, labels, extractor, provenance, path)
        except OSError as error:
            raise FastMLPError(
                f"The features cannot be written under {root} ({error.strerror or error}): make room there, or set "
                "FASTMLP_CACHE_DIR to another folder; the same command then goes on with what is done."
            ) from error
    store = open_store(path, provenance, reused)
    if store.features.shape != (len(images), extractor.features) or not np.array_equal(store.labels, labels):
        raise DataError(f"The feature store {path} is of other images: delete that folder and extract again.")
    return store


def open_store(path: Path, provenance: dict[str, Any] | None = None, reused: bool = True) -> FeatureStore:
    """A finished store, its checksums verified and, if given, its provenance compared; else DataError."""
    fix = f"delete the folder {path} and extract again."
    meta = _read_meta(path, fix)
    if provenance is not None and key_of(provenance) != key_of(meta["provenance"]):
        raise DataError(f"The feature store {path} was made from other data or by another extractor: {fix}")
    for name in FILES:
        if not _is_intact(path / name, meta["sha256"].get(name)):
            raise DataError(f"The feature store's {path / name} is missing or damaged: {fix}")
    features, labels = _mapped(path / "features.npy", "<f4", fix), _mapped(path / "labels.npy", "<i8", fix)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataError(f"The feature store {path} holds no features (n, d) with labels (n,): {fix}")
    return FeatureStore(path, features, np.array(labels), meta["provenance"], reused)


def _mapped(file: Path, dtype: str, fix: str) -> NDArray[Any]:
    """The array in a .npy file as we write it, read as it is needed; a header of others is not even parsed."""
    with file.open("rb") as content:
        start, size = content.read(HEADER_BYTES), content.seek(0, os.SEEK_END)
    found = re.search(rb"'shape': \((\d{1,18}), ?(\d{1,18})?\)", start)
    shape = tuple(int(number) for number in found.groups() if number) if found else ()
    header = _npy_header(shape, dtype)
    if 0 < math.prod(shape) * np.dtype(dtype).itemsize == size - len(header) and start.startswith(header):
        return np.memmap(file, dtype, "r", len(header), shape)
    raise DataError(f"The feature store's {file} is no array of {dtype} numbers: {fix}")


def _read_meta(path: Path, fix: str) -> dict[str, Any]:
    """store.json; its provenance is intact if it gives the folder's name."""
    damaged = DataError(f"The feature store's {path / 'store.json'} is missing or damaged: {fix}")
    try:
        meta: dict[str, Any] = read_json(path / "store.json")
        same_format, sums = meta["format"] == FORMAT, meta["sha256"]
        intact = same_format and isinstance(sums, dict) and key_of(meta["provenance"]) == path.resolve().name
    except (DataError, OSError, KeyError, TypeError, ValueError):  # JSON, but not what we wrote
        raise damaged from None
    if not same_format:
        raise DataError(f"The feature store {path} is of format {meta['format']}, not {FORMAT}: {fix}")
    if not intact:
        raise damaged
    return meta


def _is_intact(file: Path, sha256: object) -> bool:
    try:
        return sha256_of(file) == sha256
    except OSError:
        return False


# Extracting.


def _extract(
    images: NDArray[np.uint8], labels: NDArray[np.int64], extractor: Extractor, provenance: dict[str, Any], path: Path
) -> None:
    """Fill `<path>.partial`, then rename it to path."""
    partial = path.with_name(f"{path.name}.partial")
    if not (partial / "store.json").is_file():  # which is written last
        _fill(partial, images, extractor, f"extract {extractor.name} {provenance.get('split', '')}".strip())
        np.save(partial / "labels.npy", labels.astype(np.int64))
        sums = {name: sha256_of(partial / name) for name in FILES}
        write_json(partial / "store.json", {"format": FORMAT, "provenance": provenance, "sha256": sums})
    for leftover in (partial / "journal.json", *partial.glob(f".*{TEMPORARY}")):
        leftover.unlink(missing_ok=True)
    partial.replace(path)


def _fill(partial: Path, images: NDArray[np.uint8], extractor: Extractor, title: str) -> None:
    """Extract the rows that are missing, in the same batches as an unbroken run, journalling what is on disk."""
    header = _npy_header((len(images), extractor.features))
    done = _finished_rows(partial, header, len(images), extractor)
    if done:
        say(f"Going on with {partial.name} after {done:,} images.")
    else:
        _start_partial(partial, header)
    last_journal = time.monotonic()
    with (partial / "features.npy").open("r+b") as file, progress(title, len(images), "images", done) as bar:
        file.seek(len(header) + done * _row_bytes(extractor))
        try:
            for batch in extractor.batches(images[done:]):
                features = _checked(batch, extractor, min(extractor.batch_size, len(images) - done))
                file.write(features.data)
                done += len(features)
                bar.advance(len(features))
                if time.monotonic() - last_journal >= SECONDS_BETWEEN_JOURNALS:
                    _journal(partial, file, done)
                    last_journal = time.monotonic()
        finally:
            _journal(partial, file, done)


def _checked(features: NDArray[np.float32], extractor: Extractor, rows: int) -> NDArray[np.float32]:
    """The features, without gaps; FastMLPError unless there is one row an image, of the extractor's width."""
    shape = (rows, extractor.features)
    if features.shape != shape or features.dtype != np.float32:
        raise FastMLPError(
            f"Extractor {extractor.name} gives {features.dtype} {features.shape}, not float32 {shape}: fix its code."
        )
    return np.ascontiguousarray(features)


def _journal(partial: Path, file: BinaryIO, rows: int) -> None:
    """First the rows on disk, then the word that they are there."""
    file.flush()
    os.fsync(file.fileno())
    write_json(partial / "journal.json", {"rows": rows})


def _finished_rows(partial: Path, header: bytes, count: int, extractor: Extractor) -> int:
    """How many rows, in whole batches, an earlier run left safely on disk; 0 if what it left cannot be used."""
    try:
        rows = read_json(partial / "journal.json")["rows"]
        with (partial / "features.npy").open("rb") as file:
            same_header = file.read(len(header)) == header
            size = file.seek(0, os.SEEK_END)
    except (DataError, OSError, KeyError, TypeError):
        return 0  # killed before its first journal: start over
    if not same_header or not isinstance(rows, int) or not 0 <= rows <= count:
        return 0
    if not len(header) + rows * _row_bytes(extractor) <= size <= len(header) + count * _row_bytes(extractor):
        return 0
    return rows if rows == count else rows - rows % extractor.batch_size


def _row_bytes(extractor: Extractor) -> int:
    return extractor.features * np.dtype(np.float32).itemsize


def _npy_header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """How a .npy file of an array of this shape starts."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _start_partial(partial: Path, header: bytes) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "features.npy").write_bytes(header)
