"""As much of CuPy as fastmlp uses, with the same signatures, on a GPU that is emulated.

Arrays are NumPy arrays that call themselves CuPy's. Streams capture: what is launched then runs when the graph does.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy
import numpy as np

from fastmlp.kernels.cuda import sources
from fastmlp.kernels.cuda.driver import Program
from fastmlp.kernels.cuda.emulation import H100, EmulatedDriver, guarded


class CUDADriverError(RuntimeError):
    pass


class Array(np.ndarray):
    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)

    def set(self, source, stream=None):
        self[...] = source


def asarray(array, dtype=None):
    array = np.asarray(array, dtype)
    return _placed(array.shape, array.dtype, array)


def empty(shape, dtype=float):
    return _placed(shape, np.dtype(dtype), None)


def _placed(shape, dtype, content):
    placed = guarded(shape, dtype).view(Array)
    if content is not None:
        placed[...] = content
    return placed


def asnumpy(array):
    if not isinstance(array, Array):
        raise TypeError(f"asnumpy takes a CuPy array, not {type(array)}")
    return np.array(array)


class Function:
    """A kernel of a module, as the driver's API has it."""

    def __init__(self, gpu: Gpu, file: str, name: str, options: tuple[str, ...]) -> None:
        self._gpu, self._file, self._name, self._options = gpu, file, name, options
        self.ptr = id(self)
        self.most_shared_memory = 48 * 1024
        gpu.functions[self.ptr] = self
        self.attributes: dict[int, int] = {}

    def program(self, shared_mem: int, cooperative: bool) -> Program:
        constants = dict(option.removeprefix("-D").split("=") for option in self._options if option.startswith("-D"))
        clustered = constants.get("CLUSTER") == "1"
        cluster = int(constants["SPLIT_K"]) * int(constants["SPLIT_N"]) if clustered else 1
        if cluster > 8 and self.attributes.get(14) != 1:
            raise CUDADriverError("CUDA_ERROR_INVALID_CLUSTER_SIZE: invalid cluster size")
        return Program(self._file, self._name, self._defines, shared_mem, cooperative, cluster)

    @property
    def _defines(self):
        return tuple(option for option in self._options if option.startswith("-D"))

    def __call__(self, grid, block, args, shared_mem=0, stream=None, enable_cooperative_groups=False):
        assert type(grid) is tuple
        assert type(block) is tuple
        for argument in args:
            assert isinstance(argument, Array | np.generic), f"{type(argument)} is no argument of a kernel"
        if shared_mem > self.most_shared_memory:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        launch = self._gpu.driver.load(self.program(shared_mem, enable_cooperative_groups))
        self._gpu.submit(lambda: launch(grid, block, [np.asarray(a) if isinstance(a, Array) else a for a in args]))


class RawKernel:
    def __init__(self, function: Function) -> None:
        self.kernel = function

    @property
    def max_dynamic_shared_size_bytes(self):
        return self.kernel.most_shared_memory

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size):
        if size > H100.shared_memory:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.kernel.most_shared_memory = size


class Graph:
    def __init__(self, launches: list[Callable[[], None]]) -> None:
        self._launches = launches

    def launch(self, stream=None):
        for launch in self._launches:
            launch()


class Stream:
    def __init__(self, gpu: Gpu, null=False, non_blocking=False) -> None:
        self._gpu, self._non_blocking = gpu, non_blocking
        self.captured: list[Callable[[], None]] | None = None

    def __enter__(self):
        self._gpu.streams.append(self)
        return self

    def __exit__(self, *_):
        assert self._gpu.streams.pop() is self

    def begin_capture(self, mode=None):
        assert self._non_blocking, "the default stream cannot be captured"
        self.captured = []

    def end_capture(self):
        captured, self.captured = self.captured, None
        assert captured is not None, "nothing is being captured"
        return Graph(captured)

    def synchronize(self):
        assert self.captured is None, "cudaErrorStreamCaptureUnsupported"


