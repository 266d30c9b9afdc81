"""The layout of `train_head.cu`: a block trains a network alone, and a GPU as many as it has multiprocessors."""

from __future__ import annotations

from dataclasses import dataclass, field

from .driver import WARP, Device, Program, round_up
from .layout import ALIGNMENT, WARPS, Layout, Shape
from .sources import define

FILE, KERNEL = "train_head.cu", "train_head"
THREADS = WARP * WARPS
TILE_ROWS, TILE_UNITS, CHUNK = 16, 32, 64  # as there
TENSOR_CORES = 80  # the first compute capability that has them for float32
MOST_TILES = 4  # of a warp: their sums, 16 of a lane, still fit into registers

# From how many networks on they have a block each. Of 512-64-10 a step of up to 132 takes 26 us, we estimate. Clusters
# of 8 (measured) take 39 for 64, in five turns, so the estimate may be half as much again.
MANY_NETWORKS = 64


@dataclass(frozen=True)
class OneBlock(Layout):
    """One block, with the whole first layer in its shared memory and batches in chunks."""

    split_k: int = 1
    split_n: int = 1
    cluster: bool = True  # whose blocks need not all run at once
    buffers: int = 2
    passes: int = 1
    step: float = field(default=26.0, compare=False)  # an estimate

    def __str__(self) -> str:
        return "one block a network" + " tensor cores" * self.tensor_cores

    @property
    def capability(self) -> int:
        return TENSOR_CORES if self.tensor_cores else 0

    def program(self, shape: Shape) -> Program:
        constants = define(**shape.constants, TENSOR_CORES=int(self.tensor_cores))
        return Program(FILE, KERNEL, constants, self.shared_memory(shape))

    def shared_memory(self, shape: Shape) -> int:
        """Bytes that a block takes, array by array like the kernel's `Share`."""
        rows, units, columns = (
            round_up(shape.batch_size, TILE_ROWS),
            round_up(shape.width, TILE_UNITS),
            round_up(shape.inputs, CHUNK),
        )
        pad, pad_of_w1 = (8, 4) if self.tensor_cores else (4, 0)
        stride = units + pad
        floats = [columns * (units + pad_of_w1), units, self.buffers * rows * (CHUNK + pad), rows * stride]
        floats += [columns if shape.centred else 0]
        if shape.hidden:
            floats += [shape.classes * stride, shape.classes, rows * stride, rows * round_up(shape.classes, 4)]
        return sum(round_up(4 * count, ALIGNMENT) for count in floats) + round_up(8 * 2 * rows, ALIGNMENT)

    def fits(self, shape: Shape, device: Device) -> bool:
        tiles = round_up(shape.batch_size, TILE_ROWS) // TILE_ROWS * (round_up(shape.width, TILE_UNITS) // TILE_UNITS)
        return (
            shape.batch_size <= THREADS
            and tiles <= MOST_TILES * WARPS
            and device.compute_capability >= self.capability
            and self.shared_memory(shape) <= device.shared_memory
        )


ONE_BLOCK = OneBlock()
ONE_BLOCK_UNMEASURED = OneBlock(tensor_cores=True, step=15.0)  # chosen by name only, as `UNMEASURED` are
