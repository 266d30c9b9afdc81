"""A stand-in for a GPU: the same sources, compiled for this CPU by g++ and run by `emulation.cpp`, under sanitizers."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fastmlp.common.errors import BackendError

from .driver import MOST_ACROSS, Device, Driver, Launch, LaunchRefusedError, Program, Recording, Size
from .sources import FOLDER, define, kernels, source

FLAGS = ("-std=c++17", "-g1", "-fPIC", "-DEMULATION")
KERNEL = (
    "-O1",
    "-shared",
    "-fno-gnu-unique",  # each has its own kernel of that name
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-ftrivial-auto-var-init=pattern",
    "-Wl,-Bsymbolic-functions",
)
SANITIZED = (
    "-fsanitize=address,undefined",
    "-fsanitize-recover=address,undefined",
    "-fno-sanitize=null,vptr,object-size,pointer-overflow",  # found by the address sanitizer anyway, in half the time
)
RACES = (  # whose functions are ours, see races.h
    "-fsanitize=thread",
    "--param=tsan-distinguish-volatile=1",
    "--param=tsan-instrument-func-entry-exit=0",
    "-nodefaultlibs",  # not the sanitizer's
)
ENGINES = {  # what runs the kernels of each build
    SANITIZED: ("-DRACES=0",),
    RACES: ("-DRACES=1", "-fno-gnu-unique"),  # shares no variable with a library built otherwise
}
LIBRARIES = ("-lstdc++", "-lm", "-lgcc_s", "-lgcc", "-lc", "-ldl")
ENGINE = "emulation.cpp"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-function")
SHADOW = (0x7FFF7000, 0x10007FFF8000)  # the address sanitizer's shadow memory, on x86-64 Linux
CRASH = "a crash"  # of the child process that searches for races: the sanitizers say why
SIZES = ("INPUTS", "HIDDEN", "CLASSES", "BATCH")  # options that are a network's, as other kernels' arguments have them
POISONED = 2**26  # bytes of an array at most: gigabytes would take memory that nothing else touches
ZONE = 256  # guard bytes before and after a device array, which no kernel may touch
H100 = Device("emulated H100", 90, 132, 232_448)


def compiler() -> str:
    """The path of g++. Raises BackendError if there is none."""
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        raise BackendError("Kernels cannot be emulated without a C++ compiler: install g++.")
    return found


class _Dim3(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", _Dim3),
        ("block", _Dim3),
        ("shared_bytes", ctypes.c_size_t),
        ("cluster", ctypes.c_uint),
        ("cooperative", ctypes.c_bool),
        ("seed", ctypes.c_uint),
    )


_RUNNING = Lock()  # what runs kernels has one grid at a time
_WITHOUT_RACES: set[Hashable] = set()  # launches that were searched for them, see `_alike`


class EmulatedDriver(Driver):
    """Runs kernels on this CPU, one launch after the other, each with its threads in a random order that `seed` sets.

    Device arrays are NumPy arrays. Every launch is checked: the types and order of its arguments, that arrays are
    contiguous and, where the kernel writes, writable, and everything that `emulation.cpp` checks; of launches that are
    alike, the first in a process for races, by `races.h`. Raises RuntimeError for errors that a GPU would not report,
    and TypeError for arguments of wrong types.
    """

    def __init__(self, device: Device = H100, seed: int = 1) -> None:
        self.device, self.seed = device, seed
        self.largest_cluster = 16
        self._recording = Recording()  # what runs each launch
        self.load = cache(self.load)  # type: ignore[method-assign]

    def load(self, program: Program) -> Launch:
        kernel = _Kernel(program, SANITIZED)

        def launch(grid: Size, block: Size, arguments: Sequence[Any]) -> None:
            self._check(program, grid, block)
            pointers, kept = _pointers(program, kernel.types, arguments)
            like = _alike(program, grid, block, arguments)
            run = partial(self._run, kernel, like, pointers, (kept, arguments), _dim3(grid), _dim3(block))
            if self._recording.launches is None:
                run()
            else:
                self._recording.launches.append(run)

        return launch

    def _run(self, *launch: Any) -> None:
        with _RUNNING:
            self._run_alone(*launch)

    def _run_alone(self, kernel: _Kernel, like: Any, pointers: Any, _kept: Any, grid: _Dim3, block: _Dim3) -> None:
        self.seed += 1
        program = kernel.program
        shape = _Launch(grid, block, program.shared_memory, program.cluster, program.cooperative, self.seed)
        race = ""
        if like not in _WITHOUT_RACES:
            race = _Kernel(program, RACES).run(pointers, shape)  # in a child process: nothing changes here
        if not race:
            _WITHOUT_RACES.add(like)
        failure = race if race not in ("", CRASH) else kernel.run(pointers, shape) or race
        if failure:
            raise RuntimeError(f"{program.kernel}: {failure}")

    def _check(self, program: Program, grid: Size, block: Size) -> None:
        threads, blocks = int(np.prod(block)), int(np.prod(grid))
        if not 0 < threads <= 1024 or blocks <= 0:
            raise RuntimeError(f"{program.kernel}: {blocks} blocks of {threads} threads cannot be launched")
        if max(grid[1:], default=0) > MOST_ACROSS:
            raise LaunchRefusedError(f"{program.kernel}: a grid of {grid} blocks is too large")
        if program.shared_memory > self.device.shared_memory:
            raise RuntimeError(f"{program.kernel}: {program.shared_memory} bytes of shared memory are too many")
        if program.cluster > self.largest_cluster:
            raise LaunchRefusedError(f"{program.kernel}: a cluster of {program.cluster} blocks is too large")
        together = blocks if program.cooperative else program.cluster
        if together > 1 and together > self.blocks_at_once(program, threads):
            raise RuntimeError(f"{program.kernel}: {together} blocks that wait for one another do not run at once")

    def blocks_at_once(self, program: Program, threads: int) -> int:
        each = min(2048 // threads, self.device.shared_memory // max(program.shared_memory, 1))
        return each * self.device.multiprocessors // program.cluster * program.cluster

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def to_host(self, array: Any) -> Any:
        return np.asarray(array)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Like a CUDA graph: only the launches, with the addresses and numbers passed while recording."""
        launches: list[Callable[[], None]] = []
        self._recording.launches = launches
        try:
            work()
        finally:
            self._recording.launches = None

        def repeat() -> None:
            for launch in launches:
                launch()

        return repeat


