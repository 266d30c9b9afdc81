"""Small matrix products held in registers: the inner loops of the fused epoch.

A tile is C (rows, line) = sum over k < depth of A(r, k) * B[k], where B[k] is one cache line: 16 float32 or 8 float64.
Its rows * line sums stay in registers; each k costs one line of B and, for every row, one number of A and one fused
multiply-add. A is read in place, through a table of positions, so that no batch is ever gathered:

    along rows:   A(r, k) = a[table[start + r] + k]      the rows of a batch, times weights
    along depth:  A(r, k) = a[table[k] + start + r]      a batch transposed, times gradients

For loops over scalars, half of the speed would depend on the compiler's luck; so this is vector code in LLVM, which
maps it to the CPU's instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array

from .jit import inlined, intrinsic, jit

LINE = 64  # bytes of a cache line
TALLEST = {64: 8, 32: 6, 16: 4}  # rows of a tile, by the bytes of a register: the sums fill most of the registers
INT64, INT32, POINTER = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()


def vector_bytes() -> int:
    """The size of this CPU's widest registers, which decides how fast the code is, not what it computes."""
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


class TileCode:
    """Generates one tile's code: the sums start at zero, or by `load`; `add` adds to them, `store` writes them."""

    def __init__(self, builder: Any, element: Any, rows: int, register_bytes: int) -> None:
        self.builder, self.rows = builder, rows
        self.size = 4 if isinstance(element, ir.FloatType) else 8
        self.lanes = register_bytes // self.size
        self.vector = ir.VectorType(element, self.lanes)
        self.offsets = [INT64(offset) for offset in range(0, LINE // self.size, self.lanes)]
        self.sums = [[cgutils.alloca_once(builder, self.vector) for _ in self.offsets] for _ in range(rows)]
        for sums in self.sums:
            for place in sums:
                builder.store(ir.Constant(self.vector, [0.0] * self.lanes), place)
        name = f"llvm.fmuladd.v{self.lanes}f{8 * self.size}"
        self.fmuladd = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name
        )

    def at(self, base: Any, *positions: Any) -> Any:
        for position in positions:
            base = self.builder.gep(base, [position])
        return base

    def through(self, base: Any, table: Any, index: Any) -> Any:
        """The address base + table[index]."""
        return self.at(base, self.builder.load(self.at(table, index)))

    def add(self, numbers: list[Any], line: Any) -> None:
        """sums[r] += the number at numbers[r] * the line."""
        builder = self.builder
        factors = [self._vector_at(self.at(line, offset)) for offset in self.offsets]
        for number, sums in zip(numbers, self.sums, strict=True):
            spread = self._spread(builder.load(number))
            for factor, place in zip(factors, sums, strict=True):
                builder.store(builder.call(self.fmuladd, [spread, factor, builder.load(place)]), place)

    def fetch(self, address: Any) -> None:
        """Prefetch the cache line at the address."""
        kinds = [POINTER, INT32, INT32, INT32]
        prefetch = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        read, second_level, data = INT32(0), INT32(2), INT32(1)
        self.builder.call(prefetch, [self.builder.bitcast(address, POINTER), read, second_level, data])

    def load(self, c: Any, stride: Any) -> None:
        for place, address in self._places(c, stride):
            self.builder.store(self._vector_at(address), place)

    def store(self, c: Any, stride: Any) -> None:
        for place, address in self._places(c, stride):
            target = self.builder.bitcast(address, self.vector.as_pointer())
            self.builder.store(self.builder.load(place), target, align=self.size)

    def _places(self, c: Any, stride: Any) -> Iterator[tuple[Any, Any]]:
        """Where each sum is kept, and its address in memory."""
        for row, sums in enumerate(self.sums):
            start = self.at(c, self.builder.mul(stride, INT64(row)))
            for offset, place in zip(self.offsets, sums, strict=True):
                yield place, self.at(start, offset)

    def _vector_at(self, address: Any) -> Any:
        pointer = self.builder.bitcast(address, self.vector.as_pointer())
        return self.builder.load(pointer, align=self.size, typ=self.vector)

    def _spread(self, number: Any) -> Any:
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, number, INT32(0))
        all_first = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, nothing, all_first)


