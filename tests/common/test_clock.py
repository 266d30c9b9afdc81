"""The clock that stands still while kernels compile."""

import pytest

from fastmlp.common import clock
from fastmlp.common.progress import Progress


class Time:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(clock, "time", fake)
    return fake


def test_compiling_does_not_count_as_work(time: Time) -> None:
    work, compiled = clock.work_seconds(), clock.compile_seconds()
    time.now += 2
    clock.compiling_begins()
    time.now += 30
    assert clock.work_seconds() - work == 2  # while it compiles
    clock.compiling_ends()
    time.now += 1
    assert clock.work_seconds() - work == 3
    assert clock.compile_seconds() - compiled == 30


def test_a_rate_leaves_compiling_out(time: Time) -> None:
    bar = Progress("train", 100, "epochs")
    clock.compiling_begins()
    time.now += 60
    clock.compiling_ends()
    time.now += 2
    bar.advance(10)
    assert "5 epochs/s, 0:18 left" in bar._line("")


def test_an_end_without_a_beginning_changes_nothing(time: Time) -> None:
    work = clock.work_seconds()
    clock.compiling_ends()
    assert clock.work_seconds() == work
