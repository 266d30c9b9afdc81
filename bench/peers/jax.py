"""JAX: the whole epoch is one jitted scan over its batches, the weights donated to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.network.parameters import Parameters

from .. import devices
from ..contenders import Bound
from ..training import Training


def train(problem: Training) -> Bound:
    import jax
    import jax.numpy as jnp

    devices.require_jax(problem)
    epoch = _epoch(problem.learning_rate)
    features, labels = jnp.asarray(problem.features), jnp.asarray(problem.labels.astype(np.int32))
    row_weights = None if problem.row_weights is None else jnp.asarray(problem.row_weights)
    full = len(problem.order) // problem.batch_size * problem.batch_size
    order = jnp.asarray(problem.order.astype(np.int32))
    batches, rest = order[:full].reshape(-1, problem.batch_size), order[full:].reshape(1, -1)
    parts = [part for part in (batches, rest) if part.size]  # a scan has batches of one size
    pairs = zip(problem.parameters.weights, problem.parameters.biases, strict=True)
    weights = [jnp.array(array) for pair in pairs for array in pair]

    def run() -> None:
        nonlocal weights
        for part in parts:
            weights = epoch(weights, features, labels, row_weights, part)
        jax.block_until_ready(weights)

    return Bound(run, lambda: Parameters(tuple(map(np.asarray, weights[::2])), tuple(map(np.asarray, weights[1::2]))))


def _epoch(learning_rate: float) -> Any:
    """epoch([W1, b1, W2, b2, ...], features, labels, row weights or None, batches (k, m)) -> weights after k steps."""
    import jax
    import jax.numpy as jnp

    def loss(weights: Any, x: Any, y: Any, row_weights: Any) -> Any:
        *hidden, W, b = weights
        for layer in range(0, len(hidden), 2):
            x = jax.nn.relu(x @ hidden[layer] + hidden[layer + 1])
        logits = x @ W + b
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]
        return (losses if row_weights is None else row_weights * losses).mean()

    def epoch(weights: Any, features: Any, labels: Any, row_weights: Any, batches: Any) -> Any:
        def step(weights: Any, batch: Any) -> tuple[Any, None]:
            weighing = None if row_weights is None else row_weights[batch]
            gradients = jax.grad(loss)(weights, features[batch], labels[batch], weighing)
            return [w - learning_rate * g for w, g in zip(weights, gradients, strict=True)], None

        return jax.lax.scan(step, weights, batches)[0]

    return jax.jit(epoch, donate_argnums=0)
