"""A sweep's parts on several devices of this machine, such as its GPUs: a thread for each, which trains one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from queue import SimpleQueue
from threading import local

from fastmlp.backends import Backend, open_backend
from fastmlp.experiments.candidates import Known
from fastmlp.experiments.parts import Part, Search, place, train_part
from fastmlp.training.samples import Samples


@dataclass(frozen=True)
class Devices:
    """What trains parts, on the devices of backends with these names; each works with so many CPU threads."""

    names: Sequence[str]
    threads: int

    def train(self, search: Search, parts: Sequence[Part]) -> Iterator[tuple[Part, list[Known]]]:
        """Each part and what its candidates came to, as they come; no other begins where one fails."""
        workers = _Workers(self, search)
        with ThreadPoolExecutor(len(self.names), initializer=workers.begin) as pool:
            working = {pool.submit(workers.train, part): part for part in parts}
            try:
                yield from ((working[done], done.result()) for done in as_completed(working))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class _Workers:
    """A thread for each device: CUDA has a current one in each thread, so all that is on a device stays in its own."""

    def __init__(self, devices: Devices, search: Search) -> None:
        self._search, self._threads = search, devices.threads
        self._names: SimpleQueue[str] = SimpleQueue()
        for name in devices.names:
            self._names.put(name)
        self._own = local()

    def begin(self) -> None:
        """Take a device, for the thread that calls."""
        self._own.name = self._names.get_nowait()

    def train(self, part: Part) -> list[Known]:
        kept, held_out, backend = self._placed()
        return train_part(self._search, part, kept, held_out, backend)

    def _placed(self) -> tuple[Samples, Samples, Backend]:
        """The rows on the thread's device, once."""
        if not hasattr(self._own, "placed"):
            backend = open_backend(self._own.name, self._threads)
            self._own.placed = (*place(self._search, backend), backend)
        placed: tuple[Samples, Samples, Backend] = self._own.placed
        return placed
