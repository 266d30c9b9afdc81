"""The recipe, the history, divergence, and that stopping and going on changes nothing."""

from typing import Any

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.errors import UsageError
from fastmlp.mlp import Network, Parameters, initial_parameters
from fastmlp.training import PRESETS, DivergedError, History, Recipe, Samples, train

SIZES = (12, 8, 3)
RECIPE = Recipe(epochs=6, batch_size=16, learning_rate=0.1, drop_every=2)


def samples(rows: int = 100, scale: float = 1.0) -> Samples:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, SIZES[-1], rows)
    features = rng.standard_normal((rows, SIZES[0])) + 4 * np.eye(SIZES[-1], SIZES[0])[labels]
    return Samples.place(open_backend("numpy"), scale * features, labels, "float32")


def network() -> Network:
    return Network(initial_parameters(SIZES, "he"), open_backend("numpy"), RECIPE.batch_size)


def same(a: Parameters, b: Parameters) -> bool:
    pairs = zip((*a.weights, *a.biases), (*b.weights, *b.biases), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_the_papers_schedule() -> None:
    paper = PRESETS["paper"]
    assert (paper.epochs, paper.batch_size) == (300, 64)
    rates = [paper.learning_rate_at(epoch) for epoch in (1, 100, 101, 200, 201, 300)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_a_recipe_without_a_drop_keeps_its_rate() -> None:
    assert Recipe(drop_every=None).learning_rate_at(10_000) == 0.01


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": np.nan}])
def test_impossible_recipes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Recipe(**wrong)


def test_training_learns_and_records_every_epoch() -> None:
    history = train(network(), samples(), RECIPE, seed=0, test=samples())
    assert history.epoch == [1, 2, 3, 4, 5, 6]
    assert history.learning_rate == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert history.train_loss[-1] < 0.7 * history.train_loss[0]
    assert history.test_accuracy[-1] > 0.8
    assert len(history.test_loss) == 6


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    networks = [network() for _ in range(3)]
    for each, seed in zip(networks, (0, 0, 1), strict=True):
        train(each, samples(), RECIPE, seed=seed)
    assert same(networks[0].parameters, networks[1].parameters)
    assert not same(networks[0].parameters, networks[2].parameters)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stopping_and_going_on_takes_the_same_steps(stop: int) -> None:
    whole = network()
    expected = train(whole, samples(), RECIPE, seed=0, test=samples())

    first = network()
    history = train(first, samples(), RECIPE.changed(epochs=stop), seed=0, test=samples())
    second = Network(first.parameters, first.backend, RECIPE.batch_size)
    history = train(second, samples(), RECIPE, seed=0, test=samples(), history=History(**history.as_dict()))
    assert same(second.parameters, whole.parameters)
    assert history == expected


def test_rows_in_order_without_shuffling() -> None:
    """One epoch of shuffle=False is one train_epoch over 0 .. n - 1, the ragged last batch used."""
    by_hand, trained = network(), network()
    data = samples(rows=37)
    train(trained, data, RECIPE.changed(epochs=1), seed=0, shuffle=False)
    by_hand.train_epoch(data.features, data.labels, np.arange(37), 0.1)
    assert same(trained.parameters, by_hand.parameters)


def test_on_epoch_sees_every_epoch() -> None:
    seen: list[int] = []
    train(network(), samples(), RECIPE, seed=0, on_epoch=lambda history: seen.append(history.epochs))
    assert seen == [1, 2, 3, 4, 5, 6]


def test_divergence_ends_with_a_sentence() -> None:
    with pytest.raises(DivergedError, match=r"diverged in epoch \d.*lower the learning rate"):
        train(network(), samples(scale=1e6), RECIPE.changed(learning_rate=1e6), seed=0)


def test_nan_features_end_with_the_same_sentence() -> None:
    data = samples()
    data.features[5, 2] = np.nan
    with pytest.raises(DivergedError, match="the loss is nan"):
        train(network(), data, RECIPE, seed=0)
