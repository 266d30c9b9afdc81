"""The cases of activations beside ReLU, and of the losses of what they predict."""

from __future__ import annotations

import numpy as np

from fastmlp.ops.network import NetworkOps
from fastmlp.testing.op_case import Draw, Inputs, OpCase, Outputs, Rng, Shape, like, method, size
from fastmlp.testing.reference import network_ops as reference

# (rows, columns): none, one of either, a ragged batch, many columns, many rows
SHAPES: tuple[Shape, ...] = ((0, 10), (1, 2), (2, 1), (37, 10), (5, 200), (1_030, 3))
LEAST = 2.0**-23  # a float32 distinguishes 1 - LEAST from 1


def draw_activation(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"z": (3 * rng.standard_normal(shape)).astype(dtype)}


def draw_far(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """So far from 0 that the exponential of one sign overflows."""
    return {"z": (2000 * rng.choice([-1, 1], shape)).astype(dtype)}


def draw_softmax(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"logits": draw_activation(rng, shape, dtype)["z"]}


def draw_far_softmax(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """All near 1000: no exponential is finite unless the largest is taken off first."""
    return {"logits": (1000 + rng.standard_normal(shape)).astype(dtype)}


def draw_logistic_backward(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    gradient, activation = rng.standard_normal(shape), rng.uniform(0.01, 0.99, shape)
    return {"gradient": gradient.astype(dtype), "activation": activation.astype(dtype)}


def draw_tanh_backward(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    gradient, activation = rng.standard_normal(shape), rng.uniform(-0.95, 0.95, shape)
    return {"gradient": gradient.astype(dtype), "activation": activation.astype(dtype)}


def draw_regression(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    targets = rng.standard_normal(shape)
    predictions = targets + rng.standard_normal(shape)
    return {"predictions": predictions.astype(dtype), "targets": targets.astype(dtype)}


def draw_counts(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Counts, many of them 0, and predictions that are off by half."""
    targets = rng.poisson(1.5, shape)
    predictions = (targets + 0.5) * rng.choice([0.5, 2], shape)
    return {"predictions": predictions.astype(dtype), "targets": targets.astype(dtype)}


def draw_classes(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Probabilities of each row that sum to 1, and one target that is 1."""
    odds = rng.uniform(0.05, 1, shape)
    targets = np.zeros(shape)
    targets[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = 1
    return _classification(odds / odds.sum(axis=1, keepdims=True) * 0.9, targets, dtype)


def draw_labels(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Any number of a row's targets are 1."""
    return _classification(rng.uniform(0.05, 0.9, shape), rng.integers(0, 2, shape), dtype)


def draw_certain(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Probabilities of 0 and 1, on the right side and the wrong one: a loss is finite all the same."""
    return _classification(rng.integers(0, 2, shape), rng.integers(0, 2, shape), dtype)


def _classification(probabilities: np.ndarray, targets: np.ndarray, dtype: str) -> Inputs:
    return {"probabilities": probabilities.astype(dtype), "targets": targets.astype(dtype), "least": LEAST}


def draw_weigh_rows(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    weights = rng.uniform(0.5, 2, shape[0]) * (rng.random(shape[0]) < 0.9)
    return {"values": rng.standard_normal(shape).astype(dtype), "weights": weights.astype(dtype)}


def draw_penalized_mean(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    sums, values = rng.standard_normal((2, *shape))
    return {"sums": sums.astype(dtype), "values": values.astype(dtype), "alpha": 0.3, "total": 37.5}


def _case(op: str, draw: Draw, outputs: Outputs, per_number: int, arrays: int = 2, **fields: object) -> OpCase:
    """per_number: operations for each; arrays: of the shape, read or written."""
    return OpCase(
        op,
        method(NetworkOps, op),
        draw,
        outputs,
        getattr(reference, op),
        **{"shapes": SHAPES, "planted": ("nan", "inf"), **fields},  # type: ignore[arg-type]
        family="network",
        flops=lambda shape: per_number * size(shape),
        bytes=lambda shape, itemsize: arrays * itemsize * size(shape),
    )


def _loss(op: str, draw: Draw, predictions: str, per_number: int, **fields: object) -> OpCase:
    return _case(op, draw, like("targets", "losses"), per_number, 3, aliases={"losses": predictions}, **fields)


PREDICTION_CASES = (
    _case("logistic", draw_activation, like("z"), 4, aliases={"out": "z"}, draws={"far": draw_far}),
    _case("tanh", draw_activation, like("z"), 4, aliases={"out": "z"}, draws={"far": draw_far}),
    _case("exponential", draw_activation, like("z"), 1, aliases={"out": "z"}, groups={"out": 0}),
    _case("softmax", draw_softmax, like("logits"), 4, aliases={"out": "logits"}, draws={"far": draw_far_softmax}),
    _case("logistic_backward", draw_logistic_backward, like("gradient"), 3, 3, aliases={"out": "gradient"}),
    _case("tanh_backward", draw_tanh_backward, like("gradient"), 3, 3, aliases={"out": "gradient"}),
    _loss("squared_error", draw_regression, "predictions", 3),
    _loss("log_loss", draw_classes, "probabilities", 3, draws={"certain": draw_certain}),
    _loss("binary_log_loss", draw_labels, "probabilities", 6, draws={"certain": draw_certain}),
    _loss("poisson_deviance", draw_counts, "predictions", 5, planted=("nan",)),
    _case("residual", draw_regression, like("predictions"), 1, 3, aliases={"out": "predictions"}),
    _case("weigh_rows", draw_weigh_rows, like("values"), 1, aliases={"out": "values"}),
    _case(
        "penalized_mean",
        draw_penalized_mean,
        like("sums"),
        3,
        3,
        aliases={"out": "sums"},
        shapes=((0,), (1,), (37,), (20_011,)),
    ),
)
