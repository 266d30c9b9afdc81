"""Atomic files, written to a temporary path and then renamed, so that they are whole or absent; locks on folders."""

import errno
import hashlib
import itertools
import json
import os
import shlex
import socket
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fastmlp.common.errors import DataError, FastMLPError, UsageError, first_line
from fastmlp.common.progress import warn

TEMPORARY = ".fastmlp.tmp"  # suffix of unfinished files, which a killed process leaves behind
LOCK = ".fastmlp.lock"
WILDCARDS, SCHEME = "*?[", "://"
PROBE_BYTES = 1_000_000
BLOCK_BYTES = 2**24  # of an array, written or hashed at a time
BFLOAT16 = "BF16"  # as safetensors calls it
LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of file systems without locks


# Writing and reading.


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it once the block ends without an error.

    Its bytes are on disk before its name is, so not even a power cut leaves half a file under that name. If `path` is a
    link, its target is replaced. Raises UsageError if that is a pipe, a device or a folder.
    """
    path = _destination(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not name it
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _destination(path: Path) -> Path:
    """The path with links resolved: /dev/stdout is a link, and must stay one."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a regular file, and would be replaced by one: choose another path.")
    return Path(os.path.realpath(path))


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_array(path: Path, array: Any) -> None:
    """A .npy file that others map, written a block of rows at a time."""
    import numpy as np  # here, because most commands that use this module do without

    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in _blocks(array):
            file.write(block)


def hash_array(digest: Any, array: Any) -> None:
    """Add an array's type, shape and numbers to a hash of hashlib."""
    digest.update(repr((array.dtype.str, array.shape)).encode())
    for block in _blocks(array):
        digest.update(block)


def _blocks(array: Any) -> Iterator[memoryview]:
    """The bytes of an array, some rows at a time: it may lie in a file, or have gaps."""
    import numpy as np

    rows = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield np.ascontiguousarray(array[start : start + rows]).data


def write_json(path: Path, value: Any) -> None:
    write_text(path, to_json(value) + "\n")


def to_json(value: Any) -> str:
    """A JSON document. Raises ValueError for NaN, which JSON does not have."""
    return json.dumps(value, indent=2, allow_nan=False)


def is_file(path: Path) -> bool:
    """Whether a file can be reached there: unlike Path's own, without an error for links in a circle, or long names."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    return os.path.isdir(path)  # noqa: PTH112


def has_wildcards(path: object) -> bool:
    """Whether it looks like a glob."""
    return any(sign in str(path) for sign in WILDCARDS)


def is_url(text: str) -> bool:
    return SCHEME in text


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises DataError if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the step that writes it first.") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): check that it is a file which you may read."
        ) from None
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise DataError(f"{path} is damaged ({error}): delete it and run the step that wrote it again.") from None


def safetensors_dimensions(path: Path) -> dict[str, int]:
    """How many dimensions each array of a .safetensors file has. Raises a one-line ValueError if it is damaged."""
    with _opened_safetensors(path) as file:
        return {name: len(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a dict)


def read_safetensors(path: Path, names: Iterable[str] | None = None) -> tuple[dict[str, str], dict[str, Any]]:
    """Metadata and NumPy arrays of a .safetensors file; bfloat16, which NumPy lacks, is widened to float32, exactly.

    names: the arrays to read; None: all.

    Raises a one-line ValueError if the file is damaged or has other types that NumPy lacks. safetensors itself bounds
    the header by the length of the file and 100 MB, and keeps tensors within the file.
    """
    with _opened_safetensors(path) as file:
        dtypes = {name: file.get_slice(name).get_dtype() for name in (file.keys() if names is None else names)}
        tensors = {name: _tensor(file, name, dtype) for name, dtype in dtypes.items() if dtype != BFLOAT16}
        metadata = file.metadata() or {}
    short = [name for name, dtype in dtypes.items() if dtype == BFLOAT16]
    return metadata, tensors | (_widened_tensors(path, short) if short else {})


@contextmanager
def _opened_safetensors(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, ImportError) as error:
        raise ValueError(first_line(error)) from None


def _tensor(file: Any, name: str, dtype: str) -> Any:
    try:
        return file.get_tensor(name)
    except (TypeError, AttributeError):
        raise ValueError(f"{name!r} is of type {dtype}, which NumPy lacks; convert it to float32") from None


def _widened_tensors(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The bfloat16 tensors of those names of a .safetensors file as float32."""
    import numpy as np  # here, because most commands that use this module do without
    from safetensors import deserialize

    found = dict(deserialize(path.read_bytes()))
    return {name: widened(np.frombuffer(found[name]["data"], "<u2")).reshape(found[name]["shape"]) for name in names}


