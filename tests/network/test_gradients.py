"""Gradients against three references of their own: central differences, the paper's formulas, and autograd."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp.backends import Backend
from fastmlp.network.parameters import Parameters
from fastmlp.testing.compare import assert_close
from fastmlp.testing.runs import Problem, take_step
from fastmlp.testing.tolerances import CENTRAL_DIFFERENCES, STEP

H = 1e-5  # the step of the central differences
ROWS = 7
NETWORKS = pytest.mark.parametrize(
    "sizes", [(5, 4), (5, 6, 4), (5, 6, 7, 4), (5, 6, 7, 8, 4)], ids=lambda sizes: f"{len(sizes) - 2} hidden"
)

Floats = NDArray[np.float64]
Sample = tuple[Problem, NDArray[np.int64]]


@pytest.fixture
def sample(sizes: tuple[int, ...], seed: int) -> Sample:
    """A network with biases, and rows so far from ReLU's kinks that a step of H crosses none."""
    problem = Problem.draw(sizes, seed, rows=400)
    rng = np.random.default_rng(seed)
    biases = tuple(0.3 * rng.standard_normal(size) for size in sizes[1:])
    problem = replace(problem, parameters=Parameters(problem.parameters.weights, biases))
    rows = problem.rows_away_from_kinks(distance=100 * H)[:ROWS]
    assert len(rows) == ROWS
    return problem, rows


def mean_loss(weights: list[Floats], biases: list[Floats], x: Floats, labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy, written once more and plainly."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = np.maximum(x @ weight + bias, 0)
    logits = x @ weights[-1] + biases[-1]
    log_sums = np.log(np.exp(logits).sum(axis=1))
    return float(np.mean(log_sums - logits[np.arange(len(labels)), labels]))


def by_central_differences(problem: Problem, rows: NDArray[np.int64]) -> dict[str, Floats]:
    weights = [weight.copy() for weight in problem.parameters.weights]
    biases = [bias.copy() for bias in problem.parameters.biases]
    loss = partial(mean_loss, weights, biases, problem.features[rows], problem.labels[rows])
    gradients = {}
    for kind, arrays in (("weight", weights), ("bias", biases)):
        for layer, array in enumerate(arrays):
            gradient = np.empty_like(array)
            for index in np.ndindex(array.shape):
                middle = array[index]
                array[index] = middle + H
                above = loss()
                array[index] = middle - H
                gradient[index] = (above - loss()) / (2 * H)
                array[index] = middle
            gradients[f"{kind} {layer}"] = gradient
    return gradients


@NETWORKS
def test_central_differences(backend: Backend, sizes: tuple[int, ...], sample: Sample) -> None:
    problem, rows = sample
    step = take_step(problem, backend, "float64", None, rows)
    references = by_central_differences(problem, rows)
    assert step.gradients.keys() == references.keys()
    for name, reference in references.items():
        assert_close(f"{backend}: gradient of {name}", step.gradients[name], reference, CENTRAL_DIFFERENCES)


def test_papers_formulas(backend: Backend, seed: int) -> None:
    """The paper's own equations for one hidden layer, with Y one-hot, biases (1, k) and the 1/m at the end."""
    problem = Problem.draw((24, 16, 10), seed)
    rows = np.arange(37)
    (W1, W2), (b1, b2) = problem.parameters.weights, problem.parameters.biases
    A0, Y, m = problem.features[rows], np.eye(10)[problem.labels[rows]], len(rows)
    B1, B2 = b1.reshape(1, -1), b2.reshape(1, -1)

    Z1 = A0 @ W1 + B1
    A1 = np.where(Z1 > 0, Z1, 0)
    Z2 = A1 @ W2 + B2
    A2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True)
    dZ2 = A2 - Y
    dZ1 = (dZ2 @ W2.T) * (Z1 > 0)
    references = {
        "weight 0": A0.T @ dZ1 / m,
        "weight 1": A1.T @ dZ2 / m,
        "bias 0": dZ1.sum(axis=0) / m,
        "bias 1": dZ2.sum(axis=0) / m,
    }

    step = take_step(problem, backend, "float64", None, rows)
    assert step.gradients.keys() == references.keys()
    for name, reference in references.items():
        assert_close(f"{backend}: gradient of {name}", step.gradients[name], reference, STEP["float64"])
    assert step.loss[0] == pytest.approx(-(Y * np.log(A2)).sum(), rel=STEP["float64"])
    assert step.hits[0] == (A2.argmax(axis=1) == problem.labels[rows]).sum()


@NETWORKS
def test_autograd(backend: Backend, sizes: tuple[int, ...], sample: Sample) -> None:
    torch = pytest.importorskip("torch")
    problem, rows = sample
    leaves: dict[str, Any] = {}
    activations = torch.tensor(problem.features[rows])
    layers = list(pairwise(sizes))
    for layer, _ in enumerate(layers):
        weight = torch.tensor(problem.parameters.weights[layer], requires_grad=True)
        bias = torch.tensor(problem.parameters.biases[layer], requires_grad=True)
        leaves |= {f"weight {layer}": weight, f"bias {layer}": bias}
        activations = activations @ weight + bias
        if layer < len(layers) - 1:
            activations = torch.relu(activations)
    torch.nn.functional.cross_entropy(activations, torch.tensor(problem.labels[rows])).backward()

    step = take_step(problem, backend, "float64", None, rows)
    assert step.gradients.keys() == leaves.keys()
    for name, leaf in leaves.items():
        assert_close(f"{backend}: gradient of {name}", step.gradients[name], leaf.grad.numpy(), STEP["float64"])
