"""Training of a multi-layer perceptron, written from its equations: the truth of steps, epochs and evaluations.

    Z = A W + b    A' = max(Z, 0)    loss of a row = -sum of T log softmax(Z of the last layer)
    T = (1 - smoothing) onehot(label) + smoothing / classes, in evaluation onehot(label)

A batch's gradient is that of its mean loss. Everything is computed in the parameters' own dtype: in float64 it is the
truth, and in float32 it shows what plain NumPy loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Integers = NDArray[np.int64]

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's (Kingma and Ba 2015, algorithm 1)
MOMENTS = {"sgd": (), "momentum": ("velocity",), "adam": ("first", "second")}


@dataclass(frozen=True)
class Rule:
    """How a step follows from a gradient: the optimizer's name and numbers; decay is decoupled, and of weights only."""

    name: str
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True

    def applied(
        self, slots: Sequence[Floats], gradient: Floats, rate: float, decays: bool, number: int
    ) -> list[Floats]:
        """The value and the moments after step `number`, counted from 1."""
        value, *moments = slots
        step, moments = getattr(self, f"_{self.name}")(moments, gradient, number)
        kept = 1 - rate * self.weight_decay if decays else 1.0
        return [kept * value - rate * step, *moments]

    def _sgd(self, moments: list[Floats], gradient: Floats, number: int) -> tuple[Floats, list[Floats]]:
        return gradient, []

    def _momentum(self, moments: list[Floats], gradient: Floats, number: int) -> tuple[Floats, list[Floats]]:
        velocity = self.momentum * moments[0] + gradient
        return (gradient + self.momentum * velocity if self.nesterov else velocity), [velocity]

    def _adam(self, moments: list[Floats], gradient: Floats, number: int) -> tuple[Floats, list[Floats]]:
        first = BETA_1 * moments[0] + (1 - BETA_1) * gradient
        second = BETA_2 * moments[1] + (1 - BETA_2) * gradient**2
        unbiased_first, unbiased_second = first / (1 - BETA_1**number), second / (1 - BETA_2**number)
        return unbiased_first / (np.sqrt(unbiased_second) + EPSILON), [first, second]


@dataclass
class Network:
    """A network in training: the slots of each layer's weight (k, n) and bias (n,), the value and then the moments.

    It takes (features - mean (d,)) * scale for its inputs, or with no mean the features as they are. smoothing: of the
    labels that it is trained on.
    """

    weights: list[list[Floats]]
    biases: list[list[Floats]]
    rule: Rule
    mean: Floats | None = None
    scale: float = 1.0
    smoothing: float = 0.0
    steps: int = field(default=0, init=False)

    @classmethod
    def start(
        cls,
        weights: Sequence[Floats],
        biases: Sequence[Floats],
        rule: Rule,
        mean: Floats | None = None,
        scale: float = 1.0,
        smoothing: float = 0.0,
    ) -> Network:
        """With all moments zero."""
        moments = len(MOMENTS[rule.name])
        first, second = (
            [[value, *[np.zeros_like(value)] * moments] for value in values] for values in (weights, biases)
        )
        return cls(first, second, rule, mean, scale, smoothing)

    def inputs(self, features: Floats) -> Floats:
        return features if self.mean is None else (features - self.mean) * self.weights[0][0].dtype.type(self.scale)


@dataclass(frozen=True)
class Pass:
    """One batch forward and backward: every layer's inputs A and deltas dZ, the logits, each row's loss and hit."""

    inputs: list[Floats]
    before_relu: list[Floats]
    logits: Floats
    losses: Floats
    hits: NDArray[np.bool_]
    deltas: list[Floats]

    @property
    def gradients(self) -> tuple[list[Floats], list[Floats]]:
        """Of the weights and of the biases, layer by layer."""
        weights = [inputs.T @ delta for inputs, delta in zip(self.inputs, self.deltas, strict=True)]
        return weights, [delta.sum(axis=0) for delta in self.deltas]


