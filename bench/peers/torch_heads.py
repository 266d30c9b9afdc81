"""PyTorch, many heads: as batched products, and by torch.func."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import devices
from ..contenders import Bound
from ..heads import Heads, batches, first_weights, parameters_of


def side_by_side(problem: Heads) -> tuple[list[Any], list[Any]]:
    """The weights of all heads, those of a seed's first layers in one matrix, and the learning rates of each."""
    import torch

    rates = torch.tensor(problem.learning_rates, dtype=torch.float32)
    seeds, count = len(problem.of_seeds), len(rates)
    W1, b1, W2, b2 = (torch.from_numpy(array) for array in first_weights(problem))
    weights = [
        W1.repeat(1, 1, count),  # (seeds, inputs, rates * hidden)
        b1[:, None].repeat(1, 1, count),
        W2.repeat_interleave(count, 0),  # (seeds * rates, hidden, classes)
        b2[:, None].repeat_interleave(count, 0),
    ]
    wide, single = rates.repeat_interleave(W2.shape[1]), rates.repeat(seeds)[:, None, None]
    device = devices.torch_device(problem)
    return [a.to(device).requires_grad_() for a in weights], [a.to(device) for a in (wide, wide, single, single)]


def train_bmm(problem: Heads) -> Bound:
    """The first layers of a seed's heads as one wide product, the second layers by bmm; autograd."""
    import torch
    from torch.nn.functional import cross_entropy

    weights, steps = side_by_side(problem)
    seeds, count = len(problem.of_seeds), len(problem.learning_rates)
    hidden, classes = weights[2].shape[1:]
    features, labels, *parts = on_device(problem, problem.features, problem.labels, *batches(problem))

    def step(batch: Any) -> None:
        W1, b1, W2, b2 = weights
        side_by_side = torch.baddbmm(b1, features[batch], W1).relu()
        own = side_by_side.view(seeds, -1, count, hidden).transpose(1, 2).reshape(seeds * count, -1, hidden)
        logits = torch.baddbmm(b2, own, W2)
        targets = labels[batch].repeat_interleave(count, 0)
        loss = cross_entropy(logits.view(-1, classes), targets.view(-1), reduction="sum") / batch.shape[1]
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for array, gradient, rate in zip(weights, gradients, steps, strict=True):
                array.addcmul_(gradient, rate, value=-1)

    def run() -> None:
        for part in parts:
            for batch in part:
                step(batch)
        devices.wait(problem)

    def result() -> Any:
        W1, b1, W2, b2 = (array.detach().cpu().numpy() for array in weights)
        split = [array.reshape(seeds, -1, count, hidden).swapaxes(1, 2) for array in (W1, b1)]
        return parameters_of(
            [split[0], split[1][:, :, 0], *(array.reshape(seeds, count, *array.shape[1:]) for array in (W2, b2[:, 0]))]
        )

    return Bound(run, result)


def train_vmap(problem: Heads) -> Bound:
    """torch.func's gradient of one head, vmapped over the seeds and, within, over the learning rates."""
    import torch
    from torch.func import grad, vmap
    from torch.nn.functional import cross_entropy, linear, relu

    rates = torch.tensor(problem.learning_rates, dtype=torch.float32, device=devices.torch_device(problem))
    starts = on_device(problem, *first_weights(problem))
    weights = tuple(array[:, None].repeat(1, len(rates), *[1] * (array.ndim - 1)) for array in starts)
    features, labels, *parts = on_device(problem, problem.features, problem.labels, *batches(problem))

    def loss(weights: Any, x: Any, y: Any) -> Any:
        *hidden, last, bias = weights
        for W, b in zip(hidden[::2], hidden[1::2], strict=True):
            x = relu(linear(x, W.T, b))
        return cross_entropy(linear(x, last.T, bias), y)

    of_seed = vmap(grad(loss), in_dims=(0, None, None))
    of_all = vmap(of_seed, in_dims=(0, 0, 0))

    def run() -> None:
        for part in parts:
            for batch in part:
                gradients = of_all(weights, features[batch], labels[batch])
                for array, gradient in zip(weights, gradients, strict=True):
                    array.addcmul_(gradient, rates.view(-1, *[1] * (array.ndim - 2)), value=-1)
        devices.wait(problem)

    return Bound(run, lambda: parameters_of([np.array(array.cpu()) for array in weights]))


def products(problem: Heads) -> Bound:
    """The products of a step of all heads, layer by layer, each a batched one of cuBLAS; those of every batch alike."""
    import torch

    heads, rows, device = len(problem.heads), problem.batch_size, devices.torch_device(problem)
    layers = [
        [torch.randn(heads, *shape, device=device) for shape in ((rows, k), (k, n), (rows, n))]
        for k, n in (weight.shape for weight in problem.heads[0].parameters.weights)
    ]

    def step() -> None:
        for layer, (inputs, weights, delta) in enumerate(layers):
            torch.bmm(inputs, weights)
            torch.bmm(inputs.mT, delta)
            if layer:
                torch.bmm(delta, weights.mT)

    def run() -> None:
        for _ in range(problem.heads[0].steps):
            step()
        devices.wait(problem)

    return Bound(run, check=lambda what: None)


def on_device(problem: Heads, *arrays: Any) -> list[Any]:
    """Host arrays as tensors on the problem's device."""
    import torch

    return [torch.from_numpy(array).to(devices.torch_device(problem)) for array in arrays]
