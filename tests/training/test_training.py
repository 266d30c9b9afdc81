"""The recipe, the history, divergence, and that stopping and resuming changes nothing."""

from typing import Any

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.common.errors import UsageError
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.loop import DivergedError, train, train_together
from fastmlp.training.recipe import PRESETS, WARM_UP, Recipe
from fastmlp.training.samples import Samples

SIZES = (12, 8, 3)
RECIPE = Recipe(epochs=6, batch_size=16, learning_rate=0.1, drop_every=2)
FULL = Recipe(6, 16, 0.02, "one-cycle", optimizer="adam", weight_decay=0.1, standardize="together", init="he")


def samples(rows: int = 100, scale: float = 1.0) -> Samples:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, SIZES[-1], rows)
    features = rng.standard_normal((rows, SIZES[0])) + 4 * np.eye(SIZES[-1], SIZES[0])[labels]
    return Samples.place(open_backend("numpy"), scale * features, labels, "float32")


def network(recipe: Recipe = RECIPE) -> Trainer:
    return recipe.network(initial_parameters(SIZES, "he"), open_backend("numpy"))


def same(a: Parameters, b: Parameters) -> bool:
    pairs = zip((*a.weights, *a.biases), (*b.weights, *b.biases), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_the_papers_schedule() -> None:
    paper = PRESETS["paper"]
    assert (paper.epochs, paper.batch_size) == (300, 64)
    rates = [paper.learning_rates(epoch, 3) for epoch in (1, 100, 101, 200, 201, 300)]
    np.testing.assert_allclose(rates, np.outer([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001], np.ones(3)))


def test_a_recipe_without_a_drop_keeps_its_rate() -> None:
    assert Recipe(schedule="constant").learning_rates(10_000, 2).tolist() == [0.01, 0.01]


def test_few_rows_of_many_features_have_more_weight_decay() -> None:
    recipe = Recipe(relative_decay=30.0)
    assert recipe.for_data(10_000, 16).weight_decay == pytest.approx(30 * 4 / 1000)
    assert recipe.for_data(16, 100).weight_decay == pytest.approx(recipe.for_data(16, 16).weight_decay)
    assert recipe.changed(weight_decay=0.5).for_data(16, 4).weight_decay == 0.5
    assert recipe.changed(weight_decay=0.0).for_data(16, 4).weight_decay == 0
    assert recipe.changed(learning_rate=2.0).for_data(16, 4).weight_decay == 0.25
    assert Recipe(weight_decay=0.1).for_data(16, 4).weight_decay == 0.1


def test_one_cycle_rises_and_falls_along_half_cosines() -> None:
    recipe, steps = Recipe(epochs=4, learning_rate=0.5, schedule="one-cycle"), 25
    rates = np.concatenate([recipe.learning_rates(epoch, steps) for epoch in (1, 2, 3, 4)])
    for step, rate in enumerate(rates):
        done = (step + 0.5) / 100
        if done < WARM_UP:
            expected = 0.5 * (1 - np.cos(np.pi * done / WARM_UP)) / 2
        else:
            expected = 0.5 * (1 + np.cos(np.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
        assert rate == pytest.approx(expected, rel=1e-12)
    assert np.argmax(rates) in (19, 20)
    assert 0 < min(rates[0], rates[-1]) < max(rates[0], rates[-1]) < 0.002
    assert rates.max() <= 0.5


@pytest.mark.parametrize("wrong", [{"schedule": "cosines"}, {"optimizer": "lion"}, {"weight_decay": -1.0}])
def test_what_a_recipe_does_not_know(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Recipe(**wrong)


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
@pytest.mark.parametrize("recipe", [RECIPE, FULL], ids=["paper", "full"])
def test_stopping_and_resuming_takes_the_same_steps(recipe: Recipe, stop: int) -> None:
    class StopError(Exception): ...

    def stop_there(history: History) -> None:
        if history.epochs == stop:
            raise StopError

    whole, first, second = (network(recipe) for _ in range(3))
    expected = train(whole, samples(), recipe, seed=0, test=samples())
    history = History()
    with pytest.raises(StopError):
        train(first, samples(), recipe, seed=0, test=samples(), history=history, on_epoch=stop_there)
    second.state = first.state
    history = train(second, samples(), recipe, seed=0, test=samples(), history=History(**history.as_dict()))
    assert same(second.parameters, whole.parameters)
    assert history == expected


def test_rows_in_order_without_shuffling() -> None:
    """One epoch of shuffle=False is one train_epoch over 0 .. n - 1, the ragged last batch used."""
    by_hand, trained = network(), network()
    data = samples(rows=37)
    train(trained, data, RECIPE.changed(epochs=1), seed=0, shuffle=False)
    by_hand.train_epoch(data.features, data.labels, np.arange(37), np.full(3, 0.1))
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


# Standardised features.


def test_standardising_does_not_depend_on_the_features_place_and_unit() -> None:
    """Moved and scaled by powers of two they give the same losses but for roundings; none is changed in place."""
    losses = []
    for place, unit in ((0.0, 1.0), (8.0, 1.0), (0.0, 1024.0)):
        data = samples()
        moved = Samples(unit * (data.features + np.float32(place)), data.labels)
        before = moved.features.copy()
        history = train(network(FULL), moved, FULL, seed=0, test=moved)
        losses.append([*history.train_loss, *history.test_loss])
        np.testing.assert_array_equal(moved.features, before)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


def test_constant_features_do_no_harm() -> None:
    data = samples()
    data.features[:, 3] = 7
    history = train(network(FULL), data, FULL, seed=0)
    assert history.train_loss[-1] < 0.7 * history.train_loss[0]
    data.features[...] = 7
    assert np.isfinite(train(network(FULL), data, FULL, seed=0).train_loss).all()


def test_nan_among_standardised_features_is_seen() -> None:
    data = samples()
    data.features[5, 2] = np.nan
    with pytest.raises(DivergedError, match="the loss is nan"):
        train(network(FULL), data, FULL, seed=0)


# Several networks.


def test_networks_trained_together_end_as_if_alone() -> None:
    recipes = [FULL, FULL.changed(learning_rate=0.005), RECIPE, RECIPE, RECIPE.changed(schedule="constant")]
    seeds = [0, 0, 0, 5, 1]
    together = [network(recipe) for recipe in recipes]
    counts: list[list[int]] = []
    histories = train_together(
        together, samples(), recipes, seeds, test=samples(),
        on_epoch=lambda histories: counts.append([history.epochs for history in histories]),
    )  # fmt: skip
    assert counts == [[epoch] * 5 for epoch in range(1, 7)]
    for k, recipe in enumerate(recipes):
        alone = network(recipe)
        assert train(alone, samples(), recipe, seeds[k], test=samples()) == histories[k]
        assert same(alone.parameters, together[k].parameters)


def test_one_network_may_diverge_among_others() -> None:
    recipes = [RECIPE.changed(learning_rate=1e30), RECIPE]
    histories = train_together([network(), network()], samples(), recipes, [0, 0])
    assert not np.isfinite(histories[0].train_loss[-1])
    assert histories[1] == train(network(), samples(), RECIPE, seed=0)


@pytest.mark.parametrize("changes", [{"epochs": 5}, {"batch_size": 8}])
def test_networks_trained_together_share_epochs_and_batch_size(changes: dict[str, int]) -> None:
    recipes = [RECIPE, RECIPE.changed(**changes)]
    with pytest.raises(UsageError, match="the same batch size and the same number of epochs"):
        train_together([network(recipe) for recipe in recipes], samples(), recipes, [0, 0])
