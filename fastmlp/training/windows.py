"""The order of rows that are too many for memory: window by window, shuffled within each.

It is a shuffle as CorgiPile's (Xu et al., SIGMOD 2022): blocks of consecutive rows, in random order, fill one window
after the other, and the rows of each are shuffled. All is drawn on the host, from seeds and the epoch, so that every
backend and every resumed run takes the same batches. Where all rows fit into one window, it is the full shuffle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.randomness import Purpose, generator

Index = NDArray[np.int64]


def plan(seed: int, epoch: int, borders: Index, window_rows: int) -> list[Index]:
    """The blocks, in the order of their rows, of each window of an epoch; borders (b + 1,): of the blocks' rows.

    There are as few windows as hold all rows, or nearly so, and they are about equally large.
    """
    return _filled(generator(seed, Purpose.WINDOWS, epoch).permutation(len(borders) - 1), borders, window_rows)


def plan_in_order(borders: Index, window_rows: int) -> list[Index]:
    """The same, of blocks that are not shuffled."""
    return _filled(np.arange(len(borders) - 1), borders, window_rows)


def _filled(blocks: Index, borders: Index, window_rows: int) -> list[Index]:
    sizes, rows = np.diff(borders), int(borders[-1] - borders[0])
    aim = -(-rows // -(-rows // window_rows))  # of a window: as many rows as of the others
    windows: list[list[int]] = [[]]
    held = 0
    for block in blocks.tolist():
        if held >= aim or held + sizes[block] > window_rows:
            windows.append([])
            held = 0
        windows[-1].append(block)
        held += int(sizes[block])
    return [np.sort(np.array(window, np.int64)) for window in windows]


def rows_of(blocks: Index, borders: Index) -> Index:
    """The rows of these blocks."""
    sizes = borders[blocks + 1] - borders[blocks]
    ends = np.cumsum(sizes)
    return np.arange(ends[-1]) + np.repeat(borders[blocks] - ends + sizes, sizes)


@dataclass(frozen=True, eq=False)
class WindowedOrder:
    """An epoch's rows in order: the blocks of each window, which all seeds share, and a seed's shuffle within each."""

    windows: Sequence[Index]
    borders: Index
    seed: int
    epoch: int
    shuffle: bool = True

    def __len__(self) -> int:
        return int(self.borders[-1])

    @property
    def sizes(self) -> list[int]:
        """How many rows each window has."""
        sizes = np.diff(self.borders)
        return [int(sizes[blocks].sum()) for blocks in self.windows]

    def rows(self) -> Iterator[Index]:
        """Those of each window, ascending."""
        return (rows_of(blocks, self.borders) for blocks in self.windows)

    def shuffled(self) -> Iterator[Index]:
        """The places of the rows of each window among these, in the order to take them."""
        rng = generator(self.seed, Purpose.BATCH_ORDER, self.epoch)
        for size in self.sizes:
            yield rng.permutation(size) if self.shuffle else np.arange(size)
