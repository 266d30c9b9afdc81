"""Rows of shards that are too many for memory: read a window at a time, over and over again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.features.row_files import Index
from fastmlp.features.sharded_rows import Shard, ShardedRows
from fastmlp.network.scaling import Scaling

BLOCKS = 256  # of which a window is made of at least: as few rows as are read together, so that windows are well mixed
BLOCK_BYTES = 2**20  # of features, at most: a larger block is read no faster
ROW_STATE = 96  # bytes of every row beside its features: labels, weights, hashes, orders, and copies as they are made
ORDER = 8  # bytes of a row's place in the order of one seed
PARTS = 4  # of a file that is read by parts: two are kept, and one is unpacked, which takes up to twice its size
WINDOWS = 3  # that fit into memory: one is computed on, one is being filled; the third is for what else is held
LEAST_ROWS = 16  # of a window


@dataclass(frozen=True)
class StreamedRows:
    """Features (n, d) of shards, of which no more than window_rows are held at a time; read where they are indexed.

    rows: those of the shards that are meant, in order; None: all. The order of windows is drawn from the seed.
    Threads may share it.
    """

    source: ShardedRows
    window_rows: int
    seed: int
    rows: Index | None = None

    ndim = 2

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.source.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.source) if self.rows is None else len(self.rows)

    def __getitem__(self, places: int | slice | Index) -> NDArray[Any]:
        if self.rows is None:
            return self.source[places]
        return self.source[self.rows[places]]

    def read(self, places: Index, out: NDArray[Any], scaling: Scaling | None = None) -> None:
        """See `ShardedRows`."""
        self.source.read(places if self.rows is None else self.rows[places], out, scaling)

    @property
    def in_place(self) -> bool:
        """Whether all rows are read where they lie, and none is unpacked."""
        return all(shard.file.parts is None for shard in self.source.shards)

    def take(self, places: Index) -> StreamedRows:
        """Only those rows; nothing is read."""
        return replace(self, rows=places if self.rows is None else self.rows[places])

    def place_of(self, place: int) -> tuple[int, object]:
        """See `ShardedRows`."""
        return self.source.place_of(place if self.rows is None else int(self.rows[place]))

    def borders(self) -> Index:
        """The first row of each block that is read together, and the end of the last (b + 1,)."""
        rows = max(1, min(self.window_rows // BLOCKS, BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize)))
        starts = []
        for shard in self.source.shards:
            parts = shard.file.parts
            inside = np.arange(0, shard.rows, rows) if parts is None else parts[:-1]
            starts.append(shard.start + inside)
        borders = np.unique(np.append(np.concatenate(starts), len(self.source)))  # a row group may have no row
        return borders if self.rows is None else np.unique(np.searchsorted(self.rows, borders))


def chained(parts: Sequence[StreamedRows]) -> StreamedRows:
    """All rows of parts with the same windows and seed, one part after the other; nothing is read."""
    shards, rows, start = list[Shard](), list[Index](), 0
    for part in parts:
        shards += [replace(shard, start=start + shard.start) for shard in part.source.shards]
        rows.append(start + (np.arange(len(part)) if part.rows is None else part.rows))
        start += len(part.source)
    whole = all(part.rows is None for part in parts)
    return replace(parts[0], source=ShardedRows(shards), rows=None if whole else np.concatenate(rows))


def window_rows(
    memory: int, rows: int, width: int, itemsize: int, seeds: int = 1, part: int = 0, least: int = 0, copies: int = 1
) -> int | None:
    """How many of so many rows, of width numbers of itemsize bytes, a window has where that much memory may be held.

    seeds: from which networks train beside each other, each in an order of its own. part: rows of the largest part of a
    file that is only read whole, 0 where there is none; least: of those that are trained on, which a window must hold.
    None: all rows fit, beside so many copies of them, of which one is standardised. Raises UsageError if there is no
    room for so many, or a few.
    """
    row = width * itemsize
    for_all = rows * ((1 + copies) * row + ROW_STATE)
    if for_all <= memory:
        return None
    beside, each = rows * ROW_STATE + PARTS * part * row, WINDOWS * (row + ORDER * (seeds - 1))
    window, least = (memory - beside) // each, max(least, LEAST_ROWS)
    if window < least:
        enough = -(-min(for_all, beside + least * each) // 1000)
        fix = f", or save them in files or row groups of fewer than {part:,}" if part else ""
        raise UsageError(
            f"--memory is too little for {rows:,} rows of {width:,} features: give {enough:,}KB or more{fix}."
        )
    return window
