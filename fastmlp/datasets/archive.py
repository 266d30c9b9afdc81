"""Unpacks known files from a tar archive, and nothing else: safe for archives of unknown origin."""

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from fastmlp.common.errors import DataError, first_line

# What gzip and tarfile raise for damaged bytes; the last four escape tarfile's reading of extended headers.
DAMAGE = (
    *(tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error),
    *(ArithmeticError, LookupError, ValueError, RecursionError),
)
MOST_BESIDES = 1 << 24  # bytes in an archive besides the wanted files: a bomb holds far more


def unpack(archive: Path, folder: Path, sizes: Mapping[str, int]) -> None:
    """Create `folder` from the archive's members FOLDER/NAME, each a regular file of exactly sizes[NAME] bytes.

    Other members are skipped, no path in the archive is used as a path on disk, and the folder appears whole or not at
    all. Little more than the wanted files is ever decompressed. Raises DataError if a member is missing or not as
    expected, or if the archive is damaged.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            new_folder = Path(scratch, folder.name)
            new_folder.mkdir()
            _copy_members(archive, new_folder, dict(sizes))
            _put(new_folder, folder)
    except DAMAGE as error:
        raise DataError(f"{archive} is damaged ({first_line(error)}): delete it and download it again.") from error
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written ({error.strerror or error}): make room there, or name another folder in "
            "FASTMLP_CACHE_DIR."
        ) from error


def _copy_members(archive: Path, folder: Path, wanted: dict[str, int]) -> None:
    most = sum(wanted.values()) + MOST_BESIDES
    with _Limited(archive, most) as content, tarfile.open(fileobj=content, mode="r|") as members:
        for member in members:
            name = member.name.removeprefix(f"{folder.name}/")
            if name == member.name or name not in wanted:
                continue
            if not member.isreg() or member.size != wanted.pop(name):
                raise DataError(
                    f"{archive}: {member.name} is not the expected file: delete the archive and download it again."
                )
            _copy(members, member, folder / name)
    if wanted:
        raise DataError(f"{archive} lacks {', '.join(sorted(wanted))}: download it again.")


def _copy(members: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = members.extractfile(member)
    assert source is not None  # a regular file
    with source, path.open("xb") as target:
        shutil.copyfileobj(source, target)


def _put(new_folder: Path, folder: Path) -> None:
    try:
        new_folder.replace(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise


class _Limited(gzip.GzipFile):
    """The decompressed bytes of an archive. Raises DataError if there are more than `most`."""

    def __init__(self, archive: Path, most: int) -> None:
        super().__init__(archive, "rb")
        self._archive, self._left = archive, most

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._archive} unpacks to far more than expected: delete it and download it again.")
        return content
