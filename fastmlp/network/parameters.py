"""The parameters of a multi-layer perceptron on the host, and how they are first drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import UsageError
from fastmlp.network.scaling import Scaling

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Parameters:
    """Host weights [(fan_in, fan_out), ...] and biases [(fan_out,), ...], one pair per layer.

    scaling: they are for features that are standardised by it first; None: for features as they come.
    """

    weights: tuple[NDArray[Any], ...]
    biases: tuple[NDArray[Any], ...]
    scaling: Scaling | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.weights[0].shape[0], *(weight.shape[1] for weight in self.weights))

    @property
    def dtype(self) -> str:
        return self.weights[0].dtype.name

    def astype(self, dtype: str) -> Parameters:
        weights, biases = (tuple(array.astype(dtype) for array in arrays) for arrays in (self.weights, self.biases))
        return Parameters(weights, biases, self.scaling)

    @property
    def plain(self) -> Parameters:
        """The same network for features as they come; exact but for rounding, which large offsets magnify.

        Raises ValueError for one whose rows are first brought to unit length, which no weights can do.
        """
        scaling = self.scaling
        if scaling is not None and scaling.unit:
            raise ValueError("No weights bring rows to unit length.")
        return self if scaling is None else self.for_plain_features(scaling.mean, scaling.scale)

    def for_plain_features(self, mean: NDArray[Any], scale: NDArray[Any] | float) -> Parameters:
        """Parameters that answer for features what these do for (features - mean) * scale.

        mean (inputs,); scale, one number or one per feature (inputs,). The first layer's weights are scale * W1 and
        its biases B1 - mean scale W1, computed in float64.
        """
        weight = np.reshape(np.asarray(scale, np.float64), (-1, 1)) * self.weights[0]
        bias = self.biases[0] - mean @ weight
        return Parameters((weight, *self.weights[1:]), (bias, *self.biases[1:])).astype(self.dtype)

    def rescaled(self, scaling: Scaling) -> Parameters:
        """Parameters that answer for features standardised by another scaling what these do for their own."""
        assert self.scaling is not None
        ratio = (self.scaling.scale / scaling.scale)[:, None]
        shift = (scaling.mean - self.scaling.mean) * self.scaling.scale
        weight, bias = ratio * self.weights[0], self.biases[0] + shift @ self.weights[0]
        return Parameters((weight, *self.weights[1:]), (bias, *self.biases[1:]), scaling).astype(self.dtype)


def initial_parameters(sizes: Sequence[int], init: str = "paper", seed: int = 0, dtype: str = "float32") -> Parameters:
    """Weights for the layer sizes (inputs, hidden..., classes); biases are zero.

    init="paper" draws randn/1000 from the legacy RandomState(seed), layer by layer, as the paper does; init="he"
    scales normal weights by sqrt(2 / fan_in) (He et al. 2015, eq. 10), which also trains deep or narrow networks.
    """
    _check_sizes(sizes, dtype)
    if init == "paper":
        legacy = np.random.RandomState(seed)
        weights = [legacy.randn(*shape) / 1000 for shape in pairwise(sizes)]
    elif init == "he":
        rng = np.random.default_rng(np.random.SeedSequence(seed))
        weights = [rng.standard_normal(shape) * np.sqrt(2 / shape[0]) for shape in pairwise(sizes)]
    else:
        raise UsageError(f"init must be 'paper' or 'he', not {init!r}.")
    biases = [np.zeros(fan_out) for fan_out in sizes[1:]]
    return Parameters(tuple(weights), tuple(biases)).astype(dtype)


def _check_sizes(sizes: Sequence[int], dtype: str) -> None:
    if len(sizes) < 2 or min(sizes) < 1:
        raise UsageError(f"Layer sizes must be two or more positive numbers, not {tuple(sizes)}.")
    if dtype not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
