"""One node of a trained network at work on one image: what the paper's Figure 3 shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.features.tables import RowArray
from fastmlp.network.parameters import Parameters
from fastmlp.network.scaling import blocks

SHOWN = 6  # inputs, one by one
NUMBERS = 2**20  # features looked at at a time


def node_at_work(
    parameters: Parameters, features: RowArray, labels: NDArray[np.int64], class_names: Sequence[str]
) -> dict[str, Any] | None:
    """The first layer's unit with the largest outgoing weights, on the row that excites it most; None without one.

    features (n, d), labels (n,). JSON-able: unit and image (the row), from 0, and the image's class; inputs: feature,
    value and weight of those with the largest products; adding and subtracting: how many others have positive and
    negative products, and the sums of these; bias; sum, of all products and the bias; activation, ReLU of the sum.
    """
    if len(parameters.weights) == 1:
        return None
    unit = int(np.linalg.norm(parameters.weights[1], axis=1).argmax())
    weights = parameters.weights[0][:, unit].astype(np.float64)
    image = int(_sums(features, weights).argmax())
    row = features[image]
    products = row * weights
    order = np.argsort(-np.abs(products), kind="stable")
    shown, others = order[:SHOWN], products[order[SHOWN:]]
    bias = float(parameters.biases[0][unit])
    total = float(products.sum()) + bias
    return {
        "unit": unit,
        "image": image,
        "class": class_names[labels[image]],
        "inputs": [{"feature": int(one), "value": float(row[one]), "weight": float(weights[one])} for one in shown],
        "adding": _summed(others[others > 0]),
        "subtracting": _summed(others[others < 0]),
        "bias": bias,
        "sum": total,
        "activation": max(total, 0.0),
    }


def _sums(features: RowArray, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of products (n,) of every row (n, d) with the weights (d,)."""
    parts = blocks(len(features), max(1, NUMBERS // len(weights)))
    return np.concatenate([features[rows] @ weights for rows in parts])


def _summed(products: NDArray[np.float64]) -> dict[str, Any]:
    return {"count": len(products), "sum": float(products.sum())}
