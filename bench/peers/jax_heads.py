"""JAX, many heads: vmap over the seeds and, within, over the learning rates, whose heads share a batch; jit + scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import devices
from ..contenders import Bound
from ..heads import Heads, batches, first_weights, parameters_of


def train(problem: Heads) -> Bound:
    import jax
    import jax.numpy as jnp

    devices.require_jax(problem)
    rates = jnp.asarray(problem.learning_rates, jnp.float32)
    epoch = _epoch(rates)
    features, labels = jnp.asarray(problem.features), jnp.asarray(problem.labels.astype(np.int32))
    parts = [jnp.asarray(part) for part in batches(problem)]
    weights = [jnp.repeat(jnp.asarray(array)[:, None], len(rates), axis=1) for array in first_weights(problem)]

    def run() -> None:
        nonlocal weights
        for part in parts:
            weights = epoch(weights, features, labels, part)
        jax.block_until_ready(weights)

    return Bound(run, lambda: parameters_of([np.asarray(array) for array in weights]))


def _epoch(rates: Any) -> Any:
    """epoch([W1, b1, W2, b2, ...] of (seeds, rates, ...), features, labels, batches (k, seeds, m)) -> weights."""
    import jax
    import jax.numpy as jnp

    def loss(weights: Any, x: Any, y: Any) -> Any:
        *hidden, last, bias = weights
        for W, b in zip(hidden[::2], hidden[1::2], strict=True):
            x = jax.nn.relu(x @ W + b)
        logits = x @ last + bias
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()

    def step_of_head(weights: Any, rate: Any, x: Any, y: Any) -> Any:
        gradients = jax.grad(loss)(weights, x, y)
        return [w - rate * g for w, g in zip(weights, gradients, strict=True)]

    step_of_seed = jax.vmap(step_of_head, in_axes=(0, 0, None, None))
    step_of_all = jax.vmap(step_of_seed, in_axes=(0, None, 0, 0))

    def epoch(weights: Any, features: Any, labels: Any, batches: Any) -> Any:
        def step(weights: Any, batch: Any) -> tuple[Any, None]:
            return step_of_all(weights, rates, features[batch], labels[batch]), None

        return jax.lax.scan(step, weights, batches)[0]

    return jax.jit(epoch, donate_argnums=0)
