"""Work spread over several devices of this machine, such as its GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from threading import local
from typing import Generic, TypeVar

Placed = TypeVar("Placed")
Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    devices: Sequence[str],
    prepare: Callable[[str], Placed],
    items: Sequence[Item],
    work: Callable[[Placed, Item], Result],
) -> Iterator[tuple[Item, Result]]:
    """Every item and what comes of it, as they come: work(prepare(device), item) on whichever device is free.

    A device is prepared once, in a thread of its own: CUDA has a current device in each thread, so all that lies on one
    stays there. Where an item fails no other begins, and its error is raised; what is running then, or as an interrupt
    comes, is finished first.
    """
    workers = _Workers(devices, prepare)
    with ThreadPoolExecutor(len(devices), initializer=workers.begin) as pool:
        working = {pool.submit(lambda item: work(workers.placed(), item), item): item for item in items}
        try:
            yield from ((working[done], done.result()) for done in as_completed(working))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Workers(Generic[Placed]):
    """What each thread has to itself."""

    def __init__(self, devices: Sequence[str], prepare: Callable[[str], Placed]) -> None:
        self._prepare, self._own = prepare, local()
        self._devices: SimpleQueue[str] = SimpleQueue()
        for device in devices:
            self._devices.put(device)

    def begin(self) -> None:
        """Take a device, for the thread that calls."""
        self._own.device = self._devices.get_nowait()

    def placed(self) -> Placed:
        """What was prepared on the thread's device."""
        if not hasattr(self._own, "placed"):
            self._own.placed = self._prepare(self._own.device)
        placed: Placed = self._own.placed
        return placed
