"""The cases of the network's ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.optimizers import OPTIMIZERS, Optimizer
from fastmlp.ops.network import NetworkOps
from fastmlp.testing.op_case import Draw, Inputs, OpCase, Outputs, Rng, Shape, like, method, size
from fastmlp.testing.reference import network_ops

AWAY = 0.1  # how far from ReLU's kink inputs are drawn, against a spread of 1
HUGE = 1e4  # logits of a run about to diverge: their exponentials overflow unless the largest is taken off first
LEARNING_RATE = 0.05
WEIGHT_DECAY = 2.0  # a tenth of a weight per step: an update without it is found
STEPS = 6  # of an optimizer, until its moments are those of a run

# (rows, columns): no row, one row, a ragged batch, the paper's logits, the paper's hidden layer
MATRICES: tuple[Shape, ...] = ((0, 10), (1, 2), (37, 10), (64, 10), (64, 64))
PRODUCTS: tuple[Shape, ...] = ((0, 5, 3), (1, 1, 2), (37, 10, 7), (64, 512, 64))  # (m, k, n)
PARAMETERS: tuple[Shape, ...] = ((0,), (1,), (370,), (32_768,))


def draw_gather(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Rows of features, or for a shape (m,) labels; some rows twice, some not at all."""
    source_rows = 2 * shape[0] + 1
    if len(shape) == 1:
        source = rng.integers(0, 10, source_rows)
    else:
        source = rng.standard_normal((source_rows, *shape[1:])).astype(dtype)
    return {"source": source, "index": rng.integers(0, source_rows, shape[0])}


