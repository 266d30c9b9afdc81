"""What launches kernels: a GPU's driver through CuPy, or a stand-in with the same methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from numpy.typing import NDArray

from .sources import Options, source

Array = Any  # an array on the device
Size = tuple[int, ...]  # of a grid, in blocks, or of a block, in threads

PORTABLE_CLUSTER = 8  # blocks, that every device with clusters can have
NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14  # the driver's attribute of a function


@dataclass(frozen=True)
class Device:
    """What a kernel's choice of blocks depends on; sizes in bytes."""

    name: str
    compute_capability: int  # 90 for 9.0
    multiprocessors: int
    shared_memory: int  # that one block may have


@dataclass(frozen=True)
class Program:
    """A kernel of a .cu file, compiled with those options (see `sources.define`).

    shared_memory: bytes of dynamic shared memory that a block takes. cooperative: its blocks wait for one another.
    cluster: blocks in a cluster, which the source sets too.
    """

    file: str
    kernel: str
    options: Options
    shared_memory: int = 0
    cooperative: bool = False
    cluster: int = 1


class LaunchRefusedError(Exception):
    """The device does not run such a launch; nothing has happened."""


Launch = Callable[[Size, Size, Sequence[Any]], None]  # grid, block, arguments: arrays and NumPy scalars


class Driver(ABC):
    """Loads programs, and launches them in order, without waiting for them."""

    device: Device

    @abstractmethod
    def load(self, program: Program) -> Launch:
        """Compile, or take from a cache; what comes back launches it. Arguments must have the kernel's exact types.

        A launch raises LaunchRefusedError where the device cannot have so many blocks in a cluster, or run it at all.
        """

    @abstractmethod
    def blocks_at_once(self, program: Program, threads: int) -> int:
        """How many blocks of so many threads the device runs at the same time; a cluster counts whole or not at all."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Where the array starts on the device, for a kernel that takes a table of arrays."""

    @abstractmethod
    def to_host(self, array: Array) -> NDArray[Any]:
        """The array on the host, once all that was launched before has ended."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What launches, in one call and as often as it is called, all that work launches; here it launches nothing.

        work launches kernels, and neither allocates on the device nor waits for it. Its arrays live as long as what is
        returned.
        """


class CupyDriver(Driver):
    """The current CUDA device. Kernels run in CuPy's current stream."""

    def __init__(self) -> None:
        import cupy

        device = cupy.cuda.Device()
        attributes = device.attributes
        self.device = Device(
            name=cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode(),
            compute_capability=int(device.compute_capability),
            multiprocessors=attributes["MultiProcessorCount"],
            shared_memory=attributes["MaxSharedMemoryPerBlockOptin"],
        )
        self._module = cache(self._new_module)
        self.load = cache(self.load)  # type: ignore[method-assign]
        self._captured: list[Sequence[Any]] | None = None  # the arguments of launches that are being recorded

    @staticmethod
    def _new_module(file: str, flags: tuple[str, ...]) -> Any:
        import cupy

        return cupy.RawModule(code=source(file, flags), options=("-std=c++17", *flags))

    def _function(self, program: Program) -> Any:
        kernel = self._module(program.file, program.options).get_function(program.kernel)
        if program.shared_memory > kernel.max_dynamic_shared_size_bytes:
            kernel.max_dynamic_shared_size_bytes = program.shared_memory
        if program.cluster > PORTABLE_CLUSTER:
            from cupy_backends.cuda.api import driver

            driver.funcSetAttribute(kernel.kernel.ptr, NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)
        return kernel.kernel  # the driver's function: a launch of it costs the least

    def load(self, program: Program) -> Launch:
        from cupy_backends.cuda.api.driver import CUDADriverError

        function, shared = self._function(program), program.shared_memory
        cooperative = program.cooperative

        def launch(grid: Size, block: Size, arguments: Sequence[Any]) -> None:
            try:
                function(grid, block, arguments, shared_mem=shared, enable_cooperative_groups=cooperative)
            except CUDADriverError as error:
                raise LaunchRefusedError(f"{program.kernel}: {error}") from error
            if self._captured is not None:
                self._captured.append(arguments)

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
        """A CUDA graph, captured on a stream of its own: the default one cannot be, nor one that waits for that.

        Nothing runs during the capture, so it waits for nobody either; the graph is launched on the current stream, and
        so after all that was sent there before.
        """
        import cupy

        stream = cupy.cuda.Stream(non_blocking=True)
        arguments = self._captured = []
        with stream:
            stream.begin_capture()
            try:
                work()
            finally:
                self._captured = None
                graph = stream.end_capture()
        return partial(_launch_graph, graph, arguments)


def _launch_graph(graph: Any, arguments: Sequence[Any]) -> None:
    """The graph knows addresses alone: the arrays there live as long as this call of it does, in its arguments."""
    graph.launch()
