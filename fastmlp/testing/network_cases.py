"""The cases of the network's ops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.ops.network import NetworkOps
from fastmlp.testing.loss_cases import LOSS_CASES
from fastmlp.testing.op_case import Draw, Inputs, OpCase, Outputs, Rng, Shape, like, method, size
from fastmlp.testing.prediction_cases import PREDICTION_CASES
from fastmlp.testing.reference import network_ops as reference
from fastmlp.testing.update_cases import UPDATE_CASES

AWAY = 0.1  # how far from ReLU's kink inputs are drawn, against a spread of 1

# (rows, columns). Kernels take elements, rows or columns in groups: of 4 and 8, of a warp's 32, of a block's 64 and
# 128, 512 in all. So there are shapes below and above each, some of them several times, and few that they divide.
MATRICES: tuple[Shape, ...] = (
    *((0, 10), (1, 2), (2, 1), (37, 10), (64, 10), (3, 33), (5, 200)),
    *((130, 5), (67, 130), (64, 64), (2, 1_537), (1_030, 3)),
)
# (m, k, n). A product's tiles are of 16, 32 or 64 rows and columns; its chunks, of 32 to 512 of k.
PRODUCTS: tuple[Shape, ...] = (
    *((0, 5, 3), (4, 0, 3), (6, 1, 2), (1, 7, 5), (37, 10, 7), (9, 130, 1), (16, 65, 33), (33, 64, 70)),
    *((70, 127, 16), (20, 257, 36), (3, 515, 48), (64, 512, 64)),
)
# With so many rows and columns that tiles of 32 and of 64 leave no multiprocessor of any GPU idle.
MEDIUM_TILES: tuple[Shape, ...] = ((256, 131, 283), (271, 260, 256))
LARGE_TILES: tuple[Shape, ...] = ((576, 66, 515), (523, 133, 576))


def draw_gather(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Rows of features, or for a shape (m,) weights; some rows twice, some not at all."""
    source_rows = 2 * shape[0] + 1
    source = rng.standard_normal((source_rows, *shape[1:])).astype(dtype)
    return {"source": source, "index": rng.integers(0, source_rows, shape[0])}