def _rows_code(code: TileCode, table: Any, start: Any, depth: Any, a: Any, b: Any, stride: Any, ahead: Any) -> None:
    """Line by line along all rows at once; meanwhile the same line of the rows ahead is prefetched."""
    builder, line = code.builder, INT64(LINE // code.size)
    index = [builder.add(start, INT64(row)) for row in range(code.rows)]
    rows = [code.through(a, table, i) for i in index]
    rows_ahead = [code.through(a, ahead, i) for i in index]

    def add(k: Any) -> None:
        code.add([code.at(row, k) for row in rows], code.at(b, builder.mul(k, stride)))

    with cgutils.for_range(builder, builder.sdiv(depth, line)) as lines:
        first = builder.mul(lines.index, line)
        for row in rows_ahead:
            code.fetch(code.at(row, first))
        with cgutils.for_range(builder, line) as loop:
            add(builder.add(first, loop.index))
    rest = builder.srem(depth, line)
    with cgutils.for_range(builder, rest) as loop:
        add(builder.add(builder.sub(depth, rest), loop.index))


def _depth_code(code: TileCode, table: Any, start: Any, depth: Any, a: Any, b: Any, stride: Any) -> None:
    builder = code.builder
    with cgutils.for_range(builder, depth) as loop:
        first = code.at(code.through(a, table, loop.index), start)
        numbers = [code.at(first, INT64(row)) for row in range(code.rows)]
        code.add(numbers, code.at(b, builder.mul(loop.index, stride)))


def make_tile(rows: int, along_rows: bool, register_bytes: int) -> Any:
    """For jitted code: tile(a, table, start, depth, b, b_start, b_stride, c, c_start, c_stride, ahead, adds).

    b, c: flat arrays of one dtype; a, table, ahead: addresses, of numbers of that dtype and of int64 positions among
    them; `ahead` is read along rows only. adds: to C, instead of replacing it.
    """

    @intrinsic
    def tile(_, a, table, start, depth, b, b_start, b_stride, c, c_start, c_stride, ahead, adds):  # type: ignore[no-untyped-def]
        signature = types.void(a, table, start, depth, b, b_start, b_stride, c, c_start, c_stride, ahead, adds)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def data(position: int) -> Any:
                return make_array(signature.args[position])(context, builder, arguments[position]).data

            element = context.get_value_type(signature.args[4].dtype)
            code = TileCode(builder, element, rows, register_bytes)
            a = builder.inttoptr(arguments[0], element.as_pointer())
            table, ahead = (builder.inttoptr(arguments[k], INT64.as_pointer()) for k in (1, 10))
            b, c = code.at(data(4), arguments[5]), code.at(data(7), arguments[8])
            start, depth, adds = arguments[2], arguments[3], arguments[11]
            with builder.if_then(adds):
                code.load(c, arguments[9])
            if along_rows:
                _rows_code(code, table, start, depth, a, b, arguments[6], ahead)
            else:
                _depth_code(code, table, start, depth, a, b, arguments[6])
            code.store(c, arguments[9])
            return context.get_dummy_value()

        return signature, generate

    return tile


@intrinsic
def _address(_, array):  # type: ignore[no-untyped-def]
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, INT64)

    return types.int64(array), generate


def make_product(along_rows: bool, register_bytes: int) -> Callable[..., None]:
    """product(a, table, first, count, depth, b, b_start, b_stride, c, c_start, c_stride, ahead, adds).

    Row first + i of `count` goes to c_start + i * c_stride, in the tallest tiles that fit. What is only read goes to
    the tiles by its address, and is the caller's to keep: so they are compiled once, for any kind of array.
    """
    tallest = TALLEST[register_bytes]
    tall, half, pair, single = (make_tile(rows, along_rows, register_bytes) for rows in (tallest, 4, 2, 1))

    @jit
    def tiles(a, table, first, count, depth, b, b_start, b_stride, c, c_start, c_stride, ahead, adds):  # type: ignore[no-untyped-def]
        i = 0
        while i < count:
            left = count - i
            place = c_start + i * c_stride
            if left >= tallest:
                tall(a, table, first + i, depth, b, b_start, b_stride, c, place, c_stride, ahead, adds)
                i += tallest
            elif left >= 4:
                half(a, table, first + i, depth, b, b_start, b_stride, c, place, c_stride, ahead, adds)
                i += 4
            elif left >= 2:
                pair(a, table, first + i, depth, b, b_start, b_stride, c, place, c_stride, ahead, adds)
                i += 2
            else:
                single(a, table, first + i, depth, b, b_start, b_stride, c, place, c_stride, ahead, adds)
                i += 1

    @inlined
    def product(a, table, first, count, depth, b, b_start, b_stride, c, c_start, c_stride, ahead, adds):  # type: ignore[no-untyped-def]
        start, rows, place = np.int64(first), np.int64(count), np.int64(c_start)  # Numba would compile for each literal
        tiles(_address(a), _address(table), start, rows, depth, b, b_start, b_stride, c, place, c_stride,
              _address(ahead), adds)  # fmt: skip

    return product


rows_product = make_product(True, vector_bytes())
depth_product = make_product(False, vector_bytes())
