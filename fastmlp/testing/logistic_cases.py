"""The case of the op of logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.backends.base import Array
from fastmlp.ops.logistic import softmax_residuals
from fastmlp.testing.op_case import Inputs, OpCase, Rng, Shape, size
from fastmlp.testing.reference import network_ops as reference

# (heads, classes, rows): no rows, one of each, many classes, many rows
SHAPES: tuple[Shape, ...] = ((2, 3, 0), (1, 2, 1), (3, 10, 37), (2, 200, 5), (8, 2, 130), (1, 3, 1_030))
AHEAD = 12.0  # of all other logits: float32 rounds the probability to 1


def fill(xp: Any, logits: Array, is_label: Array, losses: Array, residuals: Array) -> None:
    """The op, which overwrites its logits, as array code."""
    losses[...], residuals[...] = softmax_residuals(xp, logits + xp.zeros_like(logits), is_label)


def draw(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    _, classes, rows = shape
    is_label = np.arange(classes)[:, None] == rng.integers(0, classes, rows)
    return {"logits": (3 * rng.standard_normal(shape)).astype(dtype), "is_label": is_label}


def draw_far(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """All near 1000: no exponential is finite unless the largest is taken off first."""
    inputs = draw(rng, shape, dtype)
    return {**inputs, "logits": inputs["logits"] + np.array(1000, dtype)}


def draw_certain(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Labels whose logits are far ahead, so that losses and residuals are what is left of 1."""
    inputs = draw(rng, shape, dtype)
    ahead = inputs["logits"].max(axis=1, keepdims=True, initial=0) + np.array(AHEAD, dtype)
    return {**inputs, "logits": np.where(inputs["is_label"], ahead, inputs["logits"])}


def outputs(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    shape, dtype = inputs["logits"].shape, inputs["logits"].dtype.name
    return {"losses": ((shape[0], shape[2]), dtype), "residuals": (shape, dtype)}


LOGISTIC_CASES = (
    OpCase(
        "softmax_residuals",
        fill,
        draw,
        outputs,
        reference.softmax_residuals,
        SHAPES,
        draws={"far": draw_far, "certain": draw_certain},
        planted=("nan", "inf"),
        family="logistic",
        flops=lambda shape: 6 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + shape[0] * shape[2]) + shape[1] * shape[2],
    ),
)
