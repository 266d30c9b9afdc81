"""PyTorch: autograd and torch.optim.SGD, fed in several ways, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

from fastmlp.common.errors import first_line
from fastmlp.network.parameters import Parameters

from .. import devices
from ..contenders import AbsentError, Bound
from ..training import Training

WARM_UP_STEPS = 3  # before CUDA graphs are captured


def train_eager(problem: Training) -> Bound:
    """The data as two tensors, batches by indexing them with slices of the epoch's order."""
    return _train_on_tensors(problem, lambda step: step)


def train_compiled(problem: Training, mode: str = "default") -> Bound:
    """The same, all but the update through torch.compile: gather, forward and backward are fused.

    mode="reduce-overhead" captures them as CUDA graphs too, "max-autotune" also tries several kernels for each product.
    """
    import torch

    try:
        return _train_on_tensors(problem, lambda step: torch.compile(step, mode=mode, dynamic=False))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise AbsentError(f"torch.compile finds no working compiler ({first_line(error)}).") from None


def train_from_loader(problem: Training) -> Bound:
    """TensorDataset and DataLoader in this process: workers cost more than they gain for rows in memory."""
    from torch.utils.data import DataLoader, TensorDataset

    model, optimizer, loss_of = _model(problem)
    device = devices.torch_device(problem)
    dataset = TensorDataset(*_tensors(problem, "cpu"))
    loader = DataLoader(dataset, batch_size=problem.batch_size, sampler=problem.order.tolist())

    def run() -> None:
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss_of(model(inputs.to(device)), targets.to(device)).backward()
            optimizer.step()
        devices.wait(problem)

    return Bound(run, lambda: _parameters(model))


def train_captured_steps(problem: Training) -> Bound:
    """A CUDA graph of one whole step, replayed for each batch, and a second one for a smaller last batch."""
    import torch

    step, order, model = _capturable(problem)
    batches = order.split(problem.batch_size)
    graphs = {}
    for rows in {len(batch) for batch in batches}:
        batch = batches[0][:rows].clone()
        with _kept(model):
            graphs[rows] = (batch, _captured(partial(step, batch)))

    def run() -> None:
        for batch in batches:
            static, graph = graphs[len(batch)]
            static.copy_(batch)
            graph.replay()
        torch.cuda.synchronize()

    return Bound(run, lambda: _parameters(model))


def train_captured_epoch(problem: Training) -> Bound:
    """A CUDA graph of the whole epoch: the host only has to launch it."""
    import torch

    step, order, model = _capturable(problem)
    batches = order.split(problem.batch_size)

    def epoch() -> None:
        for batch in batches:
            step(batch)

    with _kept(model):
        graph = _captured(epoch, partial(step, batches[0]))

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return Bound(run, lambda: _parameters(model))


def _train_on_tensors(problem: Training, compiled: Callable[[Any], Any]) -> Bound:
    import torch

    model, optimizer, loss_of = _model(problem)
    device = devices.torch_device(problem)
    features, labels = _tensors(problem, device)
    order = torch.from_numpy(problem.order).to(device)
    if problem.row_weights is None:
        loss_on = compiled(lambda batch: loss_of(model(features[batch]), labels[batch]))
    else:
        weights, loss_of = torch.from_numpy(problem.row_weights).to(device), torch.nn.CrossEntropyLoss(reduction="none")
        loss_on = compiled(lambda batch: (weights[batch] * loss_of(model(features[batch]), labels[batch])).mean())
    loss_on(order[: problem.batch_size]).backward()  # compiles here, where a missing compiler is reported as such

    def run() -> None:
        for batch in order.split(problem.batch_size):
            optimizer.zero_grad()
            loss_on(batch).backward()
            optimizer.step()
        devices.wait(problem)

    return Bound(run, lambda: _parameters(model))


# CUDA graphs.


def _capturable(problem: Training) -> tuple[Callable[[Any], None], Any, Any]:
    """A whole step on a batch of row indices, the epoch's order, and the network."""
    import torch

    if devices.torch_device(problem) == "cpu":
        raise AbsentError("CUDA graphs are of GPUs.")
    model, optimizer, loss_of = _model(problem)
    features, labels = _tensors(problem, "cuda")

    def step(batch: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model(features[batch]), labels[batch]).backward()
        optimizer.step()

    return step, torch.from_numpy(problem.order).cuda(), model


def _captured(work: Callable[[], None], warm_up: Callable[[], None] | None = None) -> Any:
    """The graph of that work, after some runs of it (or of warm_up) on a side stream, as PyTorch's notes recommend."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP_STEPS):
            (warm_up or work)()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


@contextmanager
def _kept(model: Any) -> Iterator[None]:
    """Restore the weights afterwards, because warming up trains them."""
    import torch

    before = [parameter.detach().clone() for parameter in model.parameters()]
    yield
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.copy_(value)


# The network and its data.


def _tensors(problem: Training, device: str) -> tuple[Any, Any]:
    import torch

    return torch.from_numpy(problem.features).to(device), torch.from_numpy(problem.labels).to(device)


def _model(problem: Training) -> tuple[Any, Any, Any]:
    """The network with the problem's initial weights, its optimizer, and its loss."""
    import torch
    from torch import nn

    linear = [nn.Linear(*shape) for shape in pairwise(problem.parameters.sizes)]
    model = nn.Sequential(*(layer for each in linear[:-1] for layer in (each, nn.ReLU())), linear[-1])
    with torch.no_grad():
        for layer, weight, bias in zip(linear, problem.parameters.weights, problem.parameters.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
    model.to(devices.torch_device(problem))
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.learning_rate)
    return model, optimizer, nn.CrossEntropyLoss()


def _parameters(model: Any) -> Parameters:
    arrays = [parameter.detach().cpu().numpy() for parameter in model.parameters()]
    return Parameters(tuple(weight.T for weight in arrays[::2]), tuple(arrays[1::2]))
