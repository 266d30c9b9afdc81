"""The cases of softmax with cross-entropy: plain ones, and those in which its kernels lose count or digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fastmlp.ops.network import NetworkOps
from fastmlp.testing.op_case import Draw, Inputs, OpCase, Rng, Shape, method, size
from fastmlp.testing.reference import network_ops as reference

HUGE = 1e4  # logits of a run about to diverge: their exponentials overflow unless the largest is taken off first
FAR = 1000.0

# (rows, classes): no row, one row, one class, a ragged batch, the paper's logits, a batch of evaluation, and on both
# sides of 16 and 32 classes, one lane's and a warp's share of a row
LOGITS: tuple[Shape, ...] = (
    *((0, 10), (1, 2), (9, 1), (37, 10), (64, 10), (1_100, 3)),
    *((5, 16), (70, 17), (33, 32), (21, 33), (6, 70), (3, 1000)),
)
FEW: tuple[Shape, ...] = ((0, 3), (5, 3), (7, 33), (4, 70))  # a row, and many lanes to a row


def draw_softmax_xent(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Logits of which about half have their largest at the label.

    The first row has it elsewhere: a row that is surely right has a gradient of p - 1, whose digits cancel in any code.
    """
    labels = draw_labels(rng, shape)
    logits = 2 * rng.standard_normal(shape)
    logits[np.arange(shape[0]), labels] += 3
    labels[:1] = np.argmin(logits[:1], axis=1)
    return {"logits": logits.astype(dtype), "labels": labels}


