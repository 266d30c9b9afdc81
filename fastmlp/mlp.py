"""The multi-layer perceptron: its parameters, its ops in array code, and the network bound to a backend.

Every op below takes the array namespace first, then its inputs, then the arrays it fills, and returns nothing.
Inputs are never changed unless the caller passes one of them as output too, which the elementwise ops allow.
A backend may replace an op by a kernel of the same name (see `fastmlp.backends.base.Ops`).

Equations (the paper's): Z1 = A0 W1 + B1, A1 = ReLU(Z1), Z2 = A1 W2 + B2, A2 = softmax(Z2); the loss is the mean
cross-entropy over the m rows of a batch. Here dZ2 = (A2 - Y) / m carries the 1/m once, so that dW = A' dZ and
dB = sum(dZ) are the gradients of the mean loss at every layer; dZ1 = dZ2 W2' * (Z1 > 0); w -= learning_rate * dw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Ops
from fastmlp.errors import UsageError

Namespace = Any

EVALUATION_ROWS = 2048  # a batch that keeps the forward pass in cache and the number of calls low
DTYPES = ("float32", "float64")
FLOPS_WORTH_THREADS = 16_000_000  # of one product: about 0.1 ms on one core


# The ops.


def gather(xp: Namespace, source: Array, index: Array, out: Array) -> None:
    """out (m, ...) = the rows of source (n, ...) that index int64 (m,) names."""
    out[...] = xp.take(source, index, axis=0)


def matmul(xp: Namespace, a: Array, b: Array, out: Array) -> None:
    """out (m, n) = a (m, k) times b (k, n); either may be a transposed view."""
    out[...] = xp.matmul(a, b)


def add_bias(xp: Namespace, z: Array, bias: Array, out: Array) -> None:
    """out (m, n) = z (m, n) + bias (n,); out may be z."""
    out[...] = z + bias


def bias_relu(xp: Namespace, z: Array, bias: Array, out: Array) -> None:
    """out (m, n) = max(z + bias, 0), NaN kept; out may be z."""
    biased = z + bias
    out[...] = xp.where(biased < 0, xp.zeros_like(biased), biased)


def relu_backward(xp: Namespace, gradient: Array, activation: Array, out: Array) -> None:
    """out (m, n) = gradient * (activation > 0); out may be gradient. A product, so NaN in the gradient stays."""
    out[...] = gradient * xp.astype(activation > 0, gradient.dtype)


def column_sum(xp: Namespace, values: Array, out: Array) -> None:
    """out (n,) = the sum of values (m, n) over its rows."""
    out[...] = xp.sum(values, axis=0)


def softmax_xent(xp: Namespace, logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
    """Softmax, cross-entropy and its gradient in one pass.

    logits (m, c), labels int64 (m,). Fills gradient (m, c) = (softmax - onehot) / m, loss (1,) = the sum over rows of
    -log softmax[label], and hits int64 (1,) = how many rows have their first largest logit at the label. gradient may
    be logits. A row with NaN counts as a miss.
    """
    rows, classes = logits.shape
    largest = xp.max(logits, axis=1, keepdims=True)
    shifted = logits - largest
    exponentials = xp.exp(shifted)
    sums = xp.sum(exponentials, axis=1, keepdims=True)
    is_label = labels[:, None] == xp.arange(classes, dtype=labels.dtype, device=logits.device)[None, :]
    at_label = xp.sum(xp.where(is_label, shifted, xp.zeros_like(shifted)), axis=1)
    hit = (xp.argmax(logits, axis=1) == labels) & ~xp.isnan(largest[:, 0])
    loss[...] = xp.sum(xp.log(sums[:, 0]) - at_label)
    hits[...] = xp.sum(xp.astype(hit, labels.dtype))
    gradient[...] = (exponentials / sums - xp.astype(is_label, logits.dtype)) / max(rows, 1)


def sgd_update(xp: Namespace, parameter: Array, gradient: Array, learning_rate: float, out: Array) -> None:
    """out = parameter - learning_rate * gradient, any shape; out may be parameter."""
    out[...] = parameter - learning_rate * gradient


OPS = {
    op.__name__: op for op in (gather, matmul, add_bias, bias_relu, relu_backward, column_sum, softmax_xent, sgd_update)
}
FUSED = ("bias_relu", "relu_backward", "softmax_xent", "sgd_update")


# Parameters.


@dataclass(frozen=True)
class Parameters:
    """Host weights [(fan_in, fan_out), ...] and biases [(fan_out,), ...], one pair a layer."""

    weights: tuple[NDArray[Any], ...]
    biases: tuple[NDArray[Any], ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.weights[0].shape[0], *(weight.shape[1] for weight in self.weights))

    @property
    def dtype(self) -> str:
        return self.weights[0].dtype.name

    def astype(self, dtype: str) -> Parameters:
        return Parameters(tuple(w.astype(dtype) for w in self.weights), tuple(b.astype(dtype) for b in self.biases))


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


# Which code runs.


@dataclass(frozen=True)
class Tier:
    """Which code trains the network: 1 array code, 2 fused ops; and why."""

    number: int
    name: str
    reason: str


def choose_tier(sizes: Sequence[int], dtype: str, backend: Backend) -> Tier:
    """The best tier that this backend has for a network of these sizes and dtype."""
    network = f"{'-'.join(map(str, sizes))} {dtype}"
    missing = [op for op in FUSED if op not in backend.kernels]
    if missing:
        return Tier(1, "array code", f"{backend} has no kernel for {', '.join(missing)} ({network})")
    return Tier(2, "fused ops", f"{backend} has a kernel for every fused op ({network})")


# The network, bound to a backend.


class Workspace:
    """The activations and gradients of one batch of m rows, and the views a step needs of them."""

    def __init__(self, activations: list[Array], deltas: list[Array], labels: Array) -> None:
        self.activations, self.deltas, self.labels = activations, deltas, labels
        self.transposed = [activation.T for activation in activations]

    def rows(self, m: int) -> Workspace:
        return Workspace([a[:m, ...] for a in self.activations], [d[:m, ...] for d in self.deltas], self.labels[:m])


class Network:
    """An MLP bound once to a backend, a dtype and a largest batch: a step then checks and copies nothing.

    Raises UsageError for a batch size below 1, or a tier that this network does not have on the backend.
    """

    def __init__(self, parameters: Parameters, backend: Backend, batch_size: int, tier: int | None = None) -> None:
        if batch_size < 1:
            raise UsageError(f"The batch size must be 1 or more, not {batch_size}.")
        self.backend, self.sizes, self.dtype = backend, parameters.sizes, parameters.dtype
        self.tier = choose_tier(self.sizes, self.dtype, backend)
        if tier is not None and tier != self.tier.number:
            self.tier = self._lower_tier(tier)
        self.batch_size = batch_size
        self.ops = Ops(OPS, backend, kernels=self.tier.number > 1 or tier is None)
        self.weights = [self._place(weight) for weight in parameters.weights]
        self.biases = [self._place(bias) for bias in parameters.biases]
        self.weight_gradients = [self._empty(weight.shape) for weight in parameters.weights]
        self.bias_gradients = [self._empty(bias.shape) for bias in parameters.biases]
        self._transposed_weights = [weight.T for weight in self.weights]
        self._workspaces: dict[int, Workspace] = {}

    def _lower_tier(self, tier: int) -> Tier:
        if not 1 <= tier < self.tier.number:
            raise UsageError(
                f"Backend {self.backend} has no tier {tier} for this network: its best is {self.tier.number}."
            )
        return Tier(tier, "array code", "asked for")

    def _place(self, array: NDArray[Any]) -> Array:
        return self.backend.asarray(np.array(array, order="C"))

    def _empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        return self.backend.empty(shape, dtype or self.dtype)

    @property
    def parameters(self) -> Parameters:
        """The weights and biases as they are now, copied to the host."""

        def host(arrays: list[Array]) -> tuple[NDArray[Any], ...]:
            return tuple(np.array(self.backend.to_numpy(array)) for array in arrays)

        return Parameters(host(self.weights), host(self.biases))

    # Forward and backward.

    def forward(self, activations: list[Array]) -> None:
        """Fill activations[1:] from activations[0]; the last are the logits."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = activations[layer + 1]
            self.ops.matmul(activations[layer], weight, z)
            if layer < last:
                self.ops.bias_relu(z, bias, z)
            else:
                self.ops.add_bias(z, bias, z)

    def backward(self, work: Workspace) -> None:
        """Fill the gradients of all weights and biases from the activations and the last delta."""
        for layer in reversed(range(len(self.weights))):
            delta = work.deltas[layer]
            self.ops.matmul(work.transposed[layer], delta, self.weight_gradients[layer])
            self.ops.column_sum(delta, self.bias_gradients[layer])
            if layer > 0:
                below = work.deltas[layer - 1]
                self.ops.matmul(delta, self._transposed_weights[layer], below)
                self.ops.relu_backward(below, work.activations[layer], below)

    def update(self, learning_rate: float) -> None:
        """One step of gradient descent on every weight and bias, in place."""
        for parameter, gradient in zip(
            (*self.weights, *self.biases), (*self.weight_gradients, *self.bias_gradients), strict=True
        ):
            self.ops.sgd_update(parameter, gradient, learning_rate, parameter)

    def gradients(self, features: Array, labels: Array, index: Array, loss: Array, hits: Array) -> None:
        """Fill the gradients of the mean loss over the rows that index names; loss and hits as softmax_xent."""
        work = self._workspace(index.shape[0])
        self.ops.gather(features, index, work.activations[0])
        self.ops.gather(labels, index, work.labels)
        self.forward(work.activations)
        self.ops.softmax_xent(work.activations[-1], work.labels, work.deltas[-1], loss, hits)
        self.backward(work)

    # Whole passes.

    def train_epoch(
        self, features: Array, labels: Array, order: NDArray[np.int64], learning_rate: float
    ) -> tuple[float, float]:
        """Mini-batch gradient descent over the rows in that order; the mean loss and accuracy seen on the way."""
        count = len(order)
        starts = range(0, count, self.batch_size)
        losses, hits = self._empty((len(starts),)), self._empty((len(starts),), "int64")
        placed = self.backend.asarray(order)
        with self._threading():
            for batch, start in enumerate(starts):
                index = placed[start : min(start + self.batch_size, count)]
                self.gradients(features, labels, index, losses[batch : batch + 1], hits[batch : batch + 1])
                self.update(learning_rate)
        return self._means(losses, hits, count)

    def evaluate(self, features: Array, labels: Array) -> tuple[float, float]:
        """Mean cross-entropy and accuracy over all rows."""
        count = features.shape[0]
        batches = -(-count // EVALUATION_ROWS)
        losses, hits = self._empty((batches,)), self._empty((batches,), "int64")
        for batch, (start, logits) in enumerate(self._logits(features)):
            here = slice(batch, batch + 1)
            rows = labels[start : start + logits.shape[0]]
            self.ops.softmax_xent(logits, rows, logits, losses[here], hits[here])
        return self._means(losses, hits, count)

    def logits(self, features: Array) -> NDArray[Any]:
        """Logits (n, classes) of features (n, inputs), on the host."""
        parts = [np.array(self.backend.to_numpy(logits)) for _, logits in self._logits(features)]
        return np.concatenate(parts) if parts else np.empty((0, self.sizes[-1]), self.dtype)

    def _logits(self, features: Array) -> Iterator[tuple[int, Array]]:
        """(first row, logits) of each part of the rows; the logits' memory is used again for the next."""
        count = features.shape[0]
        for start in range(0, count, EVALUATION_ROWS):
            part = features[start : min(start + EVALUATION_ROWS, count), ...]
            hidden = [buffer[: part.shape[0], ...] for buffer in self._evaluation_buffers]
            self.forward([part, *hidden])
            yield start, hidden[-1]

    def _threading(self) -> AbstractContextManager[Any]:
        """One thread for small products, which two share at little gain, and at a great loss where a core is busy."""
        largest = 2 * self.batch_size * max(weight.shape[0] * weight.shape[1] for weight in self.weights)
        return self.backend.one_thread() if largest < FLOPS_WORTH_THREADS else nullcontext()

    def _means(self, losses: Array, hits: Array, count: int) -> tuple[float, float]:
        if count == 0:
            raise UsageError("There are no rows to take the mean loss of: give at least one.")
        loss = self.backend.to_numpy(losses).sum(dtype=np.float64)
        return float(loss) / count, int(self.backend.to_numpy(hits).sum()) / count

    @cached_property
    def _evaluation_buffers(self) -> list[Array]:
        return [self._empty((EVALUATION_ROWS, width)) for width in self.sizes[1:]]

    def _workspace(self, rows: int) -> Workspace:
        if rows not in self._workspaces:
            whole = self._workspaces.get(self.batch_size) or self._new_workspace()
            self._workspaces[self.batch_size] = whole
            self._workspaces[rows] = whole if rows == self.batch_size else whole.rows(rows)
        return self._workspaces[rows]

    def _new_workspace(self) -> Workspace:
        rows = self.batch_size
        return Workspace(
            [self._empty((rows, width)) for width in self.sizes],
            [self._empty((rows, width)) for width in self.sizes[1:]],
            self._empty((rows,), "int64"),
        )


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Class probabilities (n, c) of logits (n, c), on the host."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
