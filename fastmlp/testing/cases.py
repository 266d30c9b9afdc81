"""The table of op cases, one for every op: read by tests, benchmarks and `check_backend`.

A new op gets its entry in CASES; a test fails as long as it has none. No case draws subnormal numbers or makes any, for
CuPy compiles with -ftz=true, which flushes float32's to zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastmlp import augment_ops, mlp
from fastmlp.testing.op_case import Inputs, OpCase, Outputs, Shape

Rng = np.random.Generator

AWAY = 0.1  # how far from ReLU's kink inputs are drawn, against a spread of 1
HUGE = 1e4  # logits of a run about to diverge: their exponentials overflow unless the largest is taken off first
LEARNING_RATE = 0.05
PADDING = 4

# (rows, columns): no row, one row, a ragged batch, the paper's logits, the paper's hidden layer
MATRICES: tuple[Shape, ...] = ((0, 10), (1, 2), (37, 10), (64, 10), (64, 64))
# (images, channels, height, width): none, one pixel, not square, enough for several threads, CIFAR-10's. Height and
# width are both odd or both even: else a quarter turn's pixels lie midway between two, and every second average ties.
IMAGES: tuple[Shape, ...] = ((0, 3, 8, 8), (1, 3, 1, 1), (5, 3, 7, 9), (200, 3, 6, 8), (16, 3, 32, 32))
SQUARES: tuple[Shape, ...] = ((0, 3, 8, 8), (1, 3, 1, 1), (5, 3, 7, 7), (200, 3, 6, 6), (16, 3, 32, 32))


def _like(source: str, output: str = "out") -> Outputs:
    """One output, of the shape and dtype of that input."""
    return lambda inputs: {output: (inputs[source].shape, inputs[source].dtype.name)}


def _size(shape: Shape) -> int:
    return int(np.prod(shape))


# The MLP's ops.


def draw_gather(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Rows of features, or for a shape (m,) labels; some rows twice, some not at all."""
    source_rows = 2 * shape[0] + 1
    if len(shape) == 1:
        source = rng.integers(0, 10, source_rows)
    else:
        source = rng.standard_normal((source_rows, *shape[1:])).astype(dtype)
    return {"source": source, "index": rng.integers(0, source_rows, shape[0])}


