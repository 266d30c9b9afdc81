"""The cases of the MLP's ops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmlp.ops import network as mlp_ops
from fastmlp.testing.op_case import Inputs, OpCase, Rng, Shape, like, size

AWAY = 0.1  # how far from ReLU's kink inputs are drawn, against a spread of 1
HUGE = 1e4  # logits of a run about to diverge: their exponentials overflow unless the largest is taken off first
LEARNING_RATE = 0.05
DECAY = 0.9  # far from 1, so that an update without it is found

# (rows, columns): no row, one row, a ragged batch, the paper's logits, the paper's hidden layer
MATRICES: tuple[Shape, ...] = ((0, 10), (1, 2), (37, 10), (64, 10), (64, 64))
PRODUCTS: tuple[Shape, ...] = ((0, 5, 3), (1, 1, 2), (37, 10, 7), (64, 512, 64))  # (m, k, n)
PARAMETERS: tuple[Shape, ...] = ((0, 10), (1, 2), (37, 10), (512, 64), (10,))


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


def draw_sgd_update(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    parameter, gradient = rng.standard_normal(shape), rng.standard_normal(shape)
    return {
        "parameter": parameter.astype(dtype),
        "gradient": gradient.astype(dtype),
        "learning_rate": LEARNING_RATE,
        "decay": DECAY,
    }


def draw_undecayed_sgd_update(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {**draw_sgd_update(rng, shape, dtype), "decay": 1.0}


def draw_adam_update(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Moments of the gradients' own size, as in the midst of a run: neither drowns the other."""
    parameter, gradient, first = rng.standard_normal((3, *shape))
    return {
        "parameter": parameter.astype(dtype),
        "gradient": gradient.astype(dtype),
        "first": (0.5 * first).astype(dtype),
        "second": rng.uniform(0.5, 2, shape).astype(dtype),
        "step_size": LEARNING_RATE,
        "scale": 1.5,
        "decay": DECAY,
    }


def draw_undecayed_adam_update(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {**draw_adam_update(rng, shape, dtype), "decay": 1.0}


def draw_tiny_adam_update(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Gradients so small that epsilon decides."""
    inputs = draw_adam_update(rng, shape, dtype)
    small = {name: (1e-8 * inputs[name]).astype(dtype) for name in ("gradient", "first")}
    return inputs | small | {"second": (1e-16 * inputs["second"]).astype(dtype)}


def adam_outputs(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    parameter = inputs["parameter"]
    return dict.fromkeys(("out", "out_first", "out_second"), (parameter.shape, parameter.dtype.name))


def _away_from_zero(rng: Rng, shape: Shape) -> NDArray[np.float64]:
    values = rng.standard_normal(shape)
    return values + np.copysign(AWAY, values)


def _labels(rng: Rng, shape: Shape) -> NDArray[np.int64]:
    return rng.integers(0, shape[1], shape[0])


# The table.

MLP_CASES = (
    OpCase(
        "gather",
        mlp_ops.gather,
        draw_gather,
        lambda inputs: {"out": ((len(inputs["index"]), *inputs["source"].shape[1:]), inputs["source"].dtype.name)},
        shapes=((0, 10), (1, 2), (37, 10), (64, 512), (64,)),
        planted=("nan", "inf"),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * size(shape) + 8 * shape[0],
    ),
    OpCase(
        "standardize",
        mlp_ops.standardize,
        draw_standardize,
        like("features"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "features"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    OpCase(
        "matmul",
        mlp_ops.matmul,
        draw_matmul,
        lambda inputs: {"out": ((inputs["a"].shape[0], inputs["b"].shape[1]), inputs["a"].dtype.name)},
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        transposed=("a", "b"),
        flops=product_flops,
        bytes=product_bytes,
    ),
    *(
        OpCase(
            op.__name__,
            op,
            draw_dense,
            lambda inputs: {"out": ((inputs["a"].shape[0], inputs["weight"].shape[1]), inputs["a"].dtype.name)},
            shapes=PRODUCTS,
            planted=("nan", "inf"),
            flops=product_flops,
            bytes=product_bytes,
        )
        for op in (mlp_ops.dense, mlp_ops.dense_relu)
    ),
    OpCase(
        "dense_backward",
        mlp_ops.dense_backward,
        draw_dense_backward,
        like("activation"),
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        transposed=("weight",),
        flops=product_flops,
        bytes=lambda shape, itemsize: product_bytes(shape, itemsize) + itemsize * shape[0] * shape[2],
    ),
    OpCase(
        "dense_gradients",
        mlp_ops.dense_gradients,
        draw_dense_gradients,
        gradient_outputs,
        shapes=PRODUCTS,
        planted=("nan", "inf"),
        transposed=("inputs",),
        flops=product_flops,
        bytes=product_bytes,
    ),
    OpCase(
        "add_bias",
        mlp_ops.add_bias,
        draw_add_bias,
        like("z"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "z"},
        flops=size,
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    OpCase(
        "bias_relu",
        mlp_ops.bias_relu,
        draw_bias_relu,
        like("z"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "z"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[1]),
    ),
    OpCase(
        "relu_backward",
        mlp_ops.relu_backward,
        draw_relu_backward,
        like("gradient"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "gradient"},
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * size(shape),
    ),
    OpCase(
        "column_sum",
        mlp_ops.column_sum,
        draw_column_sum,
        lambda inputs: {"out": (inputs["values"].shape[1:], inputs["values"].dtype.name)},
        shapes=MATRICES,
        planted=("nan", "inf"),
        flops=size,
        bytes=lambda shape, itemsize: itemsize * (size(shape) + shape[1]),
    ),
    OpCase(
        "softmax_xent",
        mlp_ops.softmax_xent,
        draw_softmax_xent,
        softmax_outputs,
        shapes=MATRICES,
        draws={"huge": draw_huge_logits, "ties": draw_tied_logits},
        planted=("nan", "inf"),
        aliases={"gradient": "logits"},
        flops=lambda shape: 6 * size(shape),  # compare, subtract, exponentiate, add, divide by the sum and by m
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + 1) + 8 * (shape[0] + 1),
    ),
    OpCase(
        "weighted_softmax_xent",
        mlp_ops.weighted_softmax_xent,
        draw_weighted_softmax_xent,
        softmax_outputs,
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"gradient": "logits"},
        flops=lambda shape: 7 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[0] + 1) + 8 * (shape[0] + 1),
    ),
    OpCase(
        "sgd_update",
        mlp_ops.sgd_update,
        draw_sgd_update,
        like("parameter"),
        shapes=PARAMETERS,
        draws={"undecayed": draw_undecayed_sgd_update},
        planted=("nan", "inf"),
        aliases={"out": "parameter"},
        flops=lambda shape: 3 * size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * size(shape),
    ),
    OpCase(
        "adam_update",
        mlp_ops.adam_update,
        draw_adam_update,
        adam_outputs,
        shapes=PARAMETERS,
        draws={"undecayed": draw_undecayed_adam_update, "tiny": draw_tiny_adam_update},
        planted=("nan", "inf"),
        aliases={"out": "parameter", "out_first": "first", "out_second": "second"},
        flops=lambda shape: 14 * size(shape),
        bytes=lambda shape, itemsize: 7 * itemsize * size(shape),
    ),
)