def widened(bits: Any) -> Any:
    """Numbers of bfloat16, given as uint16, as float32, whose upper 16 bits they are."""
    import numpy as np

    return (bits.astype(np.uint32) << 16).view(np.float32)


def cache_dir() -> Path:
    """Where downloads are kept: $FASTMLP_CACHE_DIR, or fastmlp's folder in the user's cache."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("FASTMLP_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else user_cache_path("fastmlp", appauthor=False)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# One process at a time.


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Create and lock the output folder, and delete half-written files in it.

    A run that fails before it writes leaves no folder that was not there. Raises OSError if it cannot be written (now,
    not after hours of work), FastMLPError if another process is writing in it.
    """
    fix = "wait for it to end, or choose another --out"
    with _created(folder), locked(folder / LOCK, f"writing in {folder}", fix):
        _probe(folder)
        for leftover in _leftovers(folder):
            leftover.unlink()
        yield


@contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create the folder and those above it; if the block fails, remove those of them that are empty again."""
    missing = list(itertools.takewhile(lambda place: not is_folder(place), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # it holds something, or was not made
                place.rmdir()
        raise


def _leftovers(folder: Path) -> list[Path]:
    """Half-written files in it, but for those in folders within that are claimed by themselves."""
    inner = {path.parent for path in folder.rglob(LOCK)} - {folder}
    return [path for path in folder.rglob(f".*{TEMPORARY}") if inner.isdisjoint(path.parents)]


def _probe(folder: Path) -> None:
    """Raise OSError if no file fits into the folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        error.filename = str(folder)
        raise


@contextmanager
def locked(path: Path, doing: str, fix: str | None = None) -> Iterator[None]:
    """Let one process at a time into the blocks that lock the file `path`, which exists only while one is inside.

    Other processes say who is inside, `doing` what, and wait; with a `fix`, they raise FastMLPError instead. The lock
    (flock) is released by the system when its holder ends: a file left behind by a killed process locks nothing. Raises
    OSError if the file cannot be written. On Windows, which has no flock, nothing is locked.
    """
    if sys.platform == "win32":
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _lock(path, doing, fix)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, _myself().encode(errors="replace"))
        yield
    finally:
        with suppress(OSError):  # an unlocked file is harmless
            path.unlink(missing_ok=True)
        os.close(handle)


def _lock(path: Path, doing: str, fix: str | None) -> int:
    """A handle of the locked file at path."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _lock_handle(handle, path, doing, fix)
            if _is_of(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder removed the file in the meantime


def _lock_handle(handle: int, path: Path, doing: str, fix: str | None) -> None:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 1000, 0).decode(errors="replace") or "it has only begun"
        if fix is not None:
            raise FastMLPError(f"Another process is {doing} ({holder}): {fix}.") from None
        warn(f"Another process is {doing}: waiting for it ({holder}).")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        warn(f"{path.parent} cannot be locked ({error.strerror}): let no other process write there meanwhile.")


def _is_of(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _myself() -> str:
    """A description of this process, for people who must decide whether to wait for it or to end it."""
    program, *arguments = sys.argv or ["python"]
    command = shlex.join([Path(program).name, *arguments])
    return f"process {os.getpid()} on {socket.gethostname()}: {textwrap.shorten(command, 200)}"
