"""Arrays of any library, in and out: a caller's tensor stays on its device, and results return there.

Follows scikit-learn's convention (`array_api_dispatch`): with the switch off, everything becomes a NumPy array.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray
from sklearn import get_config

from fastmlp.backends import open_backend
from fastmlp.backends.base import Array, Backend
from fastmlp.common.environment import available_cores
from fastmlp.common.errors import UsageError
from fastmlp.common.tensors import on_host, readable
from fastmlp.network.parameters import DTYPES
from fastmlp.network.scaling import Scaling, blocks

_limited = threading.Event()  # whether anybody has given a number of threads
_place = threading.local()  # of each thread, `use` while others run beside it
BLOCK = 2**16  # rows at a time, enough for a device


def namespace_of(array: Any) -> Any | None:
    """The array API namespace of a dispatched array from a library other than NumPy; None for anything else."""
    if not get_config()["array_api_dispatch"] or not array_api_compat.is_array_api_obj(array):
        return None
    return None if array_api_compat.is_numpy_array(array) else array_api_compat.array_namespace(array)


def place_of(array: Any) -> tuple[str, str]:
    """The names of the library and the device that hold an array."""
    xp = namespace_of(array)
    if xp is None:
        return "numpy", "cpu"
    return xp.__name__.removeprefix("array_api_compat."), str(array_api_compat.device(array))


def dtype_of(array: Any, name: str) -> Any:
    """The array library's dtype of that name; UsageError unless a network can have it."""
    if name not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {name!r}.")
    xp = namespace_of(array)
    return name if xp is None else getattr(xp, name)


def computable(array: Any) -> Any:
    """Features such that their library, if they are dispatched, or else NumPy can compute on them."""
    return on_host(array) if namespace_of(array) is None else readable(array)


def to_host(array: Any) -> Any:
    """A dispatched array of another library as a NumPy array; anything else such that NumPy can read it."""
    if namespace_of(array) is None:
        return on_host(array)
    if array_api_compat.is_torch_array(array):
        array = on_host(array)
    elif array_api_compat.is_cupy_array(array):
        return array_api_compat.to_device(array, "cpu")
    return np.from_dlpack(array)


def beside(array: NDArray[Any], other: Any) -> Any:
    """The host array in the other array's library, on its device."""
    xp = namespace_of(other)
    return array if xp is None else xp.asarray(array, device=array_api_compat.device(other))


def on_backend(backend: Backend, array: Any, dtype: str | None = None, scaling: Scaling | None = None) -> Array:
    """An array (n, d) on the backend, contiguous; not copied through the host if it is there already.

    scaling standardises it before it gets that dtype; an array of the backend's library is not converted without.
    """
    xp = namespace_of(array)
    if xp is None or xp is not backend.xp or not _is_there(backend, array):
        host = to_host(array)
        if scaling is None or dtype is None:
            return backend.asarray(np.ascontiguousarray(host, dtype))
        return backend.asarray(scaling.applied(host, dtype))
    array = readable(array)
    if scaling is not None and dtype is not None:
        return _scaled_there(backend, array, dtype, scaling)
    return array.contiguous() if array_api_compat.is_torch_array(array) else xp.ascontiguousarray(array)


def _scaled_there(backend: Backend, array: Array, dtype: str, scaling: Scaling) -> Array:
    """`Scaling.applied` on the backend's device."""
    wide = "float32" if backend.device == "mps" else "float64"  # which MPS does not have
    mean, scale = (backend.asarray(values.astype(wide)) for values in (scaling.mean, scaling.scale))
    out = backend.empty(tuple(array.shape), dtype)
    for block in blocks(array.shape[0], BLOCK):
        part = backend.xp.astype(array[block, ...], getattr(backend.xp, wide))
        out[block, ...] = (part - mean) * scale
    return out


def rows_of(array: Any, index: NDArray[np.int64]) -> Any:
    """Those rows of an array of any library."""
    xp = namespace_of(array)
    return array[index] if xp is None else xp.take(array, beside(index, array), axis=0)


def backend_for(name: str, array: Any, threads: int | None = None) -> Backend:
    """The backend, opened; for "auto" and a dispatched tensor of PyTorch or CuPy, the one of its library and device.

    Threads, once given, hold for the process: then None gives all cores back. Not so in `beside_others`.
    """
    if name == "auto" and namespace_of(array) is not None:
        if array_api_compat.is_torch_array(array):
            name = f"torch:{array_api_compat.device(array)}"
        elif array_api_compat.is_cupy_array(array):
            name = f"cupy:{array.device.id}"
    backend = _opened(name)
    if is_beside_others():
        _place.use(backend)
        return _confined(backend, int(threads or 1))
    if threads is not None:
        _limited.set()
    if _limited.is_set():
        backend.set_threads(int(threads or available_cores()))
    return backend


@contextmanager
def beside_others(use: Callable[[Backend], None]) -> Iterator[None]:
    """A context in which this thread's estimators compute on one thread, unless they name a number: others run too.

    They leave the process's own settings alone: `use` is called with each backend before it is used, and sees to those.
    """
    _place.use = use
    try:
        yield
    finally:
        del _place.use


def is_beside_others() -> bool:
    """Whether this thread is in such a context."""
    return hasattr(_place, "use")


def _confined(backend: Backend, threads: int) -> Backend:
    """The same on so many threads."""
    confined = copy(backend)
    confined.threads = threads
    return confined


@cache
def _opened(name: str) -> Backend:
    """Opened once, because probing a backend takes longer than a few predictions."""
    return open_backend(name)


def _is_there(backend: Backend, array: Any) -> bool:
    """Whether an array of the backend's library is on the backend's device."""
    return array_api_compat.device(backend.asarray(np.empty(0))) == array_api_compat.device(array)
