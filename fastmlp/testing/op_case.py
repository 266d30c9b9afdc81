"""What a case of an op is: how its inputs are drawn, what it fills, on which shapes and with which hazards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True, eq=False)
class OpCase:
    """All that the tests, the benchmarks and a backend's doctor need to know of one op.

    op          its name: a method of `NetworkOps` or `PatchOps`, or an augmentation's op
    array_code  `array_code(xp, *inputs, *outputs)` fills the outputs
    draw        `draw(rng, shape, dtype)` gives inputs by argument name; away from ReLU's kink, gradients random
    outputs     the (shape, dtype) of every output, by argument name, for such inputs
    truth       `truth(**inputs)` gives each output in float64, by nothing but code of `testing.reference`
    shapes      what `draw` takes; each op says what its numbers mean, and one of them has no rows
    flops       arithmetic operations for a shape, a fused multiply-add being two
    bytes       `bytes(shape, itemsize)`: memory traffic, every input read once and every output written once
    dtypes      of the floats (or the images) drawn
    draws       further draws, by the hazard's name: "huge" logits, "ties", "flat" images
    planted     of "nan" and "inf": what to plant in every float array
    groups      output -> the axis along which each index is judged by itself, because magnitudes differ
    aliases     output -> the input whose memory it may share
    transposed  inputs that must also be taken as transposed views
    layouts     how the arrays lie; None: in every way, see `layouts_of`
    exact       values only move, so that not a bit may change
    family      the ops of a backend that it belongs to: "network", "patches" or "images"; "logistic" has no kernels
    label       what tells it from other cases of its op
    hazard      what it adds to the op's case of the same name: "many rows"
    """

    op: str
    array_code: ArrayCode
    draw: Draw
    outputs: Outputs
    truth: Truth
    shapes: tuple[Shape, ...]
    flops: Callable[[Shape], int]
    bytes: Callable[[Shape, int], int]
    dtypes: tuple[str, ...] = FLOATS
    draws: Mapping[str, Draw] = field(default_factory=dict)
    planted: tuple[str, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    layouts: tuple[str, ...] | None = None
    exact: bool = False
    family: str = "images"
    label: str = ""
    hazard: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.label or self.op, self.hazard)))

    def with_hazard(self, hazard: str, draw: Draw, shapes: tuple[Shape, ...], **fields: Any) -> OpCase:
        """The same op on other numbers and shapes, its arrays contiguous unless said otherwise."""
        plain: dict[str, Any] = {"draws": {}, "planted": (), "layouts": ("contiguous",)}
        return replace(self, hazard=hazard, draw=draw, shapes=shapes, **{**plain, **fields})

    def kernel(self, backend: Backend) -> Kernel | None:
        """What the backend has in place of the array code, called without the namespace; None if nothing."""
        if self.family == "images":
            return backend.image_kernels.get(self.op)
        if self.family == "logistic":
            return None
        ops, array_code = FAMILIES[self.family](backend)
        if self.op == "update":
            return ops.update if self.label.split()[0] in ops.optimizers else None
        return getattr(ops, self.op) if self.op in overridden(ops, array_code) else None

    def layouts_of(self, draw: str, shape: Shape) -> tuple[str, ...]:
        """How the arrays of a trial of that draw lie (see `testing.layouts`): "plain" has them in every way.

        Arrays with gaps need two rows and two columns: with fewer, there are none.
        """
        if self.layouts is not None:
            return self.layouts
        aliased = ("aliased",) if self.aliases else ()
        if draw != "plain":
            return ("contiguous", *aliased)
        mixed = ("mixed",) if min(shape) > 1 else ()
        return ("contiguous", "misaligned", *(f"transposed {name}" for name in self.transposed), *mixed, *aliased)

    def trials(self, dtype: str, seed: int = 0) -> Iterator[Trial]:
        """Every shape, with every draw, in its layouts."""
        for shape in self.shapes:
            for draw in ("plain", *self.draws, *self.planted):
                for layout in self.layouts_of(draw, shape):
                    yield Trial(self, shape, dtype, draw, layout, seed)


@dataclass(frozen=True)
class Trial:
    """One run of a case, which repeats by itself: its layout says how arrays lie, all else which numbers they hold."""

    case: OpCase
    shape: Shape
    dtype: str
    draw: str = "plain"
    layout: str = "contiguous"
    seed: int = 0

    def __str__(self) -> str:
        how = f"{self.draw}, {self.layout}, {self.dtype}, shape {self.shape}, seed {self.seed}"
        return f"{self.case.name} ({how})"

    @property
    def aliases(self) -> Mapping[str, str]:
        """output -> the input whose memory it shares in this layout."""
        return self.case.aliases if self.layout == "aliased" else {}

    def inputs(self) -> Inputs:
        """Inputs on the host, newly drawn."""
        key = crc32(f"{self.case.name} {self.shape} {self.dtype} {self.draw}".encode())
        rng = np.random.default_rng([self.seed, key])
        inputs = self.case.draws.get(self.draw, self.case.draw)(rng, self.shape, self.dtype)
        _plant(rng, inputs, PLANTED.get(self.draw, ()))
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