def forward_and_backward(
    network: Network, features: Floats, labels: Integers, row_weights: Floats | None = None
) -> Pass:
    """The batch of these rows: features (m, d), labels (m,), and the weights of their losses (m,), 1 unless given."""
    inputs, before_relu, logits = _forward(network, network.inputs(features))
    weights = np.ones(len(labels), logits.dtype) if row_weights is None else row_weights
    probabilities, losses, hits = _softmax(logits, labels, network.smoothing)
    deltas = [(probabilities - _targets(logits, labels, network.smoothing)) * weights[:, None] / len(labels)]
    for layer in reversed(range(1, len(network.weights))):
        behind = deltas[0] @ network.weights[layer][0].T
        deltas.insert(0, behind * (inputs[layer] > 0))
    return Pass(inputs, before_relu, logits, weights * losses, hits, deltas)


def take_step(network: Network, passed: Pass, rate: float) -> None:
    """Update the network, in place, by one step of its rule."""
    network.steps += 1
    weights, biases = passed.gradients
    for group, gradients, decays in ((network.weights, weights, True), (network.biases, biases, False)):
        group[:] = [
            network.rule.applied(slots, gradient, rate, decays, network.steps)
            for slots, gradient in zip(group, gradients, strict=True)
        ]


def train(
    network: Network,
    features: Floats,
    labels: Integers,
    order: Integers,
    batch_size: int,
    rates: NDArray[np.float64],
    row_weights: Floats | None = None,
) -> tuple[float, int]:
    """One pass over the rows in that order, a rate for each batch; returns the sum of losses and the hits."""
    loss, hits = 0.0, 0
    starts = range(0, len(order), batch_size)
    for start, rate in zip(starts, rates, strict=True):
        rows = order[start : start + batch_size]
        weights = None if row_weights is None else row_weights[rows]
        passed = forward_and_backward(network, features[rows], labels[rows], weights)
        take_step(network, passed, float(rate))
        loss += float(passed.losses.sum(dtype=np.float64))
        hits += int(passed.hits.sum())
    return loss, hits


def evaluate(network: Network, features: Floats, labels: Integers) -> tuple[float, int]:
    """The sum of losses and the hits of all rows."""
    _, losses, hits = _softmax(logits_of(network, features), labels)
    return float(losses.sum(dtype=np.float64)), int(hits.sum())


def logits_of(network: Network, features: Floats) -> Floats:
    return _forward(network, network.inputs(features))[2]


def for_plain_features(network: Network) -> tuple[list[Floats], list[Floats]]:
    """The weights and biases of the network that answers for the features as they are: (x - mean) * scale taken in."""
    weights, biases = ([slots[0] for slots in group] for group in (network.weights, network.biases))
    if network.mean is not None:
        weights[0] = network.scale * weights[0]
        biases[0] = biases[0] - network.mean @ weights[0]
    return weights, biases


def _forward(network: Network, first: Floats) -> tuple[list[Floats], list[Floats], Floats]:
    """The inputs of each layer, the hidden layers' values before ReLU, and the logits."""
    inputs, before_relu = [first], []
    for (weight, *_), (bias, *_) in zip(network.weights, network.biases, strict=True):
        before_relu.append(inputs[-1] @ weight + bias)
        inputs.append(np.where(before_relu[-1] < 0, before_relu[-1].dtype.type(0), before_relu[-1]))
    return inputs[:-1], before_relu[:-1], before_relu[-1]


def _targets(logits: Floats, labels: Integers, smoothing: float) -> Floats:
    """What the probabilities should be (m, c): smoothed labels."""
    targets = np.full_like(logits, smoothing / logits.shape[1])
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    return targets


def _softmax(logits: Floats, labels: Integers, smoothing: float = 0.0) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Probabilities (m, c), losses (m,), and whether each row's first largest logit is its label's: never with NaN."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    losses = np.log(sums[:, 0]) - shifted[np.arange(len(labels)), labels]
    if smoothing:
        losses = (1 - smoothing) * losses + smoothing * (np.log(sums[:, 0]) - shifted.mean(axis=1))
    hits = (logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)
    return exponentials / sums, losses, hits
