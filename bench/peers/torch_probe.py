"""PyTorch: one training of a probe as its users write it, nn.Linear and a scheduler, batches by DataLoader or index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastmlp.common.randomness import Purpose, generator
from fastmlp.network.parameters import initial_parameters

from ..contenders import Bound
from ..probing import Probing


def train(problem: Probing, loader: bool = True) -> Bound:
    """The chosen setting on all training rows, from our weights, in our order; result: accuracy on the test rows."""
    import torch

    chosen = problem.reference
    recipe = problem.protocol.recipe.changed(epochs=problem.epochs).for_data(*problem.tables.train.features.shape)
    X, y = (torch.from_numpy(array) for array in (_scaled(problem, problem.tables.train.features),
                                                  problem.tables.train.labels))  # fmt: skip
    test = torch.from_numpy(_scaled(problem, problem.tables.test.features))
    steps = recipe.epochs * -(-len(X) // recipe.batch_size)
    start = initial_parameters((X.shape[1], len(problem.tables.classes)), recipe.init)
    last: list[Any] = []

    def run() -> None:
        model = torch.nn.Linear(start.sizes[0], start.sizes[1])
        with torch.no_grad():
            model.weight.copy_(torch.from_numpy(start.weights[0].T.copy()))
            model.bias.zero_()
        rate, decay = chosen["learning_rate"], chosen["weight_decay"]
        if recipe.optimizer == "momentum":
            optimizer: Any = torch.optim.SGD(model.parameters(), lr=rate, momentum=recipe.momentum, weight_decay=decay)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0)
        loss_of = torch.nn.CrossEntropyLoss()
        for epoch in range(1, recipe.epochs + 1):
            order = generator(0, Purpose.BATCH_ORDER, epoch).permutation(len(X))
            for inputs, targets in _batches(X, y, order, recipe.batch_size, loader):
                optimizer.zero_grad()
                loss_of(model(inputs), targets).backward()
                optimizer.step()
                scheduler.step()
        last[:] = [model]

    def result() -> float:
        with torch.no_grad():
            answers = last[0](test).argmax(1).numpy()
        return float((answers == problem.tables.test.labels).mean())

    return Bound(run, result, units=1)


def _scaled(problem: Probing, features: Any) -> Any:
    """Rows of unit length, once and for all, where the protocol wants them."""
    if problem.protocol.normalize != "l2":
        return features
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _batches(X: Any, y: Any, order: Any, rows: int, loader: bool) -> Iterator[tuple[Any, Any]]:
    """An epoch's batches in that order."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    if loader:
        yield from DataLoader(TensorDataset(X, y), batch_size=rows, sampler=order.tolist())
    else:
        yield from ((X[batch], y[batch]) for batch in torch.from_numpy(order).split(rows))
