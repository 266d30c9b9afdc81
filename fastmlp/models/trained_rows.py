"""Which rows a model was trained on, and which rows of the same table were held out, kept beside it as hashes.

Rows are told by their numbers as float32, so that the same rows are known again in another file, dtype or order.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_bytes

from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import read_safetensors, write_bytes
from fastmlp.features.tables import RowArray

NAME = "rows.safetensors"  # in the model's folder
BLOCK = 2**16  # numbers at a time: they stay in a cache, and in memory that the process has already

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


def row_hashes(X: RowArray) -> Hashes:
    """A hash (n,) of each row of X (n, ...): equal for rows that are equal as float32."""
    width = math.prod(X.shape[1:])
    keys = np.random.PCG64(0).random_raw(width) | np.uint64(1)
    rows, hashes = max(1, BLOCK // width), np.empty(len(X), np.uint64)
    mixed = MIXED_BYTES.__getitem__ if X.dtype == np.uint8 else _mixed_numbers  # of pixels, three times as fast
    for start in range(0, len(X), rows):
        block = X[start : start + rows]
        hashes[start : start + rows] = mixed(block.reshape(len(block), -1)) @ keys
    return hashes


def _mixed_numbers(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """Of each number, as float32, its bits mixed."""
    with np.errstate(over="ignore"):  # a number beyond float32 is refused where the rows are used
        narrow = numbers.astype(np.float32) + np.float32(0)  # which makes -0 of 0
    return _mixed(narrow.view(np.uint32)).astype(np.uint64)


def _mixed(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The bits of each number spread over all 32 (a round of Mueller's integer hash, which no two numbers share)."""
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x45D9F3B)
    return bits ^ (bits >> np.uint32(16))


MIXED_BYTES = _mixed_numbers(np.arange(256))


def digests(hashes: Hashes, labels: Places) -> dict[str, Any]:
    """What tells rows of these hashes (n,) and labels (n,) from others.

    count; rows: a digest of the rows and their labels, in any order; labels: one of the labels alone, in their order,
    which other features of the same things share.
    """
    labels = labels.astype(np.int64)
    order = np.lexsort((labels, hashes))
    together = hashes[order].tobytes() + labels[order].tobytes()
    rows, alone = (hashlib.sha256(content).hexdigest()[:16] for content in (together, labels.tobytes()))
    return {"count": len(labels), "rows": rows, "labels": alone}


@dataclass(frozen=True)
class TrainedRows:
    """Hashes (n,), sorted, of the rows that a model was trained on; where rows of the same table were held out, their
    places (h,) in it, in order, and their hashes (h,).
    """

    trained: Hashes
    held_out: Places
    held_out_hashes: Hashes

    @classmethod
    def of(cls, X: RowArray, kept: Places | None = None, held_out: Places | None = None) -> TrainedRows:
        """Of a table X (n, ...), the places of the rows that were trained on (None: all) and held out (None: none)."""
        hashes, places = row_hashes(X), np.empty(0, np.int64) if held_out is None else held_out
        return cls(np.sort(hashes if kept is None else hashes[kept]), places, hashes[places])

    def save(self, folder: Path) -> None:
        write_bytes(folder / NAME, to_bytes(vars(self)))

    @classmethod
    def load(cls, folder: Path) -> TrainedRows | None:
        """What `save` wrote, None if there is nothing; DataError if it is damaged."""
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            loaded = cls(**read_safetensors(path)[1])
            loaded._check()
        except (ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}): train the model again.") from None
        return loaded

    def _check(self) -> None:
        if [array.dtype.kind for array in vars(self).values()] != ["u", "i", "u"]:
            raise ValueError("it has other arrays")
        if self.held_out.shape != self.held_out_hashes.shape or self.held_out.min(initial=0) < 0:
            raise ValueError("its held-out rows are not sound")

    def count(self, hashes: Hashes) -> int:
        """How many rows of these hashes (n,) equal rows that were trained on."""
        places = np.searchsorted(self.trained, hashes).clip(max=len(self.trained) - 1)
        return int(np.count_nonzero(self.trained[places] == hashes))

    def held_out_of(self, X: RowArray, place: object) -> Places:
        """The places of the rows of X, read from that place, that were held out; UsageError if there are none."""
        if not len(self.held_out):
            raise UsageError("Of the rows that the model was trained on none were held out: leave --held-out out.")
        reaches = len(X) > self.held_out[-1]
        if not reaches or (row_hashes(X[self.held_out]) != self.held_out_hashes).any():
            raise UsageError(
                f"{place} does not have the model's held-out rows in the places where they were: give the file that it "
                "was trained on, or leave --held-out out."
            )
        return self.held_out
