"""Every tolerance, in its one place, with its reason.

Errors of floats are e = max|got - ref| / max|ref| (`compare.error`), ref being the array code on NumPy in float64.
An elementwise relative error would fail on gradients near zero for no fault; this one compares with the array's scale.
"""

from __future__ import annotations

import numpy as np

from fastmlp.extractors.base import ROUNDING

# One op or one training step. float64 keeps about 16 digits; a sum of 512 products in another order loses fewer
# than three of them. float32 keeps about 7 digits and loses fewer than two. A wrong kernel is off by far more.
STEP = {"float64": 1e-12, "float32": 1e-5}

# A kernel may sum in another order than NumPy, not lose digits that NumPy keeps: at most twice NumPy's own float32
# error on the same input (FlashAttention's tests have the idea). A product of one op is that of NumPy in order
# (`in_order`): what BLAS errs depends on the processor. NumPy is sometimes right to the last bit by luck, so
# an error of a few roundings is always allowed: to one op 4, to a step, which chains up to fifteen of them, 16.
NUMPY_FACTOR = 2.0
OP_FLOOR = 4 * float(np.finfo(np.float32).eps)
STEP_FLOOR = 16 * float(np.finfo(np.float32).eps)

# Central differences with a step h = 1e-5 err by about h**2 from the curvature and by 1e-16 / h from rounding.
CENTRAL_DIFFERENCES = 1e-6

# Rounding differences feed back through the weights; in an epoch of float32 they stay well under 1e-4 of the loss
# and of the weights, and in float64 nine digits below.
EPOCH = {"float64": 1e-10, "float32": 1e-4}

# After a whole run a few rows close to a class boundary may fall on its other side: 0.3 points of accuracy.
RUN_ACCURACY = 0.003

# Bytes may be off by one level, where the exact value lies so near the middle between two levels that float32 rounds
# it to either. An interpolated pixel's float32 error is under 5e-4 levels, so fewer than 1 in 1000 pixels lie so near;
# two more are allowed so that a picture of a few pixels has room for chance.
LEVELS = 1

# Float32 places a pixel with an error that grows with the image's longer side, at most 1.2e-7 of it, by which its
# neighbours, up to 255 levels apart, are weighed wrongly: so near to the middle between two bytes either one is right.
# At 32 pixels it is a thousandth of a level.
NEAR_TIE = 3e-5

# A vision backbone in fewer bits: what extraction itself allows, when it compares ways of computing on a GPU.
BFLOAT16_BACKBONE, FLOAT16_BACKBONE, TF32_BACKBONE = (ROUNDING[dtype] for dtype in ("bfloat16", "float16", "tf32"))


def levels_allowed(pixels: int) -> int:
    """How many of that many pixels may be off by one level."""
    return 2 + pixels // 1000


def near_tie(shape: tuple[int, ...]) -> float:
    """How many levels from the middle between two bytes either is right, in images (..., height, width)."""
    return NEAR_TIE * max(shape[-2:], default=0)


def limit(dtype: str, numpy_error: float, floor: float) -> float:
    """The largest error of an op or a step, given what NumPy makes in this dtype on the same input, and the floor."""
    if dtype == "float64":
        return STEP[dtype]
    return min(STEP[dtype], max(NUMPY_FACTOR * numpy_error, floor))
