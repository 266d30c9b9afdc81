"""Small arrays on their way to a GPU: whole, typed, in one copy, and not changed before they have been copied."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp.backends.base import Array
from fastmlp.backends.cuda_uploads import ALIGNED, Staging


class Device:
    """Copies are made when somebody waits for them, as late as it can be."""

    def __init__(self) -> None:
        self.pinned: list[int] = []
        self.copies: list[Callable[[], object]] = []

    def staging(self) -> Staging:
        return Staging(self._pin, self._send)

    def _pin(self, count: int) -> NDArray[np.uint8]:
        self.pinned.append(count)
        return np.full(count, 255, np.uint8)

    def _send(self, source: NDArray[np.uint8]) -> tuple[Array, Callable[[], object]]:
        copy = np.zeros_like(source)
        self.copies.append(lambda: np.copyto(copy, source))
        return copy, self.copies[-1]


ARRAYS: list[NDArray[Any]] = [
    np.arange(5),
    np.linspace(0, 1, 7, dtype=np.float32),
    np.array([True, False, True]),
    np.zeros(0, np.int64),
    np.arange(12.0).reshape(3, 4)[:, ::2],
]


@pytest.mark.parametrize("arrays", [ARRAYS, ARRAYS[::-1], ARRAYS[:1], ARRAYS[3:4], []])
def test_arrays_arrive_whole_by_one_copy(arrays: list[NDArray[Any]]) -> None:
    device = Device()
    placed = device.staging().place(arrays)
    assert len(device.copies) == 1
    device.copies[0]()
    for array, there in zip(arrays, placed, strict=True):
        assert there.dtype == array.dtype
        assert there.flags.c_contiguous
        np.testing.assert_array_equal(there, array)
        assert not there.size or (there.ctypes.data - placed[0].ctypes.data) % ALIGNED == 0


def test_host_memory_is_filled_anew_only_once_it_has_been_copied() -> None:
    device = Device()
    staging = device.staging()
    (first,) = staging.place([np.arange(10)])
    (second,) = staging.place([np.arange(10, 20)])
    device.copies[1]()
    np.testing.assert_array_equal(first, np.arange(10))
    np.testing.assert_array_equal(second, np.arange(10, 20))


def test_host_memory_grows_and_is_kept() -> None:
    device = Device()
    staging = device.staging()
    for count in (4, 2, 40, 3):
        staging.place([np.zeros(count)])
    assert device.pinned == [32, 320]
    staging.clear()
    staging.place([np.zeros(1)])
    assert device.pinned == [32, 320, 16]


def test_memory_that_grows_in_the_middle_keeps_what_it_has() -> None:
    device = Device()
    arrays = [np.arange(count) for count in (3, 50, 1000, 7)]
    placed = device.staging().place(iter(arrays))
    device.copies[0]()
    for array, there in zip(arrays, placed, strict=True):
        np.testing.assert_array_equal(there, array)


def test_arrays_that_cannot_be_made_leave_the_memory_usable() -> None:
    device = Device()
    staging = device.staging()

    def failing() -> Iterator[NDArray[Any]]:
        yield np.arange(3)
        raise ValueError("the parameters make no sense")

    with pytest.raises(ValueError, match="no sense"):
        staging.place(failing())
    (placed,) = staging.place([np.arange(4)])
    device.copies[0]()
    np.testing.assert_array_equal(placed, np.arange(4))