class Gpu:
    """The state of the device behind the modules: the first of so many, and the only one that works.

    fault: raised by whatever asks for a device; full: by whatever asks for memory there.
    """

    def __init__(self, devices: int = 1, fault: Exception | None = None, full: Exception | None = None) -> None:
        self.devices, self.fault, self.full = devices, fault, full
        self.driver = EmulatedDriver()
        self.functions: dict[int, Function] = {}
        self.streams: list[Stream] = [Stream(self, null=True)]
        self.launched = 0

    def count(self) -> int:
        if self.fault is not None:
            raise self.fault
        return self.devices

    def device(self, number: int = 0) -> Any:
        assert 0 <= number < self.count()
        attributes = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": H100.shared_memory}
        own = {"id": number, "compute_capability": "90", "attributes": attributes}
        return types.SimpleNamespace(**own, use=lambda: None, synchronize=lambda: None)

    def allocating(self, allocate: Callable[..., Array]) -> Callable[..., Array]:
        """The same function, where there is memory."""

        def allocated(*arguments: Any, **options: Any) -> Array:
            if self.full is not None:
                raise self.full
            return allocate(*arguments, **options)

        return allocated

    def submit(self, launch: Callable[[], None]) -> None:
        captured = self.streams[-1].captured
        if captured is not None:
            captured.append(launch)
            return
        self.launched += 1
        launch()

    def raw_module(self, *, code: str, options: tuple[str, ...] = ()) -> Any:
        assert "#include <" not in code.split("#ifdef EMULATION")[0]
        assert options[0] == "-std=c++17"
        (file,) = (name for name in sources.names() if code.startswith(first_line(name)))
        assert code == sources.source(file, options[1:])

        def get_function(name: str) -> RawKernel:
            if name not in sources.kernels(file):
                raise CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
            return RawKernel(Function(self, file, name, options))

        return types.SimpleNamespace(get_function=get_function)

    def set_attribute(self, pointer: int, attribute: int, value: int) -> None:
        self.functions[pointer].attributes[attribute] = value

    def occupancy(self, pointer: int, threads: int, shared_memory: int) -> int:
        return min(2048 // threads, H100.shared_memory // max(shared_memory, 1))


def first_line(name: str) -> str:
    """Of a .cu file, which says what it computes, and so is its own."""
    return (sources.FOLDER / name).read_text().partition("\n")[0]


def _module(name: str) -> Any:
    return types.ModuleType(name)


def modules(gpu: Gpu) -> dict[str, types.ModuleType]:
    """What to put into sys.modules."""
    cupy, cuda = _module("cupy"), _module("cupy.cuda")
    cuda.Device = gpu.device
    cuda.runtime = types.SimpleNamespace(
        getDeviceCount=gpu.count,
        getDeviceProperties=lambda number: {"name": b"NVIDIA H100"},
        memGetInfo=lambda: (70 * 2**30, 80 * 2**30),
        runtimeGetVersion=lambda: 13000,
        driverGetVersion=lambda: 13000,
    )
    cuda.nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 1))
    cuda.Event = lambda **options: types.SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)
    cuda.Stream = lambda **options: Stream(gpu, **options)
    cuda.get_current_stream = lambda: gpu.streams[-1]
    cupy.cuda, cupy.RawModule, cupy.asnumpy = cuda, gpu.raw_module, asnumpy
    cupy.asarray, cupy.empty = gpu.allocating(asarray), gpu.allocating(empty)
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 0)
    cupy.get_default_pinned_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    cupy.__version__ = "14.2.0"

    namespace = _module("array_api_compat.cupy")
    namespace.__dict__.update(
        {name: value for name, value in vars(array_api_compat.numpy).items() if not name.startswith("__")}
    )
    namespace.asarray, namespace.empty = cupy.asarray, cupy.empty

    backends, api = _module("cupy_backends.cuda"), _module("cupy_backends.cuda.api")
    api.driver = _module("cupy_backends.cuda.api.driver")
    api.driver.CUDADriverError = CUDADriverError
    api.driver.funcSetAttribute = gpu.set_attribute
    api.driver.occupancyMaxActiveBlocksPerMultiprocessor = gpu.occupancy
    top = _module("cupy_backends")
    top.cuda, backends.api = backends, api
    extension = _module("cupyx")
    extension.empty_pinned = np.empty
    found = (cupy, extension, cuda, namespace, top, backends, api, api.driver)
    return {module.__name__: module for module in found}


def install(monkeypatch, **gpu_options: Any) -> Gpu:
    """Let `import cupy` find it, until the test ends."""
    gpu = Gpu(**gpu_options)
    for name, module in modules(gpu).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(array_api_compat, "cupy", sys.modules["array_api_compat.cupy"], raising=False)
    return gpu
