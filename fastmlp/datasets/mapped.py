"""Images in a file, of which only those that are asked for are in memory."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.files import cache_dir

Images = NDArray[np.uint8]

IMAGE_SHAPE = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32
BLOCK = 4096  # images that are read, hashed or copied at a time
MOST_IN_MEMORY = 2**26  # bytes of images


class MappedImages:
    """Images uint8 (n, 3, 32, 32) one after the other in a file, mapped for each read alone, so that no page stays.

    Indexed as a NumPy array, it reads those images. It keeps the file, which may lose its name. Threads may share it.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, file: _Held, n: int, offset: int = 0) -> None:
        self._file, self._offset = file, offset
        self.shape = (n, *IMAGE_SHAPE)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Images:
        return np.array(self._mapped()[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)

    def first(self, n: int) -> MappedImages:
        return MappedImages(self._file, min(n, len(self)), self._offset)

    def _mapped(self) -> Images:
        if not len(self):  # an empty file cannot be mapped
            return np.empty(self.shape, self.dtype)
        count = len(self) * IMAGE_BYTES
        mapped = mmap.mmap(self._file.number, self._offset + count, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self.dtype, count, self._offset).reshape(self.shape)


class _Held:
    """A file that is open as long as this object is there."""

    def __init__(self, file: IO[bytes]) -> None:
        self.number = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.number)


def opened(path: Path) -> Images | MappedImages:
    """The images in a .npy file, mapped if they are many. Raises OSError or ValueError if it is missing or damaged."""
    mapped = np.load(path, mmap_mode="r")
    with path.open("rb") as file:
        images = MappedImages(_Held(file), len(mapped), mapped.offset)
    return images[:] if _are_few(len(images)) else images


def _are_few(n: int) -> bool:
    return n * IMAGE_BYTES <= MOST_IN_MEMORY


def blocks(images: Images | MappedImages) -> Iterator[Images]:
    """The images, few at a time."""
    return (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))


def gathered(parts: Iterable[Images], n: int) -> Images | MappedImages:
    """The n images of all parts as one array; of many, in a temporary file, which is gone when they are."""
    if _are_few(n):
        return np.concatenate([np.empty((0, *IMAGE_SHAPE), np.uint8), *parts])
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache_dir()) as file:  # elsewhere temporary files may lie in memory
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return MappedImages(_Held(file), n)
