"""A driver that launches nothing and remembers what it was asked to launch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.kernels.cuda.driver import Device, Driver, Launch, Program, Size

BLOCKS_A_MULTIPROCESSOR = 8


@dataclass(frozen=True)
class Launched:
    """One launch, and the program's options by name."""

    program: Program
    grid: Size
    block: Size
    arguments: tuple[Any, ...]

    @property
    def constants(self) -> dict[str, str]:
        named = (option.removeprefix("-D").partition("=") for option in self.program.options)
        return {name: value for name, _, value in named}


class RecordingDriver(Driver):
    """Arrays are NumPy arrays; `launched` lists all launches, in order, but those that are being recorded.

    `recordings` lists what was recorded, and `repeated` each recording every time that it is called.
    """

    def __init__(self, device: Device | None = None) -> None:
        self.device = device or Device("recorded", 90, 132, 232_448)
        self.launched: list[Launched] = []
        self.recordings: list[list[Launched]] = []
        self.repeated: list[list[Launched]] = []

    def load(self, program: Program) -> Launch:
        def launch(grid: Size, block: Size, arguments: Sequence[Any]) -> None:
            self.launched.append(Launched(program, grid, block, tuple(arguments)))

        return launch

    def blocks_at_once(self, program: Program, threads: int) -> int:
        return BLOCKS_A_MULTIPROCESSOR * self.device.multiprocessors

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def to_host(self, array: Any) -> NDArray[Any]:
        return np.asarray(array)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        before, self.launched = self.launched, []
        work()
        recording, self.launched = self.launched, before
        self.recordings.append(recording)
        return lambda: self.repeated.append(recording)
