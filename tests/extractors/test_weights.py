"""Row weights, and training that stops early."""

import numpy as np
import pytest

from fastmlp.backends import Backend
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.loop import train
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples

ONE_BATCH = Recipe(epochs=5, batch_size=64, learning_rate=0.5, schedule="constant")
ROWS, CLASSES = 12, 3


def samples(backend: Backend, rng: np.random.Generator, rows: np.ndarray, weights: np.ndarray | None) -> Samples:
    """Some of twelve random rows, with weights."""
    features, labels = rng.standard_normal((ROWS, 6)), rng.integers(0, CLASSES, ROWS)
    placed = Samples.place(backend, features[rows], labels[rows], "float64")
    return Samples(placed.features, placed.labels, None if weights is None else backend.asarray(weights))


def trained(backend: Backend, placed: Samples, recipe: Recipe = ONE_BATCH) -> tuple[Parameters, History]:
    network = recipe.network(initial_parameters((6, 4, CLASSES), "he", 0, "float64"), backend)
    history = train(network, placed, recipe, 0)
    return network.parameters, history


@pytest.mark.slow
def test_a_weight_is_a_number_of_repetitions(backend: Backend, seed: int) -> None:
    """In one batch; also on a backend whose fused epoch knows no weights."""
    times = np.array([1, 0, 3, 1, 2, 1, 0, 4, 1, 1, 2, 1])
    weights = times * (ROWS / times.sum())
    weighted, history = trained(backend, samples(backend, np.random.default_rng(seed), np.arange(ROWS), weights))
    rows = np.repeat(np.arange(ROWS), times)
    repeated, expected = trained(backend, samples(backend, np.random.default_rng(seed), rows, None))
    assert history.train_loss == pytest.approx(expected.train_loss, rel=1e-10)
    for got, reference in zip(weighted.weights, repeated.weights, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-9, atol=1e-12)


def test_weights_of_one_change_nothing(backend: Backend, seed: int) -> None:
    recipe = Recipe(epochs=3, batch_size=5, learning_rate=0.1, optimizer="adam")
    runs = [
        trained(backend, samples(backend, np.random.default_rng(seed), np.arange(ROWS), weights), recipe)[0]
        for weights in (None, np.ones(ROWS))
    ]
    for got, reference in zip(runs[1].weights, runs[0].weights, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-7, atol=1e-9)


def test_on_epoch_ends_the_training(backend: Backend, seed: int) -> None:
    placed = samples(backend, np.random.default_rng(seed), np.arange(ROWS), None)
    network = Trainer(initial_parameters((6, 4, CLASSES), "he", 0, "float64"), backend, 64)
    history = train(network, placed, ONE_BATCH, 0, on_epoch=lambda history: history.epochs == 2)
    assert history.epochs == 2