def draw_gather_labels(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Labels that need all bits of an int64, and often differ only in the higher ones."""
    inputs = draw_gather(rng, shape, dtype)
    low, high = rng.integers(0, 2, (2, len(inputs["source"])))
    return {"source": low + (high << 33) - (high << 62), "index": inputs["index"]}


def draw_standardize(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Features of a mean and a spread of about 1, as a backbone's are."""
    return _standardize(rng, shape, dtype, mean=rng.uniform(0.5, 2, shape[1]))


def draw_far_means(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Columns around means a hundred times their spread: a difference of products would lose two digits."""
    return _standardize(rng, shape, dtype, mean=rng.permutation(np.linspace(-100, 100, shape[1])))


def _standardize(rng: Rng, shape: Shape, dtype: str, mean: NDArray[np.float64]) -> Inputs:
    features = mean + rng.standard_normal(shape)
    return {"features": features.astype(dtype), "mean": mean.astype(dtype), "scale": 1.7}


def draw_matmul(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (m, k, n)."""
    m, k, n = shape
    return {"a": rng.standard_normal((m, k)).astype(dtype), "b": rng.standard_normal((k, n)).astype(dtype)}


def draw_dense(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (m, k, n)."""
    product = draw_matmul(rng, shape, dtype)
    bias = rng.standard_normal(shape[2]).astype(dtype)
    return {"a": product["a"], "weight": product["b"], "bias": bias}


def draw_dense_backward(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (m, k, n)."""
    product = draw_matmul(rng, shape, dtype)
    activation = np.maximum(_away_from_zero(rng, (shape[0], shape[2])), 0).astype(dtype)
    return {"delta": product["a"], "weight": product["b"], "activation": activation}


def draw_dense_gradients(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (m, k, n): m rows in a batch, k inputs, n units."""
    m, k, n = shape
    product = draw_matmul(rng, (k, m, n), dtype)
    return {"inputs": product["a"], "delta": product["b"]}


def gradient_outputs(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    k, n = inputs["inputs"].shape[0], inputs["delta"].shape[1]
    dtype = inputs["delta"].dtype.name
    return {"weight_gradient": ((k, n), dtype), "bias_gradient": ((n,), dtype)}


def product_flops(shape: Shape) -> int:
    return 2 * size(shape)


def product_bytes(shape: Shape, itemsize: int) -> int:
    m, k, n = shape
    return itemsize * (m * k + k * n + m * n)


def draw_add_bias(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"z": rng.standard_normal(shape).astype(dtype), "bias": rng.standard_normal(shape[1]).astype(dtype)}


def draw_bias_relu(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    bias = rng.standard_normal(shape[1])
    return {"z": (_away_from_zero(rng, shape) - bias).astype(dtype), "bias": bias.astype(dtype)}


def draw_kinks(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Sums that are exactly zero, and others that are not."""
    bias = rng.integers(-2, 3, shape[1])
    return {"z": rng.integers(-2, 3, shape).astype(dtype), "bias": bias.astype(dtype)}


def draw_relu_backward(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    gradient, activation = rng.standard_normal(shape), np.maximum(_away_from_zero(rng, shape), 0)
    return {"gradient": gradient.astype(dtype), "activation": activation.astype(dtype)}


def draw_column_sum(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"values": rng.standard_normal(shape).astype(dtype)}


def _away_from_zero(rng: Rng, shape: Shape) -> NDArray[np.float64]:
    values = rng.standard_normal(shape)
    return values + np.copysign(AWAY, values)


# The table.


def _case(op: str, draw: Draw, outputs: Outputs, **fields: Any) -> OpCase:
    return OpCase(op, method(NetworkOps, op), draw, outputs, getattr(reference, op), family="network", **fields)


_GATHER = _case(
    "gather",
    draw_gather,
    lambda inputs: {"out": ((len(inputs["index"]), *inputs["source"].shape[1:]), inputs["source"].dtype.name)},
    shapes=(
        *((0, 10), (1, 2), (37, 10), (65, 1), (7, 3), (33, 4), (9, 5), (300, 8), (3, 130), (64, 512)),
        *((64,), (1_027,)),
    ),
    planted=("nan", "inf"),
    exact=True,
    flops=lambda shape: 0,
    bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 8 * shape[0],
)
_MATMUL = _case(
    "matmul",
    draw_matmul,
    lambda inputs: {"out": ((inputs["a"].shape[0], inputs["b"].shape[1]), inputs["a"].dtype.name)},
    shapes=PRODUCTS,
    planted=("nan", "inf"),
    transposed=("a", "b"),
    flops=product_flops,
    bytes=product_bytes,
)
_DENSE, _DENSE_RELU = (
    _case(
        op,
        draw_dense,
        lambda inputs: {"out": ((inputs["a"].shape[0], inputs["weight"].shape[1]), inputs["a"].dtype.name)},
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        flops=product_flops,
        bytes=product_bytes,
    )
    for op in ("dense", "dense_relu")
)
_DENSE_BACKWARD = _case(
    "dense_backward",
    draw_dense_backward,
    like("activation"),
    shapes=PRODUCTS,
    planted=("nan", "inf"),
    transposed=("weight",),
    flops=product_flops,
    bytes=lambda shape, itemsize: product_bytes(shape, itemsize) + itemsize * shape[0] * shape[2],
)
_DENSE_GRADIENTS = _case(
    "dense_gradients",
    draw_dense_gradients,
    gradient_outputs,
    shapes=PRODUCTS,
    planted=("nan", "inf"),
    transposed=("inputs",),
    flops=product_flops,
    bytes=product_bytes,
)


def _in_larger_tiles(case: OpCase) -> Iterator[OpCase]:
    layouts = ("contiguous", *(f"transposed {name}" for name in case.transposed))
    for hazard, shapes in (("medium tiles", MEDIUM_TILES), ("large tiles", LARGE_TILES)):
        sums_over_rows = case.op == "dense_gradients"
        swapped = tuple((k, m, n) if sums_over_rows else (m, k, n) for m, k, n in shapes)
        yield case.with_hazard(hazard, case.draw, ((0, 5, 3), *swapped), layouts=layouts)


NETWORK_CASES = (
    _GATHER,
    _GATHER.with_hazard("labels", draw_gather_labels, ((0,), (37,), (1_027,)), layouts=None, dtypes=("int64",)),
    _case(
        "standardize",
        draw_standardize,
        like("features"),
        shapes=MATRICES,
        draws={"far means": draw_far_means},
        planted=("nan", "inf"),
        aliases={"out": "features"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    *(_MATMUL, *_in_larger_tiles(_MATMUL)),
    *(_DENSE, *_in_larger_tiles(_DENSE)),
    *(_DENSE_RELU, *_in_larger_tiles(_DENSE_RELU)),
    *(_DENSE_BACKWARD, *_in_larger_tiles(_DENSE_BACKWARD)),
    *(_DENSE_GRADIENTS, *_in_larger_tiles(_DENSE_GRADIENTS)),
    _case(
        "add_bias",
        draw_add_bias,
        like("z"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "z"},
        flops=size,
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    _case(
        "bias_relu",
        draw_bias_relu,
        like("z"),
        shapes=MATRICES,
        draws={"kinks": draw_kinks},
        planted=("nan", "inf"),
        aliases={"out": "z"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    _case(
        "relu_backward",
        draw_relu_backward,
        like("gradient"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "gradient"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * size(shape),
    ),
    _case(
        "column_sum",
        draw_column_sum,
        lambda inputs: {"out": (inputs["values"].shape[1:], inputs["values"].dtype.name)},
        shapes=MATRICES,
        planted=("nan", "inf"),
        flops=size,
        bytes=lambda shape, itemsize: itemsize * (size(shape) + shape[1]),
    ),
    *LOSS_CASES,
    *PREDICTION_CASES,
    *UPDATE_CASES,
)
