"""The optimizers' numbers, and their steps against PyTorch's own."""

from typing import Any

import numpy as np
import pytest

from fastmlp.backends import Backend
from fastmlp.common.errors import UsageError
from fastmlp.network.optimizers import SGD, Optimizer, make_optimizer
from fastmlp.network.optimizers.adam import BETA_1, BETA_2, EPSILON, Adam
from fastmlp.network.optimizers.momentum import Momentum
from fastmlp.network.trainer import Trainer
from fastmlp.testing.compare import assert_close
from fastmlp.testing.problems import Case, Problem, tiers
from fastmlp.testing.tolerances import STEP

SIZES = (24, 16, 10)
ROWS = 50
RATES = np.array([0.01, 0.02, 0.005, 0.0])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "adamw"}, "The optimizer must be one of .*sgd.*, not 'adamw', did you mean adam"),
        ({"weight_decay": -0.1}, "The weight decay must be a number of 0 or more, not -0.1"),
        ({"name": "momentum", "weight_decay": -1}, "The weight decay must be a number of 0 or more, not -1"),
        ({"weight_decay": float("nan")}, "not nan"),
        ({"weight_decay": float("inf")}, "not inf"),
    ],
)
def test_optimizers_that_cannot_be(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make_optimizer(**{"name": "sgd", **wrong})


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_adams_betas_must_be_shares(beta: float) -> None:
    with pytest.raises(UsageError, match=f"Adam's betas must be numbers from 0 to below 1, not {beta}"):
        Adam(beta_2=beta)


def test_plain_descent_has_its_rates_and_decays() -> None:
    np.testing.assert_array_equal(SGD().coefficients(RATES, 7), np.stack([np.ones(4), RATES], axis=1))
    np.testing.assert_array_equal(make_optimizer("sgd", 0.5).coefficients(RATES, 1)[:, 0], 1 - 0.5 * RATES)


def test_adams_corrections_count_steps_from_the_first_of_the_training() -> None:
    adam = make_optimizer("adam", 0.5)
    whole = adam.coefficients(RATES, 1)
    np.testing.assert_array_equal(
        np.concatenate([adam.coefficients(RATES[:1], 1), adam.coefficients(RATES[1:], 2)]), whole
    )
    for step, (kept, step_size, correction) in enumerate(whole, start=1):
        assert kept == 1 - 0.5 * RATES[step - 1]
        assert step_size == pytest.approx(RATES[step - 1] / (1 - BETA_1**step), rel=1e-14)
        assert correction == pytest.approx((1 - BETA_2**step) ** -0.5, rel=1e-12)


def test_first_step_of_adam_has_the_length_of_the_learning_rate() -> None:
    """Whatever the gradient's size: m / sqrt(v) is then its sign."""
    _, step_size, correction = make_optimizer("adam").coefficients(np.array([0.01]), 1)[0]
    for gradient in (1e-3, 1.0, 1e3):
        first, second = (1 - BETA_1) * gradient, (1 - BETA_2) * gradient**2
        assert step_size * first / (np.sqrt(second) * correction + EPSILON) == pytest.approx(0.01, rel=1e-4)


def steps_of_torch(problem: Problem, optimizer: Optimizer) -> list[Any]:
    """The parameters, weights first, after as many steps as there are RATES, each of the gradients that we have."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(array) for array in (*problem.parameters.weights, *problem.parameters.biases)]
    groups = [
        {"params": leaves[:2], "weight_decay": optimizer.weight_decay},
        {"params": leaves[2:], "weight_decay": 0.0},
    ]
    theirs: Any
    if isinstance(optimizer, Momentum):
        theirs = torch.optim.SGD(groups, lr=1.0, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    else:
        theirs = torch.optim.AdamW(groups, lr=1.0) if optimizer.name == "adam" else torch.optim.SGD(groups, lr=1.0)
    for rate in RATES:
        x = torch.tensor(problem.data[0].features[:ROWS])
        for leaf in leaves:
            leaf.requires_grad_(True)
            leaf.grad = None
        z = torch.relu(x @ leaves[0] + leaves[2]) @ leaves[1] + leaves[3]
        torch.nn.functional.cross_entropy(z, torch.tensor(problem.data[0].labels[:ROWS])).backward()
        for group in theirs.param_groups:
            group["lr"] = float(rate)
        theirs.step()
    return [leaf.detach().numpy() for leaf in leaves]


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(),
        make_optimizer("sgd", 0.3),
        make_optimizer("adam"),
        make_optimizer("adam", 0.3),
        Momentum(),
        Momentum(momentum=0.5, nesterov=False),
    ],
    ids=str,
)
def test_steps_are_those_of_torch(backend: Backend, optimizer: Optimizer, seed: int) -> None:
    """AdamW in float64; with plain descent, decoupled decay is torch's L2 penalty."""
    problem = Problem.draw(Case(SIZES, ROWS, ROWS), seed)
    (data,) = problem.data
    for tier in tiers(backend, SIZES, "float64", optimizer):
        network = Trainer(problem.parameters, backend, ROWS, tier, optimizer)
        features, labels = backend.asarray(data.features.copy()), backend.asarray(data.labels.copy())
        for rate in RATES:
            network.train_epoch(features, labels, np.arange(ROWS), np.array([rate]))
        got = network.parameters
        for array, reference in zip(got.weights + got.biases, steps_of_torch(problem, optimizer), strict=True):
            assert_close(f"{backend} {optimizer} tier {tier}", array, reference, STEP["float64"])
