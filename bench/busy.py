"""Other processes that keep the machine busy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """That many processes, each busy with a loop of its own; they end with the block, or with this process."""
    with ExitStack() as running:
        yield [running.enter_context(_busy_process()) for _ in range(count)]


@contextmanager
def _busy_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", LOOP])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
