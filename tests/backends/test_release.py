"""What lives on a GPU goes in order, before the interpreter ends."""

import subprocess
import sys

import pytest

from fastmlp.backends.release import release_with


class Owner:
    pass


def test_steps_are_taken_in_order_once_the_owner_is_gone() -> None:
    taken: list[str] = []
    owner = Owner()
    release_with(owner, lambda: taken.append("wait"), lambda: taken.append("memory"), lambda: taken.append("stream"))
    assert not taken
    del owner
    assert taken == ["wait", "memory", "stream"]


def test_steps_are_taken_once_only() -> None:
    taken: list[str] = []
    owner = Owner()
    release = release_with(owner, lambda: taken.append("wait"))
    release()
    release()
    del owner
    assert taken == ["wait"]


@pytest.mark.parametrize("error", [RuntimeError("cudaErrorIllegalAddress"), MemoryError(), AttributeError("no device")])
def test_a_step_that_fails_does_not_keep_the_next_from_being_taken(error: Exception) -> None:
    taken: list[str] = []

    def fail() -> None:
        raise error

    owner = Owner()
    release_with(owner, fail, lambda: taken.append("memory"))
    del owner
    assert taken == ["memory"]


LIVES_ON = """
import atexit
from fastmlp.backends.release import release_with

atexit.register(print, "the driver closes")  # as an engine does when it is imported

class Owner:
    def __del__(self):
        print("the owner goes")

backend, pipeline = Owner(), Owner()
backend.cycle, pipeline.cycle = pipeline, backend  # so that nothing frees them
release_with(backend, lambda: print("the backend waits"))
release_with(pipeline, lambda: print("pinned memory goes"), lambda: print("streams go"))
"""


def test_what_lives_to_the_end_is_let_go_before_the_driver_closes_and_the_last_first() -> None:
    done = subprocess.run([sys.executable, "-c", LIVES_ON], capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()[:4]
    assert told == ["pinned memory goes", "streams go", "the backend waits", "the driver closes"]
    assert not done.stderr


ROWS_LIVE_ON = """
import atexit
from types import SimpleNamespace
import numpy as np
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.training.chunks import Chunks
from fastmlp.training.windowed import Slot

atexit.register(print, "the driver closes")

class Pinned(np.ndarray):
    def __del__(self):
        print("memory goes")

class Device(NumpyBackend):
    def memory_budget(self):
        return 2**12

    def upload_buffer(self, shape, dtype):
        return np.ndarray.__new__(Pinned, shape, dtype)

    def synchronize(self):
        print("the backend waits")

features, labels, backend = np.ones((9, 8), np.float32), np.arange(9) % 2, Device()
samples = SimpleNamespace(backend=backend, features=features, labels=labels, weights=None, dtype="float32")
slot, chunks = Slot(samples, 9), Chunks(backend, features, labels, "float32", 2**12)
slot.cycle, chunks.cycle = chunks, slot
print("all live")
"""


def test_pinned_rows_that_live_to_the_end_are_let_go_before_the_driver_closes() -> None:
    """Those of windows and of chunks, with a column of labels each."""
    done = subprocess.run([sys.executable, "-c", ROWS_LIVE_ON], capture_output=True, text=True, check=True)
    chunks = ["the backend waits", *["memory goes"] * 4]
    windows = ["the backend waits", *["memory goes"] * 2]
    told = done.stdout.splitlines()
    assert told[told.index("all live") + 1 :][:9] == [*chunks, *windows, "the driver closes"]
    assert not done.stderr
