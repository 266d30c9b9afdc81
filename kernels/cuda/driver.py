"""Drivers launch kernels: a GPU's driver through CuPy, or a stand-in with the same methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from threading import Lock, local
from typing import Any

from numpy.typing import NDArray

from fastmlp.common.clock import compiling

from .sources import Options, source

Array = Any  # an array on the device
Size = tuple[int, ...]  # of a grid, in blocks, or of a block, in threads

_COMPILING = Lock()

WARP = 32  # threads
PORTABLE_CLUSTER = 8  # blocks per cluster that every device with clusters supports
MOST_ACROSS = 65_535  # blocks of a grid in its second dimension, or its third
NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14  # an attribute of a function in the driver's API


def round_up(value: int, unit: int) -> int:
    """To a multiple of the unit."""
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Device:
    """The properties on which a kernel's choice of blocks depends; sizes in bytes."""

    name: str
    compute_capability: int  # 90 for 9.0
    multiprocessors: int
    shared_memory: int  # the most that one block may use
    driver: str = ""  # its version
    compiler: str = ""  # NVRTC's version


@dataclass(frozen=True)
class Program:
    """A kernel in a .cu file, compiled with those options (see `sources.define`).

    shared_memory: bytes of dynamic shared memory per block. cooperative: its blocks wait for one another. cluster:
    blocks per cluster, which the source declares too.
    """

    file: str
    kernel: str
    options: Options
    shared_memory: int = 0
    cooperative: bool = False
    cluster: int = 1


class LaunchRefusedError(Exception):
    """The device refused the launch; nothing has happened."""


Launch = Callable[[Size, Size, Sequence[Any]], None]  # grid, block, arguments: arrays and NumPy scalars


class Driver(ABC):
    """Loads programs and launches them in order, asynchronously."""

    device: Device

    @abstractmethod
    def load(self, program: Program) -> Launch:
        """Compile the program, or take it from a cache. Returns the function that launches it.

        Arguments must have the kernel's exact types. A launch raises LaunchRefusedError if the device cannot run it,
        for example with that many blocks in a cluster.
        """

    @abstractmethod
    def blocks_at_once(self, program: Program, threads: int) -> int:
        """How many blocks with that many threads the device runs at the same time, in whole clusters."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """The device address of the array, for kernels that take a table of arrays."""

    @abstractmethod
    def to_host(self, array: Array) -> NDArray[Any]:
        """The array on the host, once all earlier launches have finished."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the kernels that `work` launches, without running them. Returns the function that launches them all.

        work must neither allocate on the device nor wait for it. Its arrays live as long as the returned function.
        """


class Recording(local):
    """What the calling thread records, None while it records nothing: what other threads launch meanwhile is not."""

    launches: list[Any] | None = None


class CupyDriver(Driver):
    """The current CUDA device; kernels run in CuPy's current stream."""

    def __init__(self) -> None:
        import cupy

        device = cupy.cuda.Device()
        attributes = device.attributes
        self.device = Device(
            name=cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode(),
            compute_capability=int(device.compute_capability),
            multiprocessors=attributes["MultiProcessorCount"],
            shared_memory=attributes["MaxSharedMemoryPerBlockOptin"],
            driver=str(cupy.cuda.runtime.driverGetVersion()),
            compiler=".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        )
        self._module = cache(self._new_module)
        self.load = cache(self.load)  # type: ignore[method-assign]
        self._recording = Recording()  # the arguments of launches

    @staticmethod
    def _new_module(file: str, flags: tuple[str, ...]) -> Any:
        import cupy

        return cupy.RawModule(code=source(file, flags), options=("-std=c++17", *flags))

    def _function(self, program: Program) -> Any:
        kernel = _compiled(self._module(program.file, program.options), program.kernel)
        if program.shared_memory > kernel.max_dynamic_shared_size_bytes:
            kernel.max_dynamic_shared_size_bytes = program.shared_memory
        if program.cluster > PORTABLE_CLUSTER:
            from cupy_backends.cuda.api import driver

            driver.funcSetAttribute(kernel.kernel.ptr, NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)
        return kernel.kernel  # the driver's function, which is the cheapest to launch

    def load(self, program: Program) -> Launch:
        from cupy_backends.cuda.api.driver import CUDADriverError

        function, shared = self._function(program), program.shared_memory
        cooperative = program.cooperative

        def launch(grid: Size, block: Size, arguments: Sequence[Any]) -> None:
            try:
                function(grid, block, arguments, shared_mem=shared, enable_cooperative_groups=cooperative)
            except CUDADriverError as error:
                raise LaunchRefusedError(f"{program.kernel}: {error}") from error
            if self._recording.launches is not None:
                self._recording.launches.append(arguments)

        return launch

    def blocks_at_once(self, program: Program, threads: int) -> int:
        from cupy_backends.cuda.api import driver

        function = self._function(program)
        each = driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, threads, program.shared_memory)
        return each * self.device.multiprocessors // program.cluster * program.cluster

    def address(self, array: Array) -> int:
        return int(array.data.ptr)

    def to_host(self, array: Array) -> NDArray[Any]:
        import cupy

        return cupy.asnumpy(array)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph, captured on a stream of its own: neither the default one nor any that waits for it can be.

        Nothing runs during the capture, so it waits for nothing either; the graph is launched on the current stream,
        and so after all earlier work there.
        """
        import cupy

        stream = cupy.cuda.Stream(non_blocking=True)
        arguments: list[Sequence[Any]] = []
        self._recording.launches = arguments
        with stream:
            stream.begin_capture()
            try:
                work()
            finally:
                self._recording.launches = None
                graph = stream.end_capture()
        return partial(_launch_graph, graph, arguments)


def _compiled(module: Any, name: str) -> Any:
    """The kernel of that name, compiled now or, as CuPy keeps on disk what it has compiled, by an earlier process."""
    with compiling(), _COMPILING:  # another thread may be at it
        return module.get_function(name)


def _launch_graph(graph: Any, arguments: Sequence[Any]) -> None:
    """Launch the graph, which only has addresses; the arguments keep the arrays at those addresses alive."""
    graph.launch()
