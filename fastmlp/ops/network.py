"""The ops of the multi-layer perceptron, in array code.

m rows in a batch, k inputs and n outputs of a layer, c classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fastmlp.ops import Array


class Rule(Protocol):
    """What kernels know about an optimizer, see `fastmlp.network.optimizers`.

    name: of its kernel; moments: what it keeps for every parameter; constants: the numbers that are the same in every
    step.
    """

    @property
    def name(self) -> str: ...
    @property
    def moments(self) -> tuple[str, ...]: ...
    @property
    def constants(self) -> Mapping[str, float]: ...


class Optimizer(Rule, Protocol):
    """A rule with its step in array code."""

    def step(
        self, xp: Any, gradient: Array, moments: Sequence[Array], coefficients: Sequence[float]
    ) -> tuple[Array, Sequence[Array]]: ...


class NetworkOps:
    """The ops on one array namespace."""

    # The optimizers whose step a derived class computes with its own kernels.
    optimizers: frozenset[str] = frozenset()

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    # The rows of a batch.

    def gather(self, source: Array, index: Array, out: Array) -> None:
        """out (m, ...) = the rows of source (n, ...) at index int64 (m,)."""
        out[...] = self.xp.take(source, index, axis=0)

    def standardize(self, features: Array, mean: Array, scale: float, out: Array) -> None:
        """out (m, n) = (features - mean (n,)) * scale; out may be features."""
        out[...] = (features - mean) * scale

    # A layer, forward.

    def matmul(self, a: Array, b: Array, out: Array) -> None:
        """out (m, n) = a (m, k) times b (k, n); either may be a transposed view."""
        out[...] = self.xp.matmul(a, b)

    def add_bias(self, z: Array, bias: Array, out: Array) -> None:
        """out (m, n) = z (m, n) + bias (n,); out may be z."""
        out[...] = z + bias

    def bias_relu(self, z: Array, bias: Array, out: Array) -> None:
        """out (m, n) = max(z + bias, 0), NaN kept; out may be z."""
        biased = z + bias
        out[...] = self.xp.where(biased < 0, self.xp.zeros_like(biased), biased)

    def dense(self, a: Array, weight: Array, bias: Array, out: Array) -> None:
        """out (m, n) = a (m, k) times weight (k, n) + bias (n,)."""
        self.matmul(a, weight, out)
        self.add_bias(out, bias, out)

    def dense_relu(self, a: Array, weight: Array, bias: Array, out: Array) -> None:
        """out (m, n) = max(a (m, k) times weight (k, n) + bias (n,), 0), NaN kept."""
        self.matmul(a, weight, out)
        self.bias_relu(out, bias, out)

    # A layer, backward.

    def relu_backward(self, gradient: Array, activation: Array, out: Array) -> None:
        """out (m, n) = gradient * (activation > 0); out may be gradient. A product, which keeps NaN in the gradient."""
        out[...] = gradient * self.xp.astype(activation > 0, gradient.dtype)

    def column_sum(self, values: Array, out: Array) -> None:
        """out (n,) = the sum of values (m, n) over its rows."""
        out[...] = self.xp.sum(values, axis=0)

    def dense_backward(self, delta: Array, weight: Array, activation: Array, out: Array) -> None:
        """out (m, n) = delta (m, k) times weight (k, n), a layer's transposed weights, * (activation (m, n) > 0)."""
        self.matmul(delta, weight, out)
        self.relu_backward(out, activation, out)

    def dense_gradients(self, inputs: Array, delta: Array, weight_gradient: Array, bias_gradient: Array) -> None:
        """weight_gradient (k, n) = inputs (k, m), a layer's transposed inputs, times delta (m, n); bias_gradient (n,) =
        the sum of delta over its rows."""
        self.matmul(inputs, delta, weight_gradient)
        self.column_sum(delta, bias_gradient)

    # Other activations, and what they make of a gradient.

    def logistic(self, z: Array, out: Array) -> None:
        """out (m, n) = 1 / (1 + exp(-z (m, n))), without overflow; out may be z."""
        xp = self.xp
        small = xp.exp(-xp.abs(z))
        out[...] = xp.where(z < 0, small, xp.ones_like(small)) / (1 + small)

    def tanh(self, z: Array, out: Array) -> None:
        """out (m, n) = tanh(z (m, n)); out may be z."""
        out[...] = self.xp.tanh(z)

    def exponential(self, z: Array, out: Array) -> None:
        """out (m, n) = exp(z (m, n)); out may be z."""
        out[...] = self.xp.exp(z)

    def softmax(self, logits: Array, out: Array) -> None:
        """out (m, c) = the exponentials of logits (m, c) over their sum in each row; out may be logits."""
        xp = self.xp
        exponentials = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        out[...] = exponentials / xp.sum(exponentials, axis=1, keepdims=True)

    def logistic_backward(self, gradient: Array, activation: Array, out: Array) -> None:
        """out (m, n) = gradient * activation * (1 - activation), the activation being logistic; out may be gradient."""
        out[...] = gradient * activation * (1 - activation)

    def tanh_backward(self, gradient: Array, activation: Array, out: Array) -> None:
        """out (m, n) = gradient * (1 - activation^2), the activation being tanh; out may be gradient."""
        out[...] = gradient * (1 - activation * activation)

    # Losses of predictions, number by number, whose gradient by what the output's activation was made of is predictions
    # - targets: the half squared error after none, log losses after softmax and logistic, half the Poisson deviance
    # after exp.

    def squared_error(self, predictions: Array, targets: Array, losses: Array) -> None:
        """losses (m, n) = (predictions (m, n) - targets (m, n))^2 / 2; losses may be predictions."""
        distance = predictions - targets
        losses[...] = distance * distance / 2

    def log_loss(self, probabilities: Array, targets: Array, least: float, losses: Array) -> None:
        """losses (m, c) = -targets * log probabilities, these taken between least and 1 - least, of one class of c;
        losses may be probabilities."""
        losses[...] = -(targets * self.xp.log(self.xp.clip(probabilities, least, 1 - least)))

    def binary_log_loss(self, probabilities: Array, targets: Array, least: float, losses: Array) -> None:
        """losses (m, n) = log_loss of yes and no, given the probabilities and targets (m, n) of yes; losses may be
        probabilities."""
        xp = self.xp
        yes = xp.clip(probabilities, least, 1 - least)
        losses[...] = -(targets * xp.log(yes) + (1 - targets) * xp.log(1 - yes))

    def poisson_deviance(self, predictions: Array, targets: Array, losses: Array) -> None:
        """losses (m, n) = y log(y / p) - y + p, half the deviance of predictions p > 0 from targets y of 0 and more;
        losses may be predictions."""
        xp = self.xp
        logarithms = xp.log(xp.where(targets == 0, xp.ones_like(targets), targets / predictions))
        losses[...] = targets * logarithms - targets + predictions

    def residual(self, predictions: Array, targets: Array, out: Array) -> None:
        """out (m, n) = predictions - targets; out may be predictions."""
        out[...] = predictions - targets

    def weigh_rows(self, values: Array, weights: Array, out: Array) -> None:
        """out (m, n) = values (m, n), each row times its weight (m,); out may be values."""
        out[...] = values * weights[:, None]

    def penalized_mean(self, sums: Array, values: Array, alpha: float, total: float, out: Array) -> None:
        """out (n,) = (sums + alpha * values) / total: a mean gradient with that of an L2 penalty; out may be sums."""
        out[...] = (sums + alpha * values) / total

    # The loss.

    def softmax_xent(self, logits: Array, labels: Array, gradient: Array, loss: Array, hits: Array) -> None:
        """Softmax, cross-entropy and its gradient in one pass.

        logits (m, c), labels int64 (m,). Fills gradient (m, c) = (softmax - onehot) / m, loss (1,) = the sum over rows
        of -log softmax[label], and hits int64 (1,) = how many rows have their first largest logit at the label.
        gradient may be logits. A row with NaN counts as a miss.
        """
        xp, rows = self.xp, logits.shape[0]
        largest = xp.max(logits, axis=1, keepdims=True)
        shifted = logits - largest
        exponentials = xp.exp(shifted)
        sums = xp.sum(exponentials, axis=1, keepdims=True)
        is_label = self._is_label(logits, labels)
        at_label = xp.sum(xp.where(is_label, shifted, xp.zeros_like(shifted)), axis=1)
        hit = (xp.argmax(logits, axis=1) == labels) & ~xp.isnan(largest[:, 0])
        loss[...] = xp.sum(xp.log(sums[:, 0]) - at_label)
        hits[...] = xp.sum(xp.astype(hit, labels.dtype))
        gradient[...] = (exponentials / sums - xp.astype(is_label, logits.dtype)) / max(rows, 1)

    def weighted_softmax_xent(
        self, logits: Array, labels: Array, weights: Array, gradient: Array, loss: Array, hits: Array
    ) -> None:
        """softmax_xent with a weight (m,) for each row's loss, and so for its gradient; hits are not weighted."""
        xp = self.xp
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        at_label = xp.sum(xp.where(self._is_label(logits, labels), shifted, xp.zeros_like(shifted)), axis=1)
        losses = xp.log(xp.sum(xp.exp(shifted), axis=1)) - at_label
        self.softmax_xent(logits, labels, gradient, loss, hits)
        loss[...] = xp.sum(weights * losses)
        gradient[...] = gradient * weights[:, None]

    def smooth_labels(
        self,
        logits: Array,
        labels: Array,
        weights: Array,
        smoothing: float,
        gradient: Array,
        loss: Array,
        smoothed_gradient: Array,
        smoothed_loss: Array,
    ) -> None:
        """softmax_xent's gradient (m, c) and loss (1,), weighted by weights (m,), as they are for smoothed labels.

        Those are (1 - smoothing) onehot + smoothing / c (Szegedy et al. 2016, section 7). smoothed_gradient may be
        gradient, and smoothed_loss may be loss.
        """
        xp, (rows, classes) = self.xp, logits.shape
        is_label = self._is_label(logits, labels)
        at_label = xp.sum(xp.where(is_label, logits, xp.zeros_like(logits)), axis=1, keepdims=True)
        lead = xp.sum(at_label - logits, axis=1) / classes  # of the label's logit over the mean
        smoothed_loss[...] = loss + smoothing * xp.sum(weights * lead)
        given_up = (smoothing / max(rows, 1)) * weights[:, None]
        smoothed_gradient[...] = gradient + given_up * (xp.astype(is_label, logits.dtype) - 1 / classes)

    def _is_label(self, logits: Array, labels: Array) -> Array:
        """The one-hot labels, bool (m, c)."""
        classes = self.xp.arange(logits.shape[1], dtype=labels.dtype, device=logits.device)
        return labels[:, None] == classes[None, :]

    # The optimizer.

    def update(
        self, optimizer: Optimizer, slots: Array, gradient: Array, coefficients: Any, decays: bool, out: Array
    ) -> None:
        """One step of the optimizer on n parameters.

        slots (1 + moments, n): the values, then each moment of the optimizer. gradient (n,). coefficients: the step's
        row of `Optimizer.coefficients`, a tuple of numbers or a float64 array on the device; the first, the share of a
        value that weight decay leaves, applies only if `decays`. out may be slots.
        """
        kept, *own = coefficients
        before = [slots[1 + k, ...] for k in range(len(optimizer.moments))]
        change, moments = optimizer.step(self.xp, gradient, before, own)
        value = slots[0, ...] if kept == 1 or not decays else kept * slots[0, ...]
        out[0, ...] = value - change
        for k, moment in enumerate(moments):
            out[1 + k, ...] = moment
