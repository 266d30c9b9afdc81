"""Which GPU a backend uses: its name, whether it is there, and how a thread's work goes to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array

CUDA, ALL = "cuda", "all"
MOST_DIGITS = 20


class NoSuchDeviceError(Exception):
    """There is no such GPU: the reason and the fix, one sentence each."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason} {fix}")
        self.reason, self.fix = reason, fix


class Gpu:
    """The GPU of that number, or with None the one that CuPy uses by itself.

    CUDA has a current device in each thread: `use` makes this one the calling thread's.
    """

    def __init__(self, number: int | None) -> None:
        import cupy

        self.number = number
        self._device: Any = cupy.cuda.Device() if number is None else cupy.cuda.Device(number)
        self.use()

    def use(self) -> None:
        if self.number is not None:
            self._device.use()

    def wait(self) -> None:
        """Until all its work is done."""
        self._device.synchronize()

    def send(self, source: NDArray[np.uint8]) -> tuple[Array, Callable[[], object]]:
        """Start copying pinned memory, in the current stream; returns its copy, and what waits until it is made."""
        import cupy

        stream, copied = cupy.cuda.get_current_stream(), cupy.cuda.Event(disable_timing=True)
        copy = cupy.empty(source.shape, source.dtype)
        copy.set(source, stream=stream)
        copied.record(stream)
        return copy, copied.synchronize


def number_of(device: str | None) -> int | None:
    """The number in "1" or "cuda:1", and that of the first GPU for "all"; None for "cuda" and None.

    Raises NoSuchDeviceError for what names none, or one that is not there.
    """
    number = number_in(device)
    if device == ALL or number is None:
        return number
    count = gpus()
    if number >= count:
        visible = "only GPU 0 is visible" if count == 1 else f"only GPUs 0 to {count - 1} are visible"
        raise NoSuchDeviceError(
            f"There is no GPU {number} here: {visible}.",
            "Choose one of these, or let CUDA_VISIBLE_DEVICES show more of those that nvidia-smi lists.",
        )
    return number


def number_in(device: str | None) -> int | None:
    """The same, whichever GPUs there are: without CuPy."""
    if device in (None, CUDA):
        return None
    if device == ALL:
        return 0
    named = re.fullmatch(rf"(?:{CUDA}:)?(\d{{1,{MOST_DIGITS}}})", str(device), re.ASCII)
    if named is None:
        raise NoSuchDeviceError(f"It has no device {device!r}.", f"Give a GPU's number, as in cupy:0, or cupy:{ALL}.")
    return int(named[1])


def gpus() -> int:
    """How many the process may use."""
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount())
