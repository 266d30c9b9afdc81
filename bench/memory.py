"""Peak memory: what a contender uses beyond its data, its libraries and its compiled code, observed from outside.

A child process binds and runs it while this one watches how many private pages (not file pages) the child has.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from . import threads
from .contenders import Contender, Problem

LOOK_EVERY = 0.002  # seconds
# With it, glibc returns freed memory at once, so that one point's memory is not counted for another.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
Point = Callable[..., Problem]


class Peaks:
    """The peaks of contenders on the problems `point(axis, value, *arguments)`, run in one child process."""

    def __init__(self, point: Point, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would start with this process's memory
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, point, arguments), daemon=True)
        self._known: dict[tuple[str, str | None, int | None], int] = {}
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        other.close()

    def of(self, contender: Contender, problem: Problem) -> int | None:
        """Bytes; None if the system does not report them."""
        if sys.platform != "linux":
            return None
        key = (contender.name, problem.axis, problem.value)
        if key not in self._known:
            self._known[key] = self._watch(contender, problem)
        return self._known[key]

    def _watch(self, contender: Contender, problem: Problem) -> int:
        self._connection.send((contender, problem.axis, problem.value))
        self._connection.recv()  # the problem is drawn
        baseline = highest = self._held()
        self._connection.send("go")
        while not self._connection.poll(LOOK_EVERY):
            highest = max(highest, self._held())
        self._connection.recv()
        highest = max(highest, self._held())
        self._connection.send("seen")
        return highest - baseline

    def _held(self) -> int:
        """Bytes of the process's private memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)
        return 1024 * int(found[1]) if found else 0

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, point: Point, arguments: tuple[Any, ...]) -> None:
    """Until the other end closes: draw a problem, wait, bind and run a contender on it."""
    warm: set[str] = set()
    while True:
        try:
            contender, axis, value = connection.recv()
        except EOFError:
            return
        problem = point(axis, value, *arguments)
        if contender.name not in warm:
            _bind_and_run(contender, problem)  # loads libraries and compiles
            warm.add(contender.name)
        gc.collect()
        connection.send("ready")
        connection.recv()
        bound = _bind_and_run(contender, problem)
        connection.send("done")
        connection.recv()
        del bound, problem


def _bind_and_run(contender: Contender, problem: Problem) -> Any:
    bound = contender.bind(problem)
    threads.pin_loaded(problem.threads)
    bound.run()
    return bound
