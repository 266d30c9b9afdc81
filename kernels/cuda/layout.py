"""How the blocks of `train_epoch.cu` share a network with one hidden layer or none: pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmlp.kernels import EpochKind
from fastmlp.ops.network import Rule

from .driver import WARP, Device, Program, round_up
from .sources import define, define_optimizer, optimizers

FILE, SPECIALISED, KERNEL = "train_epoch.cu", "train_epoch_specialised.cu", "train_epoch"
WARPS = 8  # of a block, that compute
CLUSTERS = 90  # the first compute capability that has them
MOST_SLOTS = 4  # as in train_epoch.cu
MOST_UNITS = 32  # of a block: a lane's sums of them over four rows still fit into registers
UNITS_BESIDE_BATCHES = 16  # of a block with specialised warps; the sums of more are in a batch's place, see epoch.cuh
ALIGNMENT = 16  # bytes
PAIR = 2  # multiprocessors, of which no GPU lacks one


@dataclass(frozen=True)
class Shape:
    """What the kernel is compiled for: the network, its batches, and how it is trained."""

    inputs: int
    hidden: int  # units, 0 without a hidden layer
    classes: int
    batch_size: int
    optimizer: tuple[tuple[str, str | int], ...]  # its compiler options
    slots: int  # of a weight: its value, and the optimizer's moments
    centred: bool
    weighted: bool = False
    smoothed: bool = False

    @classmethod
    def of(
        cls,
        sizes: Sequence[int],
        batch_size: int,
        rule: Rule,
        centred: bool,
        weighted: bool = False,
        smoothed: bool = False,
    ) -> Shape:
        hidden = sizes[1] if len(sizes) > 2 else 0
        optimizer, slots = tuple(sorted(define_optimizer(rule).items())), 1 + len(rule.moments)
        return cls(sizes[0], hidden, sizes[-1], batch_size, optimizer, slots, centred, weighted, smoothed)

    @property
    def width(self) -> int:
        """Of the first layer."""
        return self.hidden or self.classes

    @property
    def constants(self) -> dict[str, str | int]:
        """What kernels are compiled for."""
        return {
            "INPUTS": self.inputs,
            "HIDDEN": self.hidden,
            "CLASSES": self.classes,
            "BATCH": self.batch_size,
            "CENTRED": int(self.centred),
            "WEIGHTED": int(self.weighted),
            "SMOOTHED": int(self.smoothed),
            **dict(self.optimizer),
        }


@dataclass(frozen=True)
class Layout:
    """split_k blocks share the inputs, split_n the hidden units; train_epoch.cu explains the rest.

    specialised: by train_epoch_specialised.cu. tensor_cores: which then compute the large products. step: its us on an
    H200, of 512-64-10 in batches of 64.
    """

    split_k: int
    split_n: int
    cluster: bool
    buffers: int
    passes: int
    specialised: bool = False
    tensor_cores: bool = False
    step: float = field(default=math.inf, compare=False)

    @property
    def blocks(self) -> int:
        return self.split_k * self.split_n

    @property
    def capability(self) -> int:
        """The least compute capability that it needs."""
        return CLUSTERS if self.cluster else 0

    @property
    def threads(self) -> int:
        """Of a block; specialised, with a warp that copies."""
        return WARP * (WARPS + self.specialised)

    def turns(self, device: Device, networks: int) -> int:
        """In how many turns a device trains so many networks.

        A cluster's blocks run next to each other, where some multiprocessors may be missing: on an H200 of 132, 8, 32
        and 132 networks took as long as with 15 clusters of eight at once, and not with 16.
        """
        at_once = device.multiprocessors // self.blocks - (self.cluster and self.blocks > PAIR)
        return -(-networks // max(at_once, 1))

    def __str__(self) -> str:
        kind = "cluster" if self.cluster else "grid"
        specialised = " specialised" * self.specialised + " tensor cores" * self.tensor_cores
        return f"{kind} {self.split_k}x{self.split_n} {self.buffers} buffers {self.passes} passes{specialised}"

    def program(self, shape: Shape) -> Program:
        return Program(
            SPECIALISED if self.specialised else FILE,
            KERNEL,
            define(
                **shape.constants,
                SPLIT_K=self.split_k,
                SPLIT_N=self.split_n,
                CLUSTER=int(self.cluster),
                BUFFERS=self.buffers,
                PASSES=self.passes,
                **({"TENSOR_CORES": int(self.tensor_cores)} if self.specialised else {}),
            ),
            shared_memory=self.shared_memory(shape),
            cooperative=not self.cluster,
            cluster=self.blocks if self.cluster else 1,
        )

    def batch_rows(self, shape: Shape) -> int:
        """The rows of a batch, padded for warps and blocks."""
        return round_up(shape.batch_size, max(16, self.blocks))

    def units(self, shape: Shape) -> int:
        """The first layer's units of a block, padded likewise."""
        return round_up(shape.width, 4 * self.split_n) // self.split_n

    def columns(self, shape: Shape) -> int:
        """The inputs of a block, padded for its warps."""
        return round_up(-(-shape.inputs // self.split_k), 4 * WARPS)

    def sent_classes(self, shape: Shape) -> int:
        """The classes as blocks send each other logits and deltas, padded for messages of four."""
        return round_up(shape.classes, 4) if self.specialised else shape.classes

    def coming_classes(self, shape: Shape) -> int:
        """Whose deltas a block is sent: without a hidden layer, its own."""
        return self.sent_classes(shape) if shape.hidden else self.units(shape)

    def inbox(self, shape: Shape) -> int:
        """How many numbers a block's inboxes hold: whole float4."""
        rows, units = self.batch_rows(shape), self.units(shape)
        sums = (self.split_k - 1) * rows * units
        logits = (self.split_n if shape.hidden else 1) * (rows // self.blocks) * self.sent_classes(shape)
        return round_up(2 * (sums + logits + rows * self.coming_classes(shape)), 4)

    def sums_in_batch(self, shape: Shape) -> bool:
        """Whether the warps' sums are in the next batch's place."""
        many = UNITS_BESIDE_BATCHES < self.units(shape) <= self.columns(shape) // WARPS
        return self.specialised and self.buffers == 2 and many

    def shared_memory(self, shape: Shape) -> int:
        """Bytes that a block takes, array by array like the kernel's `Share` and `Exchange`."""
        rows, units, classes = self.batch_rows(shape), self.units(shape), self.sent_classes(shape)
        columns, stride = self.columns(shape), self.columns(shape) + (8 if self.tensor_cores else 4)
        rest = units * classes + units + classes
        of_rest = [rest] if self.specialised else [units, *([units * classes, classes] if shape.hidden else [])]
        floats = [self.buffers * rows * stride] + [units * stride, *of_rest] * shape.slots
        sums = 0 if self.sums_in_batch(shape) else WARPS * rows // self.passes * units
        floats += [sums, rows * units, rows * units if shape.hidden else 0, columns]
        floats += [self.inbox(shape)] if self.cluster else [rows * self.coming_classes(shape)]
        if self.specialised:
            floats.append(WARPS * rest)
            wide = [self.buffers, self.buffers, 6]
        else:
            wide = [3 * rows, 6] if self.cluster else [3 * rows]
        return sum(round_up(4 * count, ALIGNMENT) for count in floats) + sum(
            round_up(8 * count, ALIGNMENT) for count in wide
        )

    def fits(self, shape: Shape, device: Device) -> bool:
        rows = self.batch_rows(shape)
        return (
            device.compute_capability >= self.capability
            and rows % self.blocks == 0
            and rows // self.passes % 16 == 0
            and self._has_kernel(shape)
            and self.blocks <= device.multiprocessors
            and self.shared_memory(shape) <= device.shared_memory
        )

    def _has_kernel(self, shape: Shape) -> bool:
        if self.tensor_cores and (self.columns(shape) // WARPS % 16 or self.units(shape) % 8):
            return False  # no whole tiles
        if not self.specialised:
            return self.units(shape) <= MOST_UNITS
        most = MOST_UNITS if self.sums_in_batch(shape) else UNITS_BESIDE_BATCHES
        return shape.hidden > 0 and self.units(shape) <= most


# For one network, what should be fastest comes first. A cluster's messages are faster than a grid's. Splitting the
# inputs in two halves what a block copies per step, so that the next batch fits beside this one; more parts cost more
# messages and need less shared memory. The time of a step is measured, where it is given.
LAYOUTS = (
    Layout(2, 8, cluster=True, buffers=2, passes=1, step=6.40),
    Layout(2, 4, cluster=True, buffers=2, passes=1, step=7.77),
    Layout(2, 4, cluster=True, buffers=1, passes=1, step=7.85),
    Layout(1, 8, cluster=True, buffers=1, passes=1, step=8.04),
    Layout(2, 8, cluster=False, buffers=2, passes=1),
    Layout(2, 8, cluster=False, buffers=1, passes=1),
    Layout(2, 8, cluster=False, buffers=1, passes=2),
    Layout(4, 8, cluster=False, buffers=1, passes=1),
    Layout(8, 8, cluster=False, buffers=1, passes=2),
)

# What no GPU has measured yet, and nobody chooses but by name; what turns out faster is to come first above. Times of
# steps are estimates. The first ones are for many networks: with fewer blocks a network, more of them run at once.
FEWER_BLOCKS = (
    Layout(2, 4, cluster=True, buffers=2, passes=1, specialised=True, tensor_cores=True, step=3.7),
    Layout(2, 2, cluster=True, buffers=2, passes=1, specialised=True, step=8.1),
    Layout(2, 2, cluster=True, buffers=2, passes=1, specialised=True, tensor_cores=True, step=5.8),
)
UNMEASURED = (
    Layout(2, 8, cluster=True, buffers=2, passes=1, specialised=True, step=3.6),
    Layout(2, 8, cluster=True, buffers=2, passes=1, specialised=True, tensor_cores=True, step=3.0),
    *FEWER_BLOCKS,
)


def candidates(shape: Shape, device: Device, tasks: int = 1, layouts: Sequence[Layout] = LAYOUTS) -> list[Layout]:
    """Those of the layouts that fit the device, in the order in which to try them: by the time that all tasks take.

    The more blocks a network has, the faster are its steps, and the fewer networks run at once. Those whose time is not
    known come last.
    """
    fitting = [layout for layout in layouts if layout.fits(shape, device)]
    return sorted(fitting, key=lambda layout: layout.turns(device, tasks) * layout.step)


def refusal(kind: EpochKind, device: Device, layouts: Sequence[Layout] = LAYOUTS) -> str:
    """Why `train_epoch.cu` cannot train such a network on the device; empty if it can."""
    rule = kind.optimizer
    if not kind.is_papers:
        return "the fused epoch is for ReLU, softmax and cross-entropy without a penalty"
    if rule.name not in optimizers():
        return f"the fused epoch has no step of {rule.name}"
    if len(rule.moments) >= MOST_SLOTS:
        return f"the fused epoch keeps up to {MOST_SLOTS - 1} moments, and {rule.name} has {len(rule.moments)}"
    if kind.dtype != "float32":
        return "the fused epoch computes in float32"
    if len(kind.sizes) > 3:
        return "the fused epoch is for up to one hidden layer"
    smoothed = kind.smoothing > 0
    shape = Shape.of(kind.sizes, kind.batch_size, rule, centred=True, weighted=kind.weighted, smoothed=smoothed)
    if not candidates(shape, device, layouts=layouts):
        return f"the fused epoch needs more shared memory than the {device.shared_memory} bytes that {device.name} has"
    return ""
