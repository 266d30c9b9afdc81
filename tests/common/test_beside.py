"""Work beside the rest: it has begun before it is asked for, and its errors are raised where it is."""

import subprocess
import sys
import threading

import pytest

from fastmlp.common import clock
from fastmlp.common.beside import Beside
from fastmlp.common.errors import BackendError


def test_it_is_begun_at_once_and_joined_as_often_as_asked() -> None:
    begun = threading.Event()

    def begin() -> threading.Thread:
        begun.set()
        return threading.current_thread()

    work = Beside(begin)
    assert begun.wait(60)
    assert work.join() is work.join()
    assert work.join() is not threading.current_thread()


@pytest.mark.parametrize("error", [BackendError("The GPU is full."), KeyboardInterrupt(), MemoryError()])
def test_what_it_raises_is_raised_where_it_is_joined(error: BaseException) -> None:
    def fail() -> None:
        raise error

    work = Beside(fail)
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            work.join()
        assert raised.value is error


def test_compiling_there_does_not_stop_the_clock() -> None:
    def compile_one() -> None:
        with clock.compiling():
            compiles.set()
            assert joined.wait(60)

    compiles, joined = threading.Event(), threading.Event()
    before, work = clock.compile_seconds(), Beside(compile_one)
    assert compiles.wait(60)
    assert clock._compiling == 0
    joined.set()
    work.join()
    assert clock.compile_seconds() == pytest.approx(before, abs=1e-3)


INTERRUPTED = """
import threading
from fastmlp.common.beside import Beside

goes_on = threading.Event()
work = Beside(lambda: goes_on.wait(60) and print("the work ends"))
try:
    raise KeyboardInterrupt
finally:
    print("interrupted")
    goes_on.set()
"""


def test_a_process_that_is_interrupted_ends_with_the_work() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout.splitlines() == ["interrupted", "the work ends"]
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
