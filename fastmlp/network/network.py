"""The multi-layer perceptron, bound to a backend. Its ops are in `fastmlp.ops.network`.

Equations (the paper's): Z1 = A0 W1 + B1, A1 = ReLU(Z1), Z2 = A1 W2 + B2, A2 = softmax(Z2); the loss is the mean
cross-entropy over the m rows of a batch. Here dZ2 = (A2 - Y) / m carries the 1/m once, so that dW = A' dZ and
dB = sum(dZ) are the gradients of the mean loss at every layer; dZ1 = dZ2 W2' * (Z1 > 0); w -= learning_rate * dw,
or another optimizer's step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Data, EpochRunner, Ops, Scalar
from fastmlp.common.errors import UsageError
from fastmlp.kernels import Head
from fastmlp.network.buffers import Group, Workspace
from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.network.parameters import DTYPES, Parameters, initial_parameters
from fastmlp.ops.network import FUSED, OPS

__all__ = [
    "DTYPES",
    "EVALUATION_ROWS",
    "FLOPS_WORTH_THREADS",
    "TIERS",
    "Network",
    "Parameters",
    "Tier",
    "choose_tier",
    "initial_parameters",
    "softmax",
    "train_epoch_together",
]

EVALUATION_ROWS = 2048  # a batch that keeps the forward pass in cache and the number of calls low
NO_ROWS = "There are no rows to take the mean loss of: give at least one."
FLOPS_WORTH_THREADS = 16_000_000  # of one product: about 0.1 ms on one core


# Which code runs.


@dataclass(frozen=True)
class Tier:
    """Which code trains the network: 1 array code, 2 fused ops, 3 a fused epoch; and why."""

    number: int
    name: str
    reason: str


TIERS = {1: "array code", 2: "fused ops", 3: "fused epoch"}


def choose_tier(
    sizes: Sequence[int], dtype: str, backend: Backend, optimizer: Optimizer = SGD, batch_size: int = 64
) -> Tier:
    """The best tier that this backend has for a network of these sizes and dtype, trained in such steps."""
    network = f"{'-'.join(map(str, sizes))} {dtype}"
    missing = [op for op in (*FUSED, optimizer.update) if op not in backend.kernels]
    refusal = backend.fused_epoch_refusal(sizes, dtype, batch_size)
    if not refusal:
        return _tier(3, f"{backend} trains this network a whole epoch in one call ({network})")
    if missing:
        return _tier(1, f"{backend} has no kernel for {', '.join(missing)} ({network})")
    return _tier(2, f"{backend} has a kernel for every fused op ({network}); {refusal}")


def _tier(number: int, reason: str) -> Tier:
    return Tier(number, TIERS[number], reason)


# The network, bound to a backend.


class Network:
    """An MLP bound once to a backend, a dtype and a largest batch: a step then checks and copies nothing.

    Raises UsageError for a batch size below 1, or a tier that this network does not have on the backend.
    """

    def __init__(
        self,
        parameters: Parameters,
        backend: Backend,
        batch_size: int,
        tier: int | None = None,
        optimizer: Optimizer = SGD,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"The batch size must be 1 or more, not {batch_size}.")
        self.backend, self.sizes, self.dtype = backend, parameters.sizes, parameters.dtype
        self.optimizer, self.steps = optimizer, 0
        self.mean: Array | None = None
        self.scale = 1.0
        self.tier = choose_tier(self.sizes, self.dtype, backend, optimizer, batch_size)
        if tier is not None and tier != self.tier.number:
            self.tier = self._lower_tier(tier)
        self.batch_size = batch_size
        self.ops = Ops(OPS, backend, kernels=self.tier.number > 1 or tier is None)
        self._weights = Group(backend, parameters.weights, optimizer.moments)
        self._biases = Group(backend, parameters.biases, optimizer.moments)
        self.weights, self.weight_gradients = self._weights.values.views, self._weights.gradients.views
        self.biases, self.bias_gradients = self._biases.values.views, self._biases.gradients.views
        self._transposed_weights = [weight.T for weight in self.weights]
        self._workspaces: dict[int, Workspace] = {}
        self._runner: EpochRunner | None = None

    def _lower_tier(self, tier: int) -> Tier:
        if not 1 <= tier < self.tier.number:
            raise UsageError(
                f"Backend {self.backend} has no tier {tier} for this network: its best is {self.tier.number}."
            )
        return _tier(tier, "asked for")

    def _empty(self, shape: tuple[int, ...], dtype: str | None = None) -> Array:
        return self.backend.empty(shape, dtype or self.dtype)

    # What is trained.

    def standardize(self, mean: NDArray[np.float64], scale: float) -> None:
        """Train on (features - mean) * scale from now on; mean (inputs,).

        Only `weights` and `biases` are then for such features: `parameters` and what is evaluated are for features as
        they are, for which the first layer's weights are scale * W1 and its biases B1 - mean scale W1.
        """
        self.mean, self.scale = self.backend.asarray(mean.astype(self.dtype)), float(scale)
        self._runner = None

    @property
    def parameters(self) -> Parameters:
        """The weights and biases as they are now, for features as they are, copied to the host."""
        weights, biases = ([self._to_host(a) for a in arrays] for arrays in (self.weights, self.biases))
        if self.mean is not None:
            first = self.scale * weights[0].astype(np.float64)
            weights[0] = first.astype(self.dtype)
            biases[0] = (biases[0] - self._to_host(self.mean) @ first).astype(self.dtype)
        return Parameters(tuple(weights), tuple(biases))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """All that training goes on from, to the last bit, copied to the host: assign it to a network like this one.

        The flat weights and biases (n,), the optimizer's moments of them, the number of steps taken (1,), and, where
        features are standardised, mean (inputs,) and scale (1,).
        """
        state = {name: self._to_host(array) for name, array in self._arrays()}
        state["steps"] = np.array([self.steps])
        if self.mean is not None:
            state |= {"mean": self._to_host(self.mean), "scale": np.array([self.scale])}
        return state

    @state.setter
    def state(self, state: Mapping[str, NDArray[Any]]) -> None:
        for name, array in self._arrays():
            array[...] = self.backend.asarray(state[name])
        self.steps = int(state["steps"][0])
        if "mean" in state:
            self.standardize(state["mean"], state["scale"][0])

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for kind, group in (("weights", self._weights), ("biases", self._biases)):
            yield kind, group.values.flat
            for number, moment in enumerate(group.moments, start=1):
                yield f"moment_{number}_{kind}", moment.flat

    def _to_host(self, array: Array) -> NDArray[Any]:
        return np.array(self.backend.to_numpy(array))

    # Forward and backward.

    def forward(self, activations: list[Array], weights: Sequence[Array], biases: Sequence[Array]) -> None:
        """Fill activations[1:] from activations[0] by those weights and biases; the last are the logits."""
        last = len(weights) - 1
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            forward = self.ops.dense_relu if layer < last else self.ops.dense
            forward(activations[layer], weight, bias, activations[layer + 1])

    def backward(self, work: Workspace) -> None:
        """Fill the gradients of all weights and biases from the activations and the last delta."""
        for layer in reversed(range(len(self.weights))):
            delta = work.deltas[layer]
            inputs, weight = work.transposed[layer], self._transposed_weights[layer]
            self.ops.dense_gradients(inputs, delta, self.weight_gradients[layer], self.bias_gradients[layer])
            if layer > 0:
                self.ops.dense_backward(delta, weight, work.activations[layer], work.deltas[layer - 1])

    def update(self, decay: Scalar, step_size: Scalar, scale: Scalar) -> None:
        """One step of the optimizer on every weight and bias, in place, by a row of its coefficients."""
        for group, kept in ((self._weights, decay), (self._biases, 1.0)):
            values, gradients = group.values.flat, group.gradients.flat
            if group.moments:
                first, second = (moment.flat for moment in group.moments)
                self.ops.adam_update(values, gradients, first, second, step_size, scale, kept, values, first, second)
            else:
                self.ops.sgd_update(values, gradients, step_size, kept, values)

    def gradients(
        self, features: Array, labels: Array, index: Array, loss: Array, hits: Array, weights: Array | None = None
    ) -> None:
        """Fill the gradients of the mean loss over the rows that index names; loss, hits as (weighted_)softmax_xent."""
        work = self._workspace(index.shape[0])
        self.ops.gather(features, index, work.activations[0])
        self.ops.gather(labels, index, work.labels)
        if self.mean is not None:
            self.ops.standardize(work.activations[0], self.mean, self.scale, work.activations[0])
        self.forward(work.activations, self.weights, self.biases)
        logits, delta = work.activations[-1], work.deltas[-1]
        if weights is None:
            self.ops.softmax_xent(logits, work.labels, delta, loss, hits)
        else:
            self.ops.gather(weights, index, work.weights)
            self.ops.weighted_softmax_xent(logits, work.labels, work.weights, delta, loss, hits)
        self.backward(work)

    # Whole passes.

    def train_epoch(
        self, features: Array, labels: Array, order: NDArray[np.int64], learning_rates: NDArray[np.float64]
    ) -> tuple[float, float]:
        """Mini-batch training over the rows in that order, one learning rate a step (steps,).

        Returns the mean loss and accuracy seen on the way. Raises UsageError if there are no rows, or not as many
        learning rates as batches.
        """
        return train_epoch_together([self], features, labels, [order], [learning_rates])[0]

    def _train_step_by_step(
        self, data: Data, order: NDArray[np.int64], coefficients: NDArray[np.float64]
    ) -> tuple[Array, Array]:
        """An epoch of single ops, handed to the device: its losses (steps,) and hits int64 (steps,) to come."""
        losses, hits = self._empty((len(coefficients),)), self._empty((len(coefficients),), "int64")
        if self._runner is None:
            self._runner = self.backend.epoch_runner(self.batch_size, kernels=self.tier.number > 1)
        with self.backend.without_autograd(), self._threading():
            self._runner(self._take_steps, data, order, coefficients, losses, hits)
        return losses, hits

    def _take_steps(
        self, data: Data, order: Array, coefficients: Sequence[Sequence[Scalar]], losses: Array, hits: Array
    ) -> None:
        """Steps over the rows in that order; coefficients: the optimizer's three numbers for each."""
        features, labels, weights = data
        split = self.backend.split
        batches = zip(split(order, self.batch_size), split(losses, 1), split(hits, 1), coefficients, strict=True)
        for index, loss, hit, numbers in batches:
            self.gradients(features, labels, index, loss, hit, weights)
            self.update(*numbers)

    def _coefficients(self, learning_rates: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
        """The optimizer's numbers for each of the next steps, which go once over that many rows."""
        steps = -(-rows // self.batch_size)
        if rows == 0:
            raise UsageError(NO_ROWS)
        if np.shape(learning_rates) != (steps,):
            raise UsageError(f"Give one learning rate a step, {steps} here, not {np.size(learning_rates)}.")
        coefficients = self.optimizer.coefficients(learning_rates, self.steps + 1)
        self.steps += steps
        return coefficients

    def _head(self, order: NDArray[np.int64], steps: NDArray[np.float64]) -> Head:
        """This network as a fused epoch takes it."""
        weights, biases = ([group.values, *group.moments] for group in (self._weights, self._biases))
        slots = [(w.views[0], b.views[0], w.views[1], b.views[1]) for w, b in zip(weights, biases, strict=True)]
        return Head(slots, order, self.batch_size, steps, self.mean, self.scale)

    def evaluate(self, features: Array, labels: Array) -> tuple[float, float]:
        """Mean cross-entropy and accuracy over all rows."""
        count = features.shape[0]
        if self.tier.number == 3 and self.backend.fuses_evaluation and count > 0:
            every_row = self._head(np.arange(count), np.empty((0, 3)))
            [(loss, hit)] = self.backend.fused_evaluation([every_row], features, labels)
            return loss / count, hit / count
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
        weights, biases = self._plain
        for start in range(0, count, EVALUATION_ROWS):
            part = features[start : min(start + EVALUATION_ROWS, count), ...]
            hidden = [buffer[: part.shape[0], ...] for buffer in self._evaluation_buffers]
            self.forward([part, *hidden], weights, biases)
            yield start, hidden[-1]

    @property
    def _plain(self) -> tuple[Sequence[Array], Sequence[Array]]:
        """Weights and biases on the device, for features as they are."""
        if self.mean is None:
            return self.weights, self.biases
        plain = self.parameters
        return [self.backend.asarray(w) for w in plain.weights], [self.backend.asarray(b) for b in plain.biases]

    def _threading(self) -> AbstractContextManager[Any]:
        """One thread for small products, which two share at little gain, and at a great loss where a core is busy."""
        largest = 2 * self.batch_size * max(weight.shape[0] * weight.shape[1] for weight in self.weights)
        return self.backend.one_thread() if largest < FLOPS_WORTH_THREADS else nullcontext()

    def _means(self, losses: Array, hits: Array, count: int) -> tuple[float, float]:
        if count == 0:
            raise UsageError(NO_ROWS)
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
            self._empty((rows,)),
        )


def train_epoch_together(
    networks: Sequence[Network],
    features: Array,
    labels: Array,
    orders: Sequence[NDArray[np.int64]],
    learning_rates: Sequence[NDArray[np.float64]],
    weights: Array | None = None,
) -> list[tuple[float, float]]:
    """One epoch of each network over the same rows, each in its own order; its mean loss and accuracy.

    The networks have one backend, shape and batch size. Every one ends as if it were trained alone. weights (n,), of
    the features' dtype and of mean 1, weigh each row's loss; there is no fused epoch with them, so they take tier 2.
    """
    each = zip(networks, orders, learning_rates, strict=True)
    epochs = [(network, order, network._coefficients(rates, len(order))) for network, order, rates in each]
    if networks[0].tier.number < 3 or weights is not None:
        started = [n._train_step_by_step((features, labels, weights), order, steps) for n, order, steps in epochs]
        ended = zip(networks, started, orders, strict=True)
        return [network._means(losses, hits, len(order)) for network, (losses, hits), order in ended]
    heads = [network._head(order, steps) for network, order, steps in epochs]
    totals = networks[0].backend.fused_epoch(heads, features, labels)
    return [(loss / len(order), hits / len(order)) for (loss, hits), order in zip(totals, orders, strict=True)]


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Class probabilities (n, c) of logits (n, c), on the host."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
