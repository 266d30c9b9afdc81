"""The op of logistic regression at several strengths of its penalty at once, in array code.

The last axis of its arrays is the rows of the data, so that every maximum and sum over classes is over whole vectors.
"""

from __future__ import annotations

from typing import Any

from fastmlp.ops import Array


def softmax_residuals(xp: Any, logits: Array, is_label: Array) -> tuple[Array, Array]:
    """Cross-entropies (s, m) and the probabilities minus the one-hot labels (s, c, m), in one pass.

    logits (s, c, m) of s heads, c classes and m rows, which are overwritten; is_label bool (c, m). Both results keep
    their relative precision where a label's probability rounds to 1: neither subtracts it from 1.
    """
    logits -= xp.max(logits, axis=1, keepdims=True)
    zeros = xp.zeros_like(logits)
    at_label = xp.sum(xp.where(is_label, logits, zeros), axis=1)
    exponentials = xp.exp(logits)
    others = xp.sum(xp.where(is_label, zeros, exponentials), axis=1)
    of_label = xp.exp(at_label)
    losses = xp.log1p(others + (of_label - 1)) - at_label
    residuals = xp.where(is_label, -others[:, None, :], exponentials)
    residuals /= (others + of_label)[:, None, :]
    return losses, residuals
