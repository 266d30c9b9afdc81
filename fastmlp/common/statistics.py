"""Several runs summarised, and two models told apart: means, their errors, 95% intervals, and p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
NORMAL = 1.96  # standard errors to either side of the mean of many hold that interval


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """mean, std (n - 1 in the denominator), low and high of the mean's interval (Student's t), and the values.

    std, low and high are None for a single value. JSON-able if the values are.
    """
    count, mean = len(values), float(np.mean(values))
    summary: dict[str, Any] = {"mean": mean, "std": None, "low": None, "high": None, "values": list(values)}
    if count > 1:
        std = float(np.std(values, ddof=1))
        margin = _students_t(count - 1) * std / math.sqrt(count)
        summary |= {"std": std, "low": mean - margin, "high": mean + margin}
    return summary


def accuracy_error(accuracy: float, rows: int) -> float:
    """The standard error (binomial) of an accuracy over that many independent rows."""
    return math.sqrt(accuracy * (1 - accuracy) / rows)


def paired_difference(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, float]:
    """How far one model is ahead of another by their hits (n,) on the same rows, n > 0: JSON-able.

    mean: of the differences row by row; standard_error: of that mean; p_value: of McNemar's exact test (1947), which
    takes the rows that one alone got right for tosses of a fair coin.
    """
    from scipy.special import bdtr

    difference = one.astype(np.int64) - other
    alone, against = int((difference > 0).sum()), int((difference < 0).sum())
    error = float(np.std(difference, ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    p_value = min(1.0, 2 * float(bdtr(min(alone, against), alone + against, 0.5))) if alone + against else 1.0
    return {"mean": float(difference.mean()), "standard_error": error, "p_value": p_value}


def _students_t(freedom: int) -> float:
    """The half-width of the interval, in standard errors, for that many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