def draw_matmul(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (m, k, n)."""
    m, k, n = shape
    return {"a": rng.standard_normal((m, k)).astype(dtype), "b": rng.standard_normal((k, n)).astype(dtype)}


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


def softmax_outputs(inputs: Inputs) -> dict[str, tuple[Shape, str]]:
    logits = inputs["logits"]
    return {"gradient": (logits.shape, logits.dtype.name), "loss": ((1,), logits.dtype.name), "hits": ((1,), "int64")}


def draw_sgd_update(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    parameter, gradient = rng.standard_normal(shape), rng.standard_normal(shape)
    return {
        "parameter": parameter.astype(dtype),
        "gradient": gradient.astype(dtype),
        "learning_rate": LEARNING_RATE,
    }


def _away_from_zero(rng: Rng, shape: Shape) -> NDArray[np.float64]:
    values = rng.standard_normal(shape)
    return values + np.copysign(AWAY, values)


def _labels(rng: Rng, shape: Shape) -> NDArray[np.int64]:
    return rng.integers(0, shape[1], shape[0])


# The augmentations' ops.


def noise(rng: Rng, shape: Shape) -> NDArray[np.uint8]:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def draw_crop(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    dy, dx = rng.integers(0, 2 * PADDING, (2, shape[0]), endpoint=True)
    return {"images": noise(rng, shape), "dy": dy, "dx": dx, "padding": PADDING}


def draw_rotate(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    radians = np.deg2rad(_angles(rng, shape[0]))
    return {
        "images": noise(rng, shape),
        "cosine": np.cos(radians).astype(np.float32),
        "sine": np.sin(radians).astype(np.float32),
    }


def draw_rotate_by_shears(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    degrees = _angles(rng, shape[0])
    quarters = np.rint(degrees / 90)
    rest = np.deg2rad(degrees - 90 * quarters)
    return {
        "images": noise(rng, shape),
        "quarters": quarters.astype(np.int64) % 4,
        "tangent": np.tan(rest / 2).astype(np.float32),
        "sine": np.sin(rest).astype(np.float32),
    }


def draw_cutout(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Squares inside, over the edge, outside, and of no size."""
    rows, height, width = shape[0], *shape[2:]
    return {
        "images": noise(rng, shape),
        "top": rng.integers(-6, height + 2, rows),
        "left": rng.integers(-6, width + 2, rows),
        "size": rng.integers(0, 9, rows),
    }


def draw_contrast(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"images": noise(rng, shape), "factor": rng.uniform(0, 2, shape[0]).astype(np.float32)}


def draw_flat_contrast(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Images of one level, which must stay as they are, and factors that drive others beyond black and white."""
    images = noise(rng, shape)
    images[::2] = images[::2, :1, :1, :1]
    return {"images": images, "factor": rng.uniform(-50, 50, shape[0]).astype(np.float32)}


def draw_hflip(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    return {"images": noise(rng, shape), "flip": rng.random(shape[0]) < 0.5}


def _angles(rng: Rng, n: int) -> NDArray[np.float64]:
    """Degrees all around, among them quarter turns and none at all."""
    return np.where(rng.random(n) < 0.7, rng.uniform(-180, 180, n), rng.choice([-90, 0, 45, 90, 180, 270], n))


# The table.

_MLP_CASES = (
    OpCase(
        "gather",
        mlp.gather,
        draw_gather,
        lambda inputs: {"out": ((len(inputs["index"]), *inputs["source"].shape[1:]), inputs["source"].dtype.name)},
        shapes=((0, 10), (1, 2), (37, 10), (64, 512), (64,)),
        planted=("nan", "inf"),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * _size(shape) + 8 * shape[0],
    ),
    OpCase(
        "matmul",
        mlp.matmul,
        draw_matmul,
        lambda inputs: {"out": ((inputs["a"].shape[0], inputs["b"].shape[1]), inputs["a"].dtype.name)},
        shapes=((0, 5, 3), (1, 1, 2), (37, 10, 7), (64, 512, 64)),
        planted=("nan", "inf"),
        transposed=("a", "b"),
        flops=lambda shape: 2 * _size(shape),
        bytes=lambda shape, itemsize: itemsize * (shape[0] * shape[1] + shape[1] * shape[2] + shape[0] * shape[2]),
    ),
    OpCase(
        "add_bias",
        mlp.add_bias,
        draw_add_bias,
        _like("z"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "z"},
        flops=_size,
        bytes=lambda shape, itemsize: itemsize * (2 * _size(shape) + shape[1]),
    ),
    OpCase(
        "bias_relu",
        mlp.bias_relu,
        draw_bias_relu,
        _like("z"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "z"},
        flops=lambda shape: 2 * _size(shape),
        bytes=lambda shape, itemsize: itemsize * (2 * _size(shape) + shape[1]),
    ),
    OpCase(
        "relu_backward",
        mlp.relu_backward,
        draw_relu_backward,
        _like("gradient"),
        shapes=MATRICES,
        planted=("nan", "inf"),
        aliases={"out": "gradient"},
        flops=lambda shape: 2 * _size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * _size(shape),
    ),
    OpCase(
        "column_sum",
        mlp.column_sum,
        draw_column_sum,
        lambda inputs: {"out": (inputs["values"].shape[1:], inputs["values"].dtype.name)},
        shapes=MATRICES,
        planted=("nan", "inf"),
        flops=_size,
        bytes=lambda shape, itemsize: itemsize * (_size(shape) + shape[1]),
    ),
    OpCase(
        "softmax_xent",
        mlp.softmax_xent,
        draw_softmax_xent,
        softmax_outputs,
        shapes=MATRICES,
        draws={"huge": draw_huge_logits, "ties": draw_tied_logits},
        planted=("nan", "inf"),
        aliases={"gradient": "logits"},
        flops=lambda shape: 6 * _size(shape),  # compare, subtract, exponentiate, add, divide by the sum and by m
        bytes=lambda shape, itemsize: itemsize * (2 * _size(shape) + 1) + 8 * (shape[0] + 1),
    ),
    OpCase(
        "sgd_update",
        mlp.sgd_update,
        draw_sgd_update,
        _like("parameter"),
        shapes=((0, 10), (1, 2), (37, 10), (512, 64), (10,)),
        planted=("nan", "inf"),
        aliases={"out": "parameter"},
        flops=lambda shape: 2 * _size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * _size(shape),
    ),
)

_AUGMENT_CASES = (
    OpCase(
        "crop",
        augment_ops.crop,
        draw_crop,
        _like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * _size(shape) + 16 * shape[0],
    ),
    OpCase(
        "rotate",
        augment_ops.rotate,
        draw_rotate,
        _like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        flops=lambda shape: 10 * _size(shape) + 8 * shape[0] * _size(shape[2:]),  # two lerps and one; the coordinates
        bytes=lambda shape, itemsize: 2 * itemsize * _size(shape) + 8 * shape[0],
    ),
    OpCase(
        "rotate_by_shears",
        augment_ops.rotate_by_shears,
        draw_rotate_by_shears,
        _like("images"),
        shapes=SQUARES,
        dtypes=("uint8",),
        flops=lambda shape: 9 * _size(shape),  # three lerps
        bytes=lambda shape, itemsize: 2 * itemsize * _size(shape) + 16 * shape[0],
    ),
    OpCase(
        "cutout",
        augment_ops.cutout,
        draw_cutout,
        _like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * _size(shape) + 24 * shape[0],
    ),
    OpCase(
        "contrast",
        augment_ops.contrast,
        draw_contrast,
        _like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        draws={"flat": draw_flat_contrast},
        flops=lambda shape: 4 * _size(shape),
        bytes=lambda shape, itemsize: 3 * itemsize * _size(shape) + 4 * shape[0],  # the images twice, for their mean
    ),
    OpCase(
        "hflip",
        augment_ops.hflip,
        draw_hflip,
        _like("images"),
        shapes=IMAGES,
        dtypes=("uint8",),
        exact=True,
        flops=lambda shape: 0,
        bytes=lambda shape, itemsize: 2 * itemsize * _size(shape) + shape[0],
    ),
)

CASES: dict[str, OpCase] = {case.op: case for case in (*_MLP_CASES, *_AUGMENT_CASES)}