def _alike(program: Program, grid: Size, block: Size, arguments: Sequence[Any]) -> Hashable:
    """What two launches share that have the same races: the steps of their threads, but not the type of their numbers.

    A program's whole numbers shape its steps, apart from a network's sizes; one without these goes by its arguments'.
    """
    options = dict(option.removeprefix("-D").split("=", 1) for option in program.options)
    steps = frozenset((name, value) for name, value in options.items() if value.isdecimal() and name not in SIZES)
    sizes = () if options.keys() & set(SIZES) else tuple(getattr(each, "shape", ()) or each for each in arguments)
    return program.file, program.kernel, steps, block, len(sizes) and grid, sizes


def guarded(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of NaN, or -1, between two guard zones: a kernel that reads or writes there fails its launch."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    whole = -(-size // 8) * 8
    memory = np.empty(whole + 2 * ZONE + 8, np.uint8)
    memory[:POISONED] = 0xFF
    start = ZONE + -memory.ctypes.data % 8
    first = memory.ctypes.data + start
    for zone, length in ((first - ZONE, ZONE), (first + size, ZONE)):
        _sanitizer().__asan_poison_memory_region(ctypes.c_void_p(zone), ctypes.c_size_t(length))
        weakref.finalize(memory, _lay_open, zone, length)
    return memory[start : start + size].view(dtype).reshape(shape)


def _lay_open(zone: int, length: int) -> None:
    _sanitizer().__asan_unpoison_memory_region(ctypes.c_void_p(zone), ctypes.c_size_t(length))


def _sanitizer() -> ctypes.CDLL:
    """The address sanitizer's own functions, which every library compiled with it contains."""
    return _library("dense.cu", define(REAL="float"), SANITIZED)


def _dim3(size: Size) -> _Dim3:
    return _Dim3(*(*size, 1, 1)[:3])


def _ask(function: Any, *arguments: Any) -> str:
    buffer = ctypes.create_string_buffer(4096)
    function(*arguments, buffer, len(buffer))
    return buffer.value.decode()


def _pointers(program: Program, types: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A pointer to each argument, and the objects that must live as long as these pointers."""
    if len(arguments) != len(types):
        raise TypeError(f"{program.kernel} takes {len(types)} arguments, not {len(arguments)}")
    values: list[Any] = []
    for number, (kind, argument) in enumerate(zip(types, arguments, strict=True)):
        _check_type(f"argument {number} of {program.kernel}", kind, argument)
        value = ctypes.c_void_p(argument.ctypes.data) if kind.endswith("*") else np.atleast_1d(argument)
        values.append(value)
    addresses = [v.ctypes.data if isinstance(v, np.ndarray) else ctypes.addressof(v) for v in values]
    return (ctypes.c_void_p * len(addresses))(*addresses), values


def _check_type(what: str, kind: str, argument: Any) -> None:
    wanted = kind.removeprefix("const ").removesuffix("*")
    expected = np.ndarray if kind.endswith("*") else np.generic
    if not isinstance(argument, expected) or argument.dtype.name != wanted:
        found = f"{type(argument).__name__} of {getattr(argument, 'dtype', 'no dtype')}"
        raise TypeError(f"{what} must be {kind}, not {found}")
    if isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            raise RuntimeError(f"{what} has gaps between its rows")  # a GPU would take it for another array
        if not (kind.startswith("const") or argument.flags.writeable):
            raise TypeError(f"{what} is written to, but read-only")


class _Kernel:
    """A program's kernel in a library compiled for this CPU: see HOST_SIDE in `emulation.h`."""

    def __init__(self, program: Program, build: tuple[str, ...]) -> None:
        self.program, self.build = program, build
        self._library = _library(program.file, program.options, build)
        self.types = _ask(getattr(self._library, f"{program.kernel}_signature")).split(",")  # of its arguments

    def run(self, pointers: Any, launch: _Launch) -> str:
        """An empty string, or what went wrong."""
        failure = _ask(getattr(self._library, f"{self.program.kernel}_launch"), pointers, ctypes.byref(launch))
        return re.sub(r"\[(\d+)\]", lambda found: self._line(int(found[1])), failure)

    def _line(self, address: int) -> str:
        """The line of the source whose code is there, in quotes."""
        command = ["addr2line", "-i", "-e", self._library._name, hex(address)]
        frames = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        number = re.search(r"<stdin>:(\d+)", frames)
        lines = source(self.program.file, self.program.options).splitlines()
        return f"`{lines[int(number[1]) - 1].strip()}`" if number else "a line"


@cache
def _library(file: str, flags: tuple[str, ...], build: tuple[str, ...]) -> ctypes.CDLL:
    """The .cu file compiled for this CPU, with its kernels callable."""
    if build == SANITIZED:
        _check_shadow()
    text = "\n".join([source(file, flags), *(f"HOST_SIDE({kernel})" for kernel in kernels(file)), ""])
    options = (*KERNEL, *build, *flags)
    return ctypes.CDLL(str(_compiled(f"{Path(file).stem}.so", text, options, (str(_engine(build)), *LIBRARIES))))


@cache
def _engine(build: tuple[str, ...]) -> Path:
    """What runs kernels, for the libraries of that build: compiled once, and for no sanitizer."""
    return _compiled("emulation.o", (FOLDER / ENGINE).read_text(), ("-O2", "-c", *ENGINES[build]))


def _check_shadow() -> None:
    """Raise RuntimeError if another library occupies the address sanitizer's memory, which would end the process."""
    maps = Path("/proc/self/maps")
    taken = maps.read_text() if maps.is_file() else ""
    if "libasan.so" in taken:
        return
    for line in taken.splitlines():
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        if start < SHADOW[1] and end > SHADOW[0]:
            raise RuntimeError(
                "Another library occupies the address sanitizer's memory: start the emulation before loading it."
            )


def _compiled(name: str, text: str, options: Sequence[str], objects: Sequence[str] = ()) -> Path:
    """The text compiled, by now or before. Raises RuntimeError if that is not possible."""
    command = [compiler(), *FLAGS, *WARNINGS, *options]
    headers = [header.read_text() for header in sorted(FOLDER.glob("*.h"))]
    key = hashlib.sha256("\0".join([*command, *objects, text, *headers]).encode()).hexdigest()
    stem, _, kind = name.partition(".")
    path = Path(tempfile.gettempdir()) / f"fastmlp-emulation-{os.getuid()}" / f"{stem}-{key[:16]}.{kind}"
    if path.exists():
        return path
    path.parent.mkdir(mode=0o700, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}")
    here = (f"-I{FOLDER}", f"-ffile-prefix-map={FOLDER}/=")  # what is compiled is the same from any checkout
    made = subprocess.run(
        [*command, *here, "-x", "c++", "-", "-o", str(beside), "-x", "none", *objects],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise RuntimeError(f"{path.stem} does not compile:\n{made.stderr}")
    return beside.replace(path)
