"""How much each row's loss counts: by its class, so that rare classes are not drowned."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError, did_you_mean

BALANCED = "balanced"
NAMED = re.compile(r"(?P<name>.+?)=(?P<weight>[^=,]+)(?:,|$)")  # names may have commas and equals signs

Weights = NDArray[np.float64]


def balanced(sums: Weights) -> Weights:
    """The weight of each class (k,) that makes all count the same, of the classes' sums of row weights (k,)."""
    return np.asarray(sums.mean() / np.where(sums > 0, sums, 1))


def relative(weights: Weights) -> Weights | None:
    """Row weights (n,) over their mean; None if all are equal, which trains faster."""
    return None if np.ptp(weights) == 0 else weights / weights.mean()


def parse_class_weight(text: str) -> dict[str, float]:
    """NAME=W,NAME=W as names and weights. Raises UsageError for anything else, or a weight that is not positive."""
    weights, end = {}, 0
    for match in NAMED.finditer(text):
        weight = _number(match["weight"])
        if match.start() != end or not (weight > 0 and math.isfinite(weight)) or match["name"] in weights:
            break
        weights[match["name"]], end = weight, match.end()
    if not weights or end < len(text):
        raise UsageError(
            f"--class-weight must be {BALANCED}, or NAME=W,NAME=W with a positive weight for each class that does not "
            f"weigh 1, not {text!r}."
        )
    return weights


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def weights_of_classes(text: str, class_names: Sequence[str], labels: NDArray[np.int64]) -> Weights:
    """The weight of each class (k,), 1 where the text names none; labels (n,) are places among the classes.

    text: "balanced", or as `parse_class_weight` takes it. Raises UsageError for the name of no class.
    """
    if text == BALANCED:
        return balanced(np.bincount(labels, minlength=len(class_names)).astype(np.float64))
    given, weights = parse_class_weight(text), np.ones(len(class_names))
    for name, weight in given.items():
        if name not in class_names:
            raise UsageError(
                f"--class-weight names {name!r}, which is no class{did_you_mean(name, class_names)}: the classes are "
                f"{', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}."
            )
        weights[list(class_names).index(name)] = weight
    return weights
