"""Extraction and sweeps on Ray, which only moves calls: what a worker wrote is there or not, whoever died meanwhile.

Nothing but descriptors and manifest rows passes through Ray. A call whose worker died is given to another worker; a
call that was done twice has written the same bytes twice.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastmlp._version import __version__
from fastmlp.common.environment import available_cores
from fastmlp.common.errors import BackendError, FastMLPError, UsageError, first_line
from fastmlp.common.files import write_array
from fastmlp.common.progress import say, warn
from fastmlp.datasets.sources import PartFile
from fastmlp.experiments.candidates import Known
from fastmlp.experiments.engines import Opening
from fastmlp.experiments.parts import Part, Search
from fastmlp.experiments.ray_worker import IMAGES, LABELS, Job, Worker
from fastmlp.features.extraction import Extraction, Shard
from fastmlp.features.shard_files import Entry

OBJECT_STORE_BYTES = 100_000_000  # of a cluster of our own: nothing large goes through it
MOST_DEATHS = 5  # of workers over one call, or of those that are starting, between two results
STARTING = -1  # stands for a call's number
POLL = 1.0  # seconds
CONNECTING = 10.0  # seconds
INSTALL = "pip install 'fastmlp[ray]'"


class Call(NamedTuple):
    """A method of the worker and what it is given; number: which of the calls this is."""

    number: int
    method: str
    arguments: tuple[Any, ...]


@dataclass
class _Work:
    """Calls that wait for a worker, those that are with one, by their answers, and how many workers died over each."""

    waiting: deque[Call]
    running: dict[Any, tuple[Any, Call]]
    deaths: Counter[int]

    @property
    def left(self) -> int:
        return len(self.waiting) + len(self.running)


class _Watch:
    """For how long nothing has been done; beats: a number that grows while something is."""

    def __init__(self, beats: Callable[[], int]) -> None:
        self._beats, self._beaten = beats, beats()
        self.start()

    def start(self) -> None:
        self._since = time.monotonic()

    def still_seconds(self) -> float:
        beaten = self._beats()
        if beaten > self._beaten:
            self._beaten = beaten
            self.start()
        return time.monotonic() - self._since


@contextmanager
def cluster(
    address: str | None, workers: int | None, threads: int | None, on_gpu: bool, stall: float
) -> Iterator[OnRay]:
    """The engine on a running cluster, or on one started here for the block; on_gpu: each worker has a GPU.

    Raises UsageError where Ray is missing, BackendError for a cluster that cannot be reached or has no room.
    """
    ray = import_ray()
    _connect(ray, address or os.environ.get("RAY_ADDRESS") or "local")
    try:
        staff = _staff(ray.nodes(), workers, threads, on_gpu)
        say(f"Ray: up to {staff.workers} workers, {staff.threads} threads each, on {staff.nodes} machines.")
        engine = OnRay(ray, staff, stall)
        try:
            yield engine
        finally:
            engine.dismiss()
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """Raises UsageError where it is missing."""
    try:
        import ray

        if not hasattr(ray, "init"):
            raise ImportError("ray is a folder of that name")
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray ({first_line(error)}): {INSTALL}.") from None
    return ray


def _connect(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"num_cpus": available_cores(), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    options = own if address == "local" else {}
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except Exception as error:  # noqa: BLE001  (gRPC, Ray and the system each raise their own)
        fix = "see `ray status` there, or leave --address out to start one here"
        raise BackendError(f"The Ray cluster {address} cannot be used ({first_line(error)}): {fix}.") from None


def _reach(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECTING).close()


class Staff(NamedTuple):
    """How many workers there are to be, each of how many threads and GPUs, on how many machines."""

    workers: int
    threads: int
    gpus: int
    nodes: int


def _staff(nodes: Sequence[dict[str, Any]], workers: int | None, threads: int | None, on_gpu: bool) -> Staff:
    """At least a worker per GPU, or else per machine, or as many as asked for; each on as many cores as that allows."""
    usable = [_Node.of(node["Resources"]) for node in nodes if node["Alive"]]
    usable = [node for node in usable if node.cores and (node.gpus or not on_gpu)]
    if not usable:
        raise BackendError(f"The Ray cluster has no machine with {'a GPU' if on_gpu else 'CPUs'}: add one.")
    most = max(node.cores for node in usable)
    if threads is None:
        wanted = workers or sum(node.gpus if on_gpu else 1 for node in usable)
        threads = next((count for count in range(most, 1, -1) if _room(usable, count, on_gpu) >= wanted), 1)
    room = _room(usable, threads, on_gpu)
    if not room:
        raise UsageError(f"No machine of the Ray cluster has {threads} CPUs: give --threads {most} or fewer.")
    if workers is not None and workers > room:
        warn(f"There is room for {room} of {workers} workers of {threads} threads on the Ray cluster.")
    return Staff(min(workers or room, room), threads, int(on_gpu), len(usable))


def _room(nodes: Sequence[_Node], threads: int, on_gpu: bool) -> int:
    """For how many workers of so many threads."""
    return sum(min(node.cores // threads, node.gpus if on_gpu else node.cores) for node in nodes)


class _Node(NamedTuple):
    cores: int
    gpus: int

    @classmethod
    def of(cls, resources: dict[str, float]) -> _Node:
        return cls(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))


class OnRay:
    """A cluster that is connected, as an engine of `engines.Engine` and a trainer of `parts.Trainer`.

    For one thread at a time.

    Raises FastMLPError if nothing is done for `stall` seconds, or if workers die again and again.
    """

    def __init__(self, ray: Any, staff: Staff, stall: float) -> None:
        self._ray, self._staff, self._stall = ray, staff, stall
        self._starting: dict[Any, Any] = {}  # workers by the answer they owe us
        self._idle: list[Any] = []

    def read(self, parts: Sequence[PartFile], max_pixels: int) -> Iterator[int]:
        calls = [Call(number, "read", (part, max_pixels)) for number, part in enumerate(parts)]
        return (call.number for call, _ in self._results(calls))

    def extract(
        self, opening: Opening, extraction: Extraction, shards: Iterable[Shard], advance: Callable[[int], None]
    ) -> Iterator[Entry]:
        folder = extraction.folder.absolute()
        job = Job(opening, json.dumps(extraction.extractor.provenance(), sort_keys=True), folder)
        calls = [Call(number, "extract", (job, shard)) for number, shard in enumerate(shards)]
        if not calls:
            return
        write_array(folder / IMAGES, extraction.images)
        write_array(folder / LABELS, extraction.labels)
        for _, written in self._results(calls):
            advance(written.rows)
            yield written

    @property
    def threads(self) -> int:
        """Of each worker."""
        return self._staff.threads

    def train(self, search: Search, parts: Sequence[Part]) -> Iterator[tuple[Part, list[Known]]]:
        calls = [Call(number, "train", (search, part)) for number, part in enumerate(parts)]
        for call, known in self._results(calls, search.beats):
            yield parts[call.number], known

    def dismiss(self) -> None:
        """End all workers."""
        for worker in [*self._starting.values(), *self._idle]:
            self._end(worker)
        self._starting, self._idle = {}, []

    def _results(self, calls: Sequence[Call], beats: Callable[[], int] = lambda: 0) -> Iterator[tuple[Call, Any]]:
        """Each call and its result, as they come; beats: a number that grows while workers get on with their calls."""
        work, watch = _Work(deque(calls), {}, Counter()), _Watch(beats)
        try:
            while work.left:
                self._hire(min(self._staff.workers, work.left) - len(work.running))
                self._give_out(work)
                done, _ = self._ray.wait([*work.running, *self._starting], timeout=POLL)
                if not done and watch.still_seconds() > self._stall:
                    raise self._stalled(work)
                for answer in done:
                    if answer in self._starting:
                        self._take_up(answer, work)
                    elif finished := self._finished(answer, work):
                        watch.start()
                        yield finished
        finally:
            for worker, _ in work.running.values():
                self._end(worker)

    def _hire(self, wanted: int) -> None:
        for _ in range(wanted - len(self._idle) - len(self._starting)):
            resources = {"num_cpus": self._staff.threads, "num_gpus": self._staff.gpus}
            worker = self._ray.remote(Worker).options(**resources, max_restarts=0).remote(self._staff.threads)
            self._starting[worker.begin.remote(__version__)] = worker

    def _give_out(self, work: _Work) -> None:
        """A call to each worker that has none."""
        while work.waiting and self._idle:
            worker, call = self._idle.pop(), work.waiting.popleft()
            work.running[getattr(worker, call.method).remote(*call.arguments)] = worker, call

    def _take_up(self, answer: Any, work: _Work) -> None:
        """A worker that has started, or has died over it."""
        worker = self._starting.pop(answer)
        if self._result(answer) is None:
            self._end(worker)
            self._count(STARTING, work.deaths)
        else:
            self._idle.append(worker)

    def _finished(self, answer: Any, work: _Work) -> tuple[Call, Any] | None:
        """The call that was answered, and its result; None if its worker died: then the call waits for another."""
        worker, call = work.running.pop(answer)
        result = self._result(answer)
        if result is None:
            self._end(worker)
            self._count(call.number, work.deaths)
            work.waiting.appendleft(call)
            return None
        self._idle.append(worker)
        work.deaths[STARTING] = 0
        return call, result

    def _result(self, answer: Any) -> Any:
        """What a worker answered; None if it died before. Raises what the call raised."""
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except exceptions.RayTaskError as error:
            raise _told(error.cause) from None
        except exceptions.RayError:
            return None

    def _count(self, number: int, deaths: Counter[int]) -> None:
        deaths[number] += 1
        if deaths[number] >= MOST_DEATHS:
            doing = "starting" if number == STARTING else "the same work"
            raise FastMLPError(
                f"{MOST_DEATHS} workers died over {doing}, as they do where memory runs out: see Ray's logs, or give "
                "fewer --workers; the same command then resumes."
            )
        warn("A worker of the Ray cluster died: its work goes to another one.")

    def _stalled(self, work: _Work) -> FastMLPError:
        running, starting = len(work.running), len(self._starting)
        return FastMLPError(
            f"Nothing was done on the Ray cluster for {self._stall:g} seconds (--stall), with {work.left:,} parts "
            f"left, {running:,} of them with workers, and {starting:,} workers that have not started: see "
            "`ray status`, or give more time; the same command then resumes."
        )

    def _end(self, worker: Any) -> None:
        with suppress(Exception):  # it may be dead
            self._ray.kill(worker)


def _told(cause: object) -> BaseException:
    """The error of a worker, as this process would have had it."""
    if isinstance(cause, FastMLPError | OSError):
        return cause
    fix = "see Ray's logs, and install the same fastmlp, with the same extras, on all machines"
    reason = f"{type(cause).__name__}: {first_line(cause)}" if isinstance(cause, Exception) else str(cause)
    return FastMLPError(f"A worker of the Ray cluster failed ({reason}): {fix}.")
