"""Stores of the first format, which are read and no longer written: features.npy and labels.npy in their folder."""

from __future__ import annotations

import io
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.files import read_json, sha256_of

FORMAT = 1
FILES = ("features.npy", "labels.npy")
HEADER_BYTES = 256  # longer than the header of a .npy file with one or two dimensions


def check(path: Path, fix: str) -> None:
    """Raise DataError, which ends with fix, unless the files are those that store.json tells of, if there is one."""
    meta = path / "store.json"
    if meta.is_file():
        about = read_json(meta)
        _check_sums(path, about.get("sha256") if isinstance(about, dict) else None, fix)


def _check_sums(path: Path, sums: Any, fix: str) -> None:
    for name in FILES:
        if not isinstance(sums, dict) or not _is_intact(path / name, sums.get(name)):
            raise DataError(f"The feature store's {path / name} is missing or damaged: {fix}")


def read(path: Path, sums: Any, fix: str) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """The shape of the features, and the labels; checksums verified. Raises DataError, which ends with fix."""
    _check_sums(path, sums, fix)
    features, labels = features_in(path, fix), _mapped(path / "labels.npy", "<i8", fix)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataError(f"The feature store {path} does not have features (n, d) with labels (n,): {fix}")
    return features.shape, np.array(labels)


def features_in(path: Path, fix: str) -> NDArray[Any]:
    """The features, memory-mapped."""
    return _mapped(path / "features.npy", "<f4", fix)


def _mapped(file: Path, dtype: str, fix: str) -> NDArray[Any]:
    """The array in a .npy file that we wrote, read on demand; any other header is not even parsed."""
    with file.open("rb") as content:
        start, size = content.read(HEADER_BYTES), content.seek(0, os.SEEK_END)
    found = re.search(rb"'shape': \((\d{1,18}), ?(\d{1,18})?\)", start)
    shape = tuple(int(number) for number in found.groups() if number) if found else ()
    header = _npy_header(shape, dtype)
    if 0 < math.prod(shape) * np.dtype(dtype).itemsize == size - len(header) and start.startswith(header):
        return np.memmap(file, dtype, "r", len(header), shape)
    raise DataError(f"The feature store's {file} is not an array of {dtype} numbers: {fix}")


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """The header of a .npy file with an array of this shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _is_intact(file: Path, sha256: object) -> bool:
    try:
        return sha256_of(file) == sha256
    except OSError:
        return False
