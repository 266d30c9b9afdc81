"""A stand-in for CUDA's streams and graphs, on a CPU."""

from contextlib import contextmanager, nullcontext

import torch

from fastmlp.extractors.gpu import IN_FLIGHT, Cuda


class Event:
    """Logs when it is recorded and awaited."""

    def __init__(self, name, log):
        self._name, self._log = name, log

    def record(self):
        self._log.append(f"record {self._name}")

    def wait(self):
        self._log.append(f"wait {self._name}")

    def synchronize(self):
        self._log.append(f"synchronize {self._name}")


class NoCuda(Cuda):
    """Does immediately what `Cuda` starts; a graph's launch reads and writes where its recording did."""

    device, gpu = "cpu", "H100"

    def __init__(self):
        self.log = []
        self.events = iter(f"{event} {slot}" for slot in range(IN_FLIGHT) for event in ("arrived", "done"))

    @contextmanager
    def computing(self):
        self.log.append("compute")
        yield

    @contextmanager
    def copying(self):
        self.log.append("copy")
        yield

    def event(self):
        return Event(next(self.events), self.log)

    def pinned(self, shape, dtype):
        return torch.empty(shape, dtype=dtype)

    def wait(self):
        self.log.append("wait")

    def sparing(self):
        return nullcontext()

    def record(self, work):
        result = work()
        self.log.append("record graph")

        def launch():
            self.log.append("launch")
            return result.copy_(work())

        return launch
