"""Several runs summarised: their mean, standard deviation, and the 95% confidence interval of the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

CONFIDENCE = 0.95


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


def _students_t(freedom: int) -> float:
    """The half-width of the interval, in standard errors, for that many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
