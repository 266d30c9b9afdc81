"""Extraction as a list of shards: each a range of rows, extracted by itself and written whole, or not at all.

A shard's file has its rows' features and labels, under a name that says which rows they are, in a folder whose name is
keyed by all else that shapes them. So whoever extracts it, whenever and however often, writes the same bytes under the
same name: what is missing is exactly the shards that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import FastMLPError
from fastmlp.extractors.base import Extractor
from fastmlp.features.shard_files import Entry, write_rows

SHARD_BATCHES = 32  # of the extractor: seconds of work, which is what a kill may cost
SHARD_BYTES = 2**26  # of features, at most, where one batch is not more than that


class Shard(NamedTuple):
    """The rows from start to before stop of one extraction."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        """Sorted by these names, shards are in the order of their rows."""
        return f"rows-{self.start:010}-{self.stop:010}.safetensors"


@dataclass(frozen=True)
class Extraction:
    """Images uint8 (n, 3, 32, 32) and labels int64 (n,), whose features an extractor gives, and the shards' folder."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    extractor: Extractor
    folder: Path

    def shards(self) -> list[Shard]:
        """All of them, in whole batches: a row's last bits may depend on its batch."""
        batch, rows = self.extractor.batch_size, len(self.labels)
        fitting = SHARD_BYTES // (4 * self.extractor.features * batch)
        size = batch * max(1, min(SHARD_BATCHES, fitting))
        return [Shard(start, min(start + size, rows)) for start in range(0, rows, size)]


class Engine(Protocol):
    """What extracts shards, here or on other machines, in any order."""

    def extract(
        self, extraction: Extraction, shards: Iterable[Shard], advance: Callable[[int], None]
    ) -> Iterator[Entry]:
        """Write the shards, and give each once it is written; advance is told of rows that are extracted."""


class Here:
    """The engine that extracts one shard after the other in this process."""

    def extract(
        self, extraction: Extraction, shards: Iterable[Shard], advance: Callable[[int], None]
    ) -> Iterator[Entry]:
        for shard in shards:
            yield extract_shard(extraction, shard, advance)


def extract_shard(extraction: Extraction, shard: Shard, advance: Callable[[int], None] = lambda rows: None) -> Entry:
    """Extract a shard's rows, batch by batch, and write its file."""
    extractor, rows = extraction.extractor, shard.stop - shard.start
    features, done = np.empty((rows, extractor.features), np.float32), 0
    for batch in extractor.batches(extraction.images[shard.start : shard.stop]):
        count = min(extractor.batch_size, rows - done)
        features[done : done + count] = _checked(batch, extractor, count)
        done += count
        advance(count)
    labels = np.asarray(extraction.labels[shard.start : shard.stop], np.int64)
    return write_rows(extraction.folder / shard.name, features, labels)


def _checked(features: NDArray[np.float32], extractor: Extractor, rows: int) -> NDArray[np.float32]:
    """The features. Raises FastMLPError unless there is one row per image, of the extractor's width."""
    shape = (rows, extractor.features)
    if features.shape != shape or features.dtype != np.float32:
        raise FastMLPError(
            f"Extractor {extractor.name} gives {features.dtype} {features.shape}, not float32 {shape}: fix its code."
        )
    return features


class Rows(NamedTuple):
    """Features float32 (n, d) and labels int64 (n,)."""

    features: NDArray[Any]
    labels: NDArray[Any]


def read_shard(content: bytes) -> Rows:
    """The rows in a shard's file. Raises ValueError for anything that `extract_shard` would not have written."""
    from safetensors import SafetensorError, deserialize

    try:
        found = {name: (tensor["dtype"], tensor["shape"], tensor["data"]) for name, tensor in deserialize(content)}
        (kind, (rows, width), features), (labels_kind, (labelled,), labels) = found["features"], found["labels"]
    except (SafetensorError, KeyError, ValueError):
        raise ValueError("it is not a shard of features and labels") from None
    if (kind, labels_kind, labelled) != ("F32", "I64", rows) or not rows * width:
        raise ValueError("it does not have features (n, d) with labels (n,)")
    return Rows(np.frombuffer(features, "<f4").reshape(rows, width), np.frombuffer(labels, "<i8"))
