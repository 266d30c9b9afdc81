"""Gradients against three references of their own: central differences, the paper's formulas, and autograd."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp.backends import Backend
from fastmlp.network.parameters import Parameters
from fastmlp.network.trainer import Trainer
from fastmlp.testing.compare import assert_close
from fastmlp.testing.problems import Case, away_from_kinks, first_parameters, start
from fastmlp.testing.tolerances import CENTRAL_DIFFERENCES, STEP

H = 1e-5  # the step of the central differences
ROWS = 7
NETWORKS = pytest.mark.parametrize(
    "sizes", [(5, 4), (5, 6, 4), (5, 6, 7, 4), (5, 6, 7, 8, 4)], ids=lambda sizes: f"{len(sizes) - 2} hidden"
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A network, and rows of one batch."""

    parameters: Parameters
    features: Floats
    labels: NDArray[np.int64]

    @classmethod
    def draw(cls, sizes: tuple[int, ...], seed: int, rows: int) -> "Sample":
        """Rows so far from ReLU's kinks that a step of H crosses none."""
        rng, case = np.random.default_rng(seed), Case(sizes, rows, rows)
        parameters, features = first_parameters(case, rng), rng.standard_normal((400, sizes[0]))
        away = away_from_kinks(start(case, parameters, "float64"), features, distance=100 * H)
        return cls(parameters, features[away][:rows], rng.integers(0, sizes[-1], rows))

    def step(self, backend: Backend, smoothing: float = 0.0) -> tuple[dict[str, Floats], float, int]:
        """The gradients by name, the sum of losses and the hits, of one step in float64."""
        trainer = Trainer(self.parameters, backend, len(self.labels), smoothing=smoothing)
        loss, hits = backend.empty((1,), "float64"), backend.empty((1,), "int64")
        data = backend.asarray(self.features.copy()), backend.asarray(self.labels.copy()), None
        trainer.gradients(data, backend.asarray(np.arange(len(self.labels))), loss, hits)
        groups = (("weight", trainer.network.weights), ("bias", trainer.network.biases))
        gradients = {
            f"{kind} {layer}": backend.to_numpy(gradient)
            for kind, group in groups
            for layer, gradient in enumerate(group.gradients)
        }
        return gradients, float(backend.to_numpy(loss)[0]), int(backend.to_numpy(hits)[0])


@pytest.fixture
def sample(sizes: tuple[int, ...], seed: int) -> Sample:
    return Sample.draw(sizes, seed, ROWS)


def mean_loss(weights: list[Floats], biases: list[Floats], x: Floats, labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy, written once more and plainly."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = np.maximum(x @ weight + bias, 0)
    logits = x @ weights[-1] + biases[-1]
    log_sums = np.log(np.exp(logits).sum(axis=1))
    return float(np.mean(log_sums - logits[np.arange(len(labels)), labels]))


def by_central_differences(sample: Sample) -> dict[str, Floats]:
    weights = [weight.copy() for weight in sample.parameters.weights]
    biases = [bias.copy() for bias in sample.parameters.biases]
    loss = partial(mean_loss, weights, biases, sample.features, sample.labels)
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
    gradients, _, _ = sample.step(backend)
    references = by_central_differences(sample)
    assert gradients.keys() == references.keys()
    for name, reference in references.items():
        assert_close(f"{backend}: gradient of {name}", gradients[name], reference, CENTRAL_DIFFERENCES)


def test_papers_formulas(backend: Backend, seed: int) -> None:
    """The paper's own equations for one hidden layer, with Y one-hot, biases (1, k) and the 1/m at the end."""
    sample = Sample.draw((24, 16, 10), seed, 37)
    (W1, W2), (b1, b2) = sample.parameters.weights, sample.parameters.biases
    A0, Y, m = sample.features, np.eye(10)[sample.labels], len(sample.labels)
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

    gradients, loss, hits = sample.step(backend)
    assert gradients.keys() == references.keys()
    for name, reference in references.items():
        assert_close(f"{backend}: gradient of {name}", gradients[name], reference, STEP["float64"])
    assert loss == pytest.approx(-(Y * np.log(A2)).sum(), rel=STEP["float64"])
    assert hits == (A2.argmax(axis=1) == sample.labels).sum()


@NETWORKS
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_autograd(backend: Backend, sizes: tuple[int, ...], sample: Sample, smoothing: float) -> None:
    torch = pytest.importorskip("torch")
    leaves: dict[str, Any] = {}
    activations = torch.tensor(sample.features)
    layers = list(pairwise(sizes))
    for layer, _ in enumerate(layers):
        weight = torch.tensor(sample.parameters.weights[layer], requires_grad=True)
        bias = torch.tensor(sample.parameters.biases[layer], requires_grad=True)
        leaves |= {f"weight {layer}": weight, f"bias {layer}": bias}
        activations = activations @ weight + bias
        if layer < len(layers) - 1:
            activations = torch.relu(activations)
    smoothed = {"label_smoothing": smoothing}
    expected = torch.nn.functional.cross_entropy(activations, torch.tensor(sample.labels), **smoothed)
    expected.backward()

    gradients, loss, _ = sample.step(backend, smoothing)
    assert loss / ROWS == pytest.approx(expected.item(), rel=STEP["float64"])
    assert gradients.keys() == leaves.keys()
    for name, leaf in leaves.items():
        assert_close(f"{backend}: gradient of {name}", gradients[name], leaf.grad.numpy(), STEP["float64"])
