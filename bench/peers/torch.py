"""PyTorch: autograd and torch.optim.SGD, fed in three ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.errors import first_line
from fastmlp.mlp import Parameters

from ..contenders import AbsentError, Bound
from ..training import Training


def train_eager(problem: Training) -> Bound:
    """The data as two tensors, a batch by indexing them with a slice of the epoch's order."""
    return _train_on_tensors(problem, lambda step: step)


def train_compiled(problem: Training) -> Bound:
    """The same, all but the update through torch.compile: gather, forward and backward are fused."""
    import torch

    try:
        return _train_on_tensors(problem, torch.compile)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise AbsentError(f"torch.compile finds no working C++ compiler ({first_line(error)}).") from None


def train_from_loader(problem: Training) -> Bound:
    """TensorDataset and DataLoader, in this process: workers cost more than they bring to rows in memory."""
    from torch.utils.data import DataLoader, TensorDataset

    model, optimizer, loss_of = _model(problem)
    dataset = TensorDataset(*_tensors(problem))
    loader = DataLoader(dataset, batch_size=problem.batch_size, sampler=problem.order.tolist())

    def run() -> None:
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_of(model(inputs), targets).backward()
            optimizer.step()

    return Bound(run, lambda: _parameters(model))


def _train_on_tensors(problem: Training, compiled: Callable[[Any], Any]) -> Bound:
    import torch

    model, optimizer, loss_of = _model(problem)
    features, labels = _tensors(problem)
    order = torch.from_numpy(problem.order)
    loss_on = compiled(lambda batch: loss_of(model(features[batch]), labels[batch]))

    def run() -> None:
        for batch in order.split(problem.batch_size):
            optimizer.zero_grad()
            loss_on(batch).backward()
            optimizer.step()

    return Bound(run, lambda: _parameters(model))


def _tensors(problem: Training) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(problem.features), torch.from_numpy(problem.labels)


def _model(problem: Training) -> tuple[Any, Any, Any]:
    """The network with the problem's first weights, its optimizer, and its loss."""
    import torch
    from torch import nn

    inputs, hidden, classes = problem.parameters.sizes
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, weight, bias in zip(linear, problem.parameters.weights, problem.parameters.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.learning_rate)
    return model, optimizer, nn.CrossEntropyLoss()


def _parameters(model: Any) -> Parameters:
    arrays = [parameter.detach().numpy() for parameter in model.parameters()]
    return Parameters(tuple(weight.T for weight in arrays[::2]), tuple(arrays[1::2]))
