"""The backends that tests run on, each opened once in a process."""

from functools import cache

from fastmlp.backends import Backend, open_backend, probe
from fastmlp.testing.emulated import EmulatedBackend

BACKENDS = ("numpy", "numba", "torch", "cupy", EmulatedBackend.name)


@cache
def opened(name: str) -> Backend | str:
    """The backend, or why it cannot run here."""
    emulated = name == EmulatedBackend.name
    availability = EmulatedBackend.probe() if emulated else probe(name)
    if not availability.usable:
        return f"backend {name}: {availability.reason} {availability.fix}".rstrip()
    return EmulatedBackend() if emulated else open_backend(name)
