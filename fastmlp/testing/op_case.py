"""What a case of an op is: how its inputs are drawn, what it fills, on which shapes and with which hazards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend, Kernel
from fastmlp.ops import overridden
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps

ArrayCode = Callable[..., None]  # op(xp, *inputs, *outputs): fills its outputs
Truth = Callable[..., Mapping[str, NDArray[Any]]]
Rng = np.random.Generator
Shape = tuple[int, ...]
Inputs = dict[str, Any]  # host arrays and plain numbers, by the op's argument names, in their order
Draw = Callable[[np.random.Generator, Shape, str], Inputs]
Outputs = Callable[[Inputs], dict[str, tuple[Shape, str]]]  # (shape, dtype) of each output, likewise

FLOATS = ("float32", "float64")
# The ops of a backend by their family, and the class that has them in array code.
FAMILIES: Mapping[str, Callable[[Backend], tuple[Any, type]]] = {
    "network": lambda backend: (backend.network_ops, NetworkOps),
    "patches": lambda backend: (backend.patch_ops, PatchOps),
}
PLANTED = {"nan": (np.nan,), "inf": (np.inf, -np.inf)}


@dataclass(frozen=True)
class OpCase:
    """All that the tests, the benchmarks and a backend's doctor need to know of one op.

    op          its name: a method of `NetworkOps` or `PatchOps`, or an augmentation's op
    array_code  `array_code(xp, *inputs, *outputs)` fills the outputs
    draw        `draw(rng, shape, dtype)` gives inputs by argument name; away from ReLU's kink, gradients random
    outputs     the (shape, dtype) of every output, by argument name, for such inputs
    shapes      what `draw` takes; each op says what its numbers mean, and one of them has no rows
    flops       arithmetic operations for a shape, a fused multiply-add being two
    bytes       `bytes(shape, itemsize)`: memory traffic, every input read once and every output written once
    dtypes      of the floats (or the images) drawn
    draws       further draws, by the hazard's name: "huge" logits, "ties", "flat" images
    planted     of "nan" and "inf": what to plant in every float array
    truth       `truth(**inputs)`, of float64 inputs, gives each output in float64, by code of `testing.reference`
                alone, which shares nothing with what it judges
    aliases     output -> the input whose memory it may share
    transposed  inputs that must also be taken as transposed views
    exact       values only move, so that not a bit may change
    family      the ops of a backend that it belongs to: "network", "patches" or "images"
    label       what tells it from other cases of its op
    """

    op: str
    array_code: ArrayCode
    draw: Draw
    outputs: Outputs
    shapes: tuple[Shape, ...]
    flops: Callable[[Shape], int]
    bytes: Callable[[Shape, int], int]
    dtypes: tuple[str, ...] = FLOATS
    draws: Mapping[str, Draw] = field(default_factory=dict)
    planted: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    truth: Truth | None = None  # None: the array code in float64
    exact: bool = False
    family: str = "images"
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.op

    def kernel(self, backend: Backend) -> Kernel | None:
        """What the backend has in place of the array code, called without the namespace; None if nothing."""
        if self.family == "images":
            return backend.image_kernels.get(self.op)
        ops, array_code = FAMILIES[self.family](backend)
        if self.op == "update":
            return ops.update if self.label.removesuffix(" update") in ops.optimizers else None
        return getattr(ops, self.op) if self.op in overridden(ops, array_code) else None

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the ways in which this case is run.

        "plain"; each further draw; each kind of planted value; "strided" (no input is contiguous); "transposed x"
        (the input x is a transposed view); "aliased" (outputs share the memory of inputs), for each draw.
        """
        transposed = (f"transposed {name}" for name in self.transposed)
        aliased = ("aliased", *(f"aliased {name}" for name in self.draws)) if self.aliases else ()
        return ("plain", *self.draws, *self.planted, "strided", *transposed, *aliased)

    def trials(self, dtype: str, seed: int = 0) -> Iterator[Trial]:
        """Every shape in every variant."""
        for shape in self.shapes:
            for variant in self.variants:
                yield Trial(self, shape, dtype, variant, seed)


@dataclass(frozen=True)
class Trial:
    """One run of a case: its inputs depend on these fields alone, so a failure repeats by itself."""

    case: OpCase
    shape: Shape
    dtype: str
    variant: str = "plain"
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.case.name} ({self.variant}, {self.dtype}, shape {self.shape}, seed {self.seed})"

    @property
    def aliases(self) -> Mapping[str, str]:
        """output -> the input whose memory it shares in this variant."""
        return self.case.aliases if self.variant.startswith("aliased") else {}

    def inputs(self) -> Inputs:
        """Inputs on the host, newly drawn."""
        values = self.case.draws.get(self.variant.removeprefix("aliased "), self.case.draw)
        key = crc32(f"{self.case.name} {self.shape} {self.dtype} {self.variant}".encode())
        rng = np.random.default_rng([self.seed, key])
        inputs = values(rng, self.shape, self.dtype)
        _plant(rng, inputs, PLANTED.get(self.variant, ()))
        return inputs


def _plant(rng: np.random.Generator, inputs: Inputs, values: tuple[float, ...]) -> None:
    """Put each value somewhere in every float array, in place."""
    for array in inputs.values():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.size:
            for value in values:
                array.flat[rng.integers(array.size)] = value


# Small parts of cases.


def like(source: str, output: str = "out") -> Outputs:
    """One output, of the shape and dtype of that input."""
    return lambda inputs: {output: (inputs[source].shape, inputs[source].dtype.name)}


def size(shape: Shape) -> int:
    return int(np.prod(shape))


def method(ops: type, name: str) -> ArrayCode:
    """An op of a class as array code that takes the namespace first."""
    function = getattr(ops, name)

    @wraps(function)
    def array_code(xp: Any, *arguments: Any) -> None:
        function(ops(xp), *arguments)

    return array_code
