"""Peak memory: what a contender takes beyond its data, its libraries and its compiled code, seen from outside.

A child process binds and runs it while this one watches how many pages of its own (not of files) it holds.
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
# glibc then gives back at once what is freed, so that one point's memory is not another's.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
Point = Callable[..., Problem]


class Peaks:
    """The peaks of contenders on the problems `point(axis, value, *arguments)`; a child for each contender."""

    def __init__(self, point: Point, *arguments: Any) -> None:
        self._point, self._arguments = point, arguments
        self._children: dict[str, Child] = {}
        self._known: dict[tuple[str, str | None, int | None], int] = {}

    def of(self, contender: Contender, problem: Problem) -> int | None:
        """Bytes; None where the system does not tell."""
        if sys.platform != "linux":
            return None
        key = (contender.name, problem.axis, problem.value)
        if key not in self._known:
            if contender.name not in self._children:
                self._children[contender.name] = Child(contender, self._point, self._arguments)
            self._known[key] = self._children[contender.name].peak(problem.axis, problem.value)
        return self._known[key]

    def close(self) -> None:
        for child in self._children.values():
            child.close()


class Child:
    """A process that binds and runs one contender on problem after problem."""

    def __init__(self, contender: Contender, point: Point, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would start with this process's memory
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, contender, point, arguments), daemon=True)
        before = {name: os.environ.get(name) for name in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        other.close()

    def peak(self, *where: Any) -> int:
        self._connection.send(where)
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
        """Bytes of memory that are the process's own."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)
        return 1024 * int(found[1]) if found else 0

    def close(self) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, contender: Contender, point: Point, arguments: tuple[Any, ...]) -> None:
    """Until the other end is closed: draw a problem, wait, bind and run the contender on it."""
    warm = False
    while True:
        try:
            where = connection.recv()
        except EOFError:
            return
        problem = point(*where, *arguments)
        if not warm:
            _bind_and_run(contender, problem)  # loads libraries and compiles
            warm = True
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
