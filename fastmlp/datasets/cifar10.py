"""CIFAR-10 (Krizhevsky 2009) in its official binary layout, which holds no pickles.

A record is 3,073 bytes: one label, then 32 rows of 32 red bytes, the green ones, the blue ones.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastmlp.datasets.base import IMAGE_SHAPE, Dataset, Split
from fastmlp.errors import DataError

FOLDER = "cifar-10-batches-bin"
TEST_FILE = "test_batch.bin"
META_FILE = "batches.meta.txt"
TRAIN_FILES = "data_batch_*.bin"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD_BYTES = 1 + 3 * 32 * 32


def load(data_dir: Path | None = None) -> Dataset:
    """CIFAR-10 out of `data_dir`, which is or holds cifar-10-batches-bin/."""
    if data_dir is None:
        raise DataError("CIFAR-10 was not found: pass its folder as --data-dir.")
    for folder in (data_dir / FOLDER, data_dir):
        if (folder / TEST_FILE).is_file():
            return read_folder(folder)
    raise DataError(f"{data_dir} holds no {FOLDER}/: pass the folder that does as --data-dir.")


def read_folder(folder: Path) -> Dataset:
    """The dataset in a folder of data_batch_*.bin and test_batch.bin."""
    train_paths = sorted(folder.glob(TRAIN_FILES))
    if not train_paths:
        raise DataError(f"{folder} holds no {TRAIN_FILES}: unpack the whole archive there.")
    return Dataset(
        "cifar10", _read_files(train_paths), _read_files([folder / TEST_FILE]), _class_names(folder / META_FILE)
    )


def _read_files(paths: Sequence[Path]) -> Split:
    records = np.concatenate([_read_records(path) for path in paths])
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, *IMAGE_SHAPE)
    return Split(images, records[:, 0].astype(np.int64))


def _read_records(path: Path) -> np.ndarray:
    """uint8 (n, 3073)."""
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise DataError(f"{path} is truncated: {len(content):,} bytes are no whole number of records.")
    return content.reshape(-1, RECORD_BYTES)


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(path.read_text().split()) if path.is_file() else ()
    return names if len(names) == len(CLASS_NAMES) else CLASS_NAMES
