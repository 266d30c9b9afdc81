"""Gradients of the general objective, for every activation, output and penalty, against central differences."""

from itertools import pairwise, product

import numpy as np
import pytest

from fastmlp.backends import Backend, open_backend
from fastmlp.common.errors import UsageError
from fastmlp.network.inputs import Rows, inputs_of
from fastmlp.network.objective import ACTIVATIONS, LOSSES, Objective
from fastmlp.network.parameters import Parameters
from fastmlp.testing.compare import assert_close
from fastmlp.testing.tolerances import CENTRAL_DIFFERENCES
from fastmlp.training.lbfgs import value_and_gradient

H, ALPHA = 1e-5, 0.7
ROWS, SIZES = 7, (5, 4, 3, 2)
CASES = pytest.mark.parametrize(("activation", "output"), list(product(ACTIVATIONS, LOSSES)))


def targets_of(output: str, rng: np.random.Generator) -> np.ndarray:
    shape = (ROWS, SIZES[-1])
    return {
        "softmax": np.eye(SIZES[-1])[rng.integers(0, SIZES[-1], ROWS)],
        "logistic": rng.integers(0, 2, shape),
        "identity": rng.standard_normal(shape),
        "exponential": rng.poisson(1.5, shape),
    }[output]


def problem(
    backend: Backend, activation: str, output: str, rng: np.random.Generator, weights: np.ndarray | None, alpha: float
) -> tuple[Objective, Rows, np.ndarray]:
    """An objective, its rows, and its parameters as one vector, so small that no loss of a probability is cut off."""
    shapes = list(pairwise(SIZES))
    packed = 0.5 * rng.standard_normal(sum((fan_in + 1) * fan_out for fan_in, fan_out in shapes))
    parameters = Parameters(tuple(map(np.zeros, shapes)), tuple(np.zeros(width) for width in SIZES[1:]))
    objective = Objective(parameters, backend, activation, output, alpha)
    inputs = inputs_of(backend, rng.standard_normal((ROWS, SIZES[0])), "float64")
    placed = None if weights is None else backend.asarray(weights)
    targets = backend.asarray(targets_of(output, rng).astype("float64"))
    return objective, Rows(backend, inputs, targets, placed, weights), packed


@CASES
@pytest.mark.parametrize("weighted", [False, True])
def test_central_differences(backend: Backend, activation: str, output: str, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2, ROWS) if weighted else None
    state = rng.bit_generator.state
    objective, rows, packed = problem(backend, activation, output, rng, weights, alpha=ALPHA)
    with backend.without_autograd():
        _, gradient = value_and_gradient(objective, rows, packed)
    rng.bit_generator.state = state
    on_numpy = problem(open_backend("numpy"), activation, output, rng, weights, alpha=ALPHA)
    assert_close(f"{backend}: {activation}, {output}", gradient, numeric(*on_numpy), CENTRAL_DIFFERENCES)


def numeric(objective: Objective, rows: Rows, packed: np.ndarray) -> np.ndarray:
    """The gradient by central differences of the objective's value."""
    values = [[value_and_gradient(objective, rows, packed + h * step)[0] for h in (H, -H)]
              for step in np.eye(len(packed))]  # fmt: skip
    gradient = np.subtract(*np.transpose(values)) / (2 * H)
    if objective.output != "identity":
        return gradient
    # the loss is reported as a mean over the numbers, its gradient is that of their sum
    penalty = np.zeros(len(packed))
    of_weights = objective.weights.gradient.shape[0]
    penalty[:of_weights] = ALPHA * packed[:of_weights] / rows.total
    return (gradient - penalty) * SIZES[-1] + penalty


def test_a_batch_without_weight_is_an_error(backend: Backend, rng: np.random.Generator) -> None:
    objective, rows, packed = problem(backend, "tanh", "softmax", rng, np.zeros(ROWS), alpha=0)
    with pytest.raises(UsageError, match="weight 0"), backend.without_autograd():
        value_and_gradient(objective, rows, packed)


def test_a_loss_of_certain_answers_is_finite(backend: Backend, rng: np.random.Generator) -> None:
    for output in ("softmax", "logistic"):
        objective, rows, packed = problem(backend, "relu", output, rng, None, alpha=0)
        with backend.without_autograd():
            loss, gradient = value_and_gradient(objective, rows, 1e4 * packed)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
