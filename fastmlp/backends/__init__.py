"""The registry of backends: ours, and those of other packages.

A package registers one in the entry-point group `fastmlp.backends`; its value is a `Backend` class. A backend is
imported only when someone asks for it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from fastmlp.backends.base import Availability, Backend
from fastmlp.common.environment import available_cores, sees_too_many_cores
from fastmlp.common.errors import BackendError, UsageError, did_you_mean

__all__ = ["AUTO", "Availability", "Backend", "names", "open_backend", "probe"]

AUTO = "auto"
ENTRY_POINTS = "fastmlp.backends"
OURS = {
    "numpy": "fastmlp.backends.numpy:NumpyBackend",
    "numba": "fastmlp.backends.numba:NumbaBackend",
    "torch": "fastmlp.backends.torch:TorchBackend",
    "cupy": "fastmlp.backends.cupy:CupyBackend",
}
AUTO_ORDER = ("cupy", "numba", "numpy")
INSTALL = {
    "torch": "pip install 'fastmlp[torch]'",
    "numba": "pip install numba",
}


def names() -> list[str]:
    """Every registered backend, ours first."""
    return [*OURS, *sorted(point.name for point in entry_points(group=ENTRY_POINTS) if point.name not in OURS)]


def probe(name: str) -> Availability:
    """Whether the backend `name`, or `name:device`, can run here, and why not."""
    name, colon, device = name.partition(":")
    try:
        found = _class_of(name)
        return found.probe_device(device) if colon else found.probe()
    except ImportError as error:
        fix = f"Install it: {INSTALL[name]}." if name in INSTALL else "Reinstall the package that brings it."
        return Availability(False, f"It cannot be imported ({error}).", fix)


def open_backend(name: str = AUTO, threads: int | None = None) -> Backend:
    """The backend `name`, or `name:device`; "auto" takes the first of cupy, numba, numpy that works.

    threads: on the CPU, for the process; by default all cores that it may use.

    Raises UsageError for an unknown name and BackendError, with the reason and the fix, for one that cannot run.
    """
    probed = ((candidate, probe(candidate)) for candidate in (AUTO_ORDER if name == AUTO else (name,)))
    name, availability = next(found for found in probed if name != AUTO or found[1].usable)
    if not availability.usable:
        raise BackendError(f"Backend {name} cannot run here. {availability.reason} {availability.fix}")
    family, colon, device = name.partition(":")
    backend = _class_of(family)(device if colon else None)
    if threads is not None or sees_too_many_cores():
        backend.set_threads(threads or available_cores())
    return backend


def _class_of(name: str) -> type[Backend]:
    if name == AUTO:
        raise UsageError(f"Backend {AUTO} has no devices: name the backend too, as in cupy:0.")
    if name in OURS:
        module, _, attribute = OURS[name].partition(":")
        return getattr(import_module(module), attribute)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return point.load()
    known = [AUTO, *names()]
    raise UsageError(f"There is no backend {name!r}{did_you_mean(name, known)}: choose one of {', '.join(known)}.")