def draw_huge_logits(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Logits so far apart that all probabilities are 0 or 1."""
    ladder = np.tile(HUGE * np.arange(shape[1]), (shape[0], 1))
    return {"logits": rng.permuted(ladder, axis=1).astype(dtype), "labels": draw_labels(rng, shape)}


def draw_far_logits(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """All so far from 0 that a loss which holds the largest one loses digits."""
    inputs = draw_softmax_xent(rng, shape, dtype)
    return {**inputs, "logits": inputs["logits"] + np.asarray(FAR, dtype)}


def draw_tied_logits(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Equal largest logits, of which the first counts; and largest ones that are a rounding apart, and do not tie."""
    logits = rng.integers(0, 2, shape).astype(dtype)
    labels = np.where(rng.random(shape[0]) < 0.8, np.argmax(logits, axis=1), draw_labels(rng, shape))
    near = rng.random(shape[0]) < 0.5
    logits[near] = logits[near] * np.finfo(dtype).eps
    return {"logits": logits, "labels": labels}


def draw_equal_logits(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """All the same, as of a network of zeros: the first class is found, and hits are the labels 0."""
    labels = draw_labels(rng, shape) * (rng.random(shape[0]) < 0.6)
    return {"logits": np.full(shape, 0.25, dtype), "labels": labels}


def draw_low_probabilities(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Each class less probable than the one before, as far down as its gradient is a normal number.

    The first has logit 0, so that no difference rounds; and the second is the label.
    """
    lowest = {"float32": -84.0, "float64": -690.0}[dtype]
    steps = np.concatenate([[0, -1], np.linspace(-4, lowest, shape[1] - 2)])
    logits = np.tile(steps, (shape[0], 1)) * np.where(steps < -1, rng.uniform(0.99, 1, shape), 1)
    return {"logits": logits.astype(dtype), "labels": np.ones(shape[0], np.int64)}


def draw_many_rows(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Losses that vanish one by one in a float32 sum of the first thousand rows' losses, but not together.

    All others are hits, more than 16 bits count.
    """
    logits = np.zeros(shape)
    logits[:, 1:] = rng.uniform(-8.5, -7.5, (shape[0], shape[1] - 1))
    logits[:1024, 1:] = 10_000
    return {"logits": logits.astype(dtype), "labels": np.zeros(shape[0], np.int64)}


def draw_last_classes(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Labels that need more bits than a byte or two have; only they and the first class have a share of the sum."""
    rows, classes = shape
    labels = classes - 1 - np.arange(rows) % classes
    logits = rng.standard_normal(shape) - 60
    logits[:, 0] = rng.choice([-0.1, 0.1], rows)
    logits[np.arange(rows), labels] = 0
    return {"logits": logits.astype(dtype), "labels": labels}


def draw_misses(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Each row's label is its least probable class, so that no digit of its gradient cancels."""
    logits = rng.standard_normal(shape)
    return {"logits": logits.astype(dtype), "labels": np.argmin(logits, axis=1)}


def draw_labels(rng: Rng, shape: Shape) -> NDArray[np.int64]:
    return rng.integers(0, shape[1], shape[0])


# Rows with NaN and infinities, all of a batch's rows alike, so that a wrong hit and a wrong miss do not make up for
# each other.


def _rows_of(
    label: int | None,
    *,
    all_: float | None = None,
    at_label: float | None = None,
    after: Mapping[int, float] | None = None,
) -> Draw:
    """Logits that are all `all_`, or random, with `at_label` at the label, and the values of `after` so far behind it.

    label: None for any; counted from the end if below zero.
    """

    def draw(rng: Rng, shape: Shape, dtype: str) -> Inputs:
        rows, classes = shape
        labels = draw_labels(rng, shape) if label is None else np.full(rows, label % classes)
        logits = rng.standard_normal(shape)
        if all_ is not None:
            logits[...] = all_
        if at_label is not None:
            logits[np.arange(rows), labels] = at_label
        for distance, value in (after or {}).items():
            logits[np.arange(rows), (labels + distance) % classes] = value
        return {"logits": logits.astype(dtype), "labels": labels}

    return draw


NOT_FINITE: dict[str, Draw] = {
    "NaN at the label": _rows_of(None, at_label=np.nan),
    "NaN at the first label": _rows_of(0, at_label=np.nan),
    "NaN after the largest, the label": _rows_of(None, at_label=9, after={1: np.nan}),
    "NaN before the largest, the label": _rows_of(None, at_label=9, after={-1: np.nan}),
    "NaN in the first class, label the largest": _rows_of(-1, at_label=9, after={1: np.nan}),
    "NaN in the last class, label the largest": _rows_of(0, at_label=9, after={-1: np.nan}),
    "NaN before a larger one": _rows_of(1, all_=0, at_label=np.nan, after={1: 1}),  # 0, NaN, 1
    "all NaN, last label": _rows_of(-1, all_=np.nan),
    "all NaN, first label": _rows_of(0, all_=np.nan),
    "all NaN": _rows_of(None, all_=np.nan),
    "infinity at the label": _rows_of(None, at_label=np.inf),
    "infinity at the label and after": _rows_of(0, at_label=np.inf, after={1: np.inf}),
    "infinity at the label and before": _rows_of(-1, at_label=np.inf, after={1: np.inf}),
    "infinity and NaN": _rows_of(None, at_label=np.inf, after={1: np.nan}),
    "minus infinity at the label": _rows_of(None, at_label=-np.inf),
    "minus infinity elsewhere": _rows_of(None, at_label=1, after={1: -np.inf}),
    "all minus infinity, first label": _rows_of(0, all_=-np.inf),
    "all minus infinity, last label": _rows_of(-1, all_=-np.inf),
}


# The table.


def outputs(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    logits = inputs["logits"]
    return {"gradient": (logits.shape, logits.dtype.name), "loss": ((1,), logits.dtype.name), "hits": ((1,), "int64")}


def weighted(draw: Draw, lowest: float = 0.5, highest: float = 2.0) -> Draw:
    """The same rows, with weights between those two, evenly in their logarithms, and now and then 0."""

    def with_weights(rng: Rng, shape: Shape, dtype: str) -> Inputs:
        inputs = draw(rng, shape, dtype)
        logarithms = rng.uniform(np.log(lowest), np.log(highest), shape[0])
        weights = np.exp(logarithms) * (rng.random(shape[0]) < 0.9)
        return {"logits": inputs["logits"], "labels": inputs["labels"], "weights": weights.astype(dtype)}

    return with_weights


def to_smooth(draw: Draw) -> Draw:
    """Weighted rows of that draw, and any gradient and loss, which smoothed labels change."""

    def with_gradient_and_loss(rng: Rng, shape: Shape, dtype: str) -> Inputs:
        gradient = rng.standard_normal(shape) / max(shape[0], 1)
        loss = rng.uniform(1, 3, 1) * max(shape[0], 1)
        smoothed = {"smoothing": float(rng.uniform(0.05, 0.5)), "gradient": gradient.astype(dtype)}
        return {**weighted(draw)(rng, shape, dtype), **smoothed, "loss": loss.astype(dtype)}

    return with_gradient_and_loss


def _smoothed(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    return {f"smoothed_{name}": (inputs[name].shape, inputs[name].dtype.name) for name in ("gradient", "loss")}


def _case(op: str, draw: Draw, draws: Mapping[str, Draw], per_logit: int, per_row: int) -> OpCase:
    """per_logit: operations; per_row: numbers read beside logits and labels."""
    return OpCase(
        op,
        method(NetworkOps, op),
        draw,
        outputs,
        getattr(reference, op),
        LOGITS,
        draws=draws,
        planted=("nan", "inf"),
        aliases={"gradient": "logits"},
        family="network",
        flops=lambda shape: per_logit * size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * size(shape) + per_row * shape[0] + 1) + 8 * (shape[0] + 1),
    )


DRAWS = {"huge": draw_huge_logits, "far": draw_far_logits, "ties": draw_tied_logits, "equal": draw_equal_logits}
# of a logit: compare, subtract, exponentiate, add, divide by the sum and by m
_PLAIN = _case("softmax_xent", draw_softmax_xent, DRAWS, 6, 0)
_WEIGHTED = _case(
    "weighted_softmax_xent", weighted(draw_softmax_xent), {name: weighted(draw) for name, draw in DRAWS.items()}, 7, 1
)


_SMOOTHED = OpCase(
    "smooth_labels",
    method(NetworkOps, "smooth_labels"),
    to_smooth(draw_softmax_xent),
    _smoothed,
    reference.smooth_labels,
    LOGITS,
    draws={name: to_smooth(draw) for name, draw in DRAWS.items()},
    planted=("nan", "inf"),
    aliases={"smoothed_gradient": "gradient", "smoothed_loss": "loss"},
    family="network",
    flops=lambda shape: 6 * size(shape),
    bytes=lambda shape, itemsize: itemsize * (3 * size(shape) + shape[0] + 2) + 8 * shape[0],
)


def _hazards(case: OpCase, wrap: Callable[[Draw], Draw]) -> tuple[OpCase, ...]:
    first, *others = NOT_FINITE
    not_finite = {name: wrap(NOT_FINITE[name]) for name in others}
    return (
        case.with_hazard("not finite", wrap(NOT_FINITE[first]), FEW, draws=not_finite),
        case.with_hazard(
            "low probabilities", wrap(draw_low_probabilities), ((0, 9), (11, 9), (3, 40)), groups={"gradient": 1}
        ),
        case.with_hazard("many rows", wrap(draw_many_rows), ((0, 2), (200_000, 2))),
        case.with_hazard("many classes", wrap(draw_last_classes), ((0, 300), (9, 300), (3, 33_000), (2, 66_000))),
    )


LOSS_CASES = (
    _PLAIN,
    *_hazards(_PLAIN, lambda draw: draw),
    _WEIGHTED,
    *_hazards(_WEIGHTED, weighted),
    _WEIGHTED.with_hazard(
        "weights of all sizes",
        weighted(draw_misses, 1e-6, 1e4),
        ((0, 5), (37, 5), (21, 40)),
        groups={"gradient": 0},
    ),
    _SMOOTHED,
    _SMOOTHED.with_hazard("many classes", to_smooth(draw_last_classes), ((0, 300), (9, 300), (3, 33_000), (2, 66_000))),
)