def draw_standardize(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Features of a mean and a spread of about 1, as a backbone's are."""
    mean = rng.uniform(0.5, 2, shape[1])
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


def draw_relu_backward(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    gradient, activation = rng.standard_normal(shape), np.maximum(_away_from_zero(rng, shape), 0)
    return {"gradient": gradient.astype(dtype), "activation": activation.astype(dtype)}


def draw_column_sum(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"values": rng.standard_normal(shape).astype(dtype)}


def draw_softmax_xent(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Logits of which about half have their largest at the label.

    The first row has it elsewhere: a row that is surely right has a gradient of p - 1, whose digits cancel in any code.
    """
    labels = _labels(rng, shape)
    logits = 2 * rng.standard_normal(shape)
    logits[np.arange(shape[0]), labels] += 3
    labels[:1] = np.argmin(logits[:1], axis=1)
    return {"logits": logits.astype(dtype), "labels": labels}


def draw_huge_logits(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Logits so far apart that all probabilities are 0 or 1."""
    ladder = np.tile(HUGE * np.arange(shape[1]), (shape[0], 1))
    return {"logits": rng.permuted(ladder, axis=1).astype(dtype), "labels": _labels(rng, shape)}


def draw_tied_logits(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Equal largest logits, of which the first counts; and largest ones that are a rounding apart, and do not tie."""
    logits = rng.integers(0, 2, shape).astype(dtype)
    labels = np.where(rng.random(shape[0]) < 0.8, np.argmax(logits, axis=1), _labels(rng, shape))
    near = rng.random(shape[0]) < 0.5
    logits[near] = logits[near] * np.finfo(dtype).eps
    return {"logits": logits, "labels": labels}


def draw_weighted_softmax_xent(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """The same, with weights of about 1 and now and then 0."""
    inputs = draw_softmax_xent(rng, shape, dtype)
    weights = rng.uniform(0.5, 2, shape[0]) * (rng.random(shape[0]) < 0.9)
    return {"logits": inputs["logits"], "labels": inputs["labels"], "weights": weights.astype(dtype)}


def softmax_outputs(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    logits = inputs["logits"]
    return {"gradient": (logits.shape, logits.dtype.name), "loss": ((1,), logits.dtype.name), "hits": ((1,), "int64")}


def update_draw(kind: type[Optimizer], weight_decay: float = WEIGHT_DECAY, size: float = 1.0) -> Draw:
    """Draws an update in the midst of a run: the moments are what some steps of gradients of that size leave."""

    def draw(rng: Rng, shape: Shape, dtype: str) -> Inputs:
        optimizer, (count,) = kind(weight_decay), shape
        rows = optimizer.coefficients(np.full(STEPS, LEARNING_RATE), first_step=1)
        moments: Sequence[NDArray[np.float64]] = [np.zeros(count) for _ in optimizer.moments]
        for row in rows[:-1]:
            _, moments = optimizer.step(np, size * rng.standard_normal(count), moments, row[1:].tolist())
        return {
            "optimizer": optimizer,
            "slots": np.stack([rng.standard_normal(count), *moments]).astype(dtype),
            "gradient": (size * rng.standard_normal(count)).astype(dtype),
            "coefficients": tuple(rows[-1].tolist()),
            "decays": True,
        }

    return draw


def without_decay(draw: Draw) -> Draw:
    """The same update for biases, which weight decay leaves alone."""
    return lambda rng, shape, dtype: {**draw(rng, shape, dtype), "decays": False}


def update_case(kind: type[Optimizer]) -> OpCase:
    """The case of an optimizer's update; with tiny gradients Adam's epsilon decides."""
    draw, slots = update_draw(kind), 1 + len(kind.moments)
    return _case(
        "update",
        draw,
        like("slots"),
        label=f"{kind.name} update",
        shapes=PARAMETERS,
        draws={
            "undecayed": without_decay(draw),
            "all kept": update_draw(kind, weight_decay=0.0),
            "tiny": update_draw(kind, size=1e-8),
        },
        planted=("nan", "inf"),
        aliases={"out": "slots"},
        flops=lambda shape: 7 * slots * size(shape),
        bytes=lambda shape, itemsize: (2 * slots + 1) * itemsize * size(shape),
    )


def _away_from_zero(rng: Rng, shape: Shape) -> NDArray[np.float64]:
    values = rng.standard_normal(shape)
    return values + np.copysign(AWAY, values)


def _labels(rng: Rng, shape: Shape) -> NDArray[np.int64]:
    return rng.integers(0, shape[1], shape[0])


# The table.


def _case(op: str, draw: Draw, outputs: Outputs, **fields: Any) -> OpCase:
    truth = getattr(network_ops, op, None)
    return OpCase(op, method(NetworkOps, op), draw, outputs, family="network", truth=truth, **fields)


NETWORK_CASES = (
    _case(
        "gather",
        draw_gather,
        lambda inputs: {"out": ((len(inputs["index"]), *inputs["source"].shape[1:]), inputs["source"].dtype.name)},
        shapes=((0, 10), (1, 2), (37, 10), (64, 512), (64,)),
        planted=("nan", "inf"),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 8 * shape[0],
    ),
    _case(
        "standardize",
        draw_standardize,
        like("features"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "features"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    _case(
        "matmul",
        draw_matmul,
        lambda inputs: {"out": ((inputs["a"].shape[0], inputs["b"].shape[1]), inputs["a"].dtype.name)},
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        transposed=("a", "b"),
        flops=product_flops,
        bytes=product_bytes,
    ),
    *(
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
    ),
    _case(
        "dense_backward",
        draw_dense_backward,
        like("activation"),
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        transposed=("weight",),
        flops=product_flops,
        bytes=lambda shape, itemsize: product_bytes(shape, itemsize) + itemsize * shape[0] * shape[2],
    ),
    _case(
        "dense_gradients",
        draw_dense_gradients,
        gradient_outputs,
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        transposed=("inputs",),
        flops=product_flops,
        bytes=product_bytes,
    ),
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
    _case(
        "softmax_xent",
        draw_softmax_xent,
        softmax_outputs,
        shapes=MATRICES,
        draws={"huge": draw_huge_logits, "ties": draw_tied_logits},
        planted=("nan", "inf"),
        aliases={"gradient": "logits"},
        flops=lambda shape: 6 * size(shape),  # compare, subtract, exponentiate, add, divide by the sum and by m
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + 1) + 8 * (shape[0] + 1),
    ),
    _case(
        "weighted_softmax_xent",
        draw_weighted_softmax_xent,
        softmax_outputs,
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"gradient": "logits"},
        flops=lambda shape: 7 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[0] + 1) + 8 * (shape[0] + 1),
    ),
    *(update_case(kind) for kind in OPTIMIZERS.values()),
)
