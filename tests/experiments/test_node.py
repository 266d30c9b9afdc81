"""Figure 3's numbers: which node on which image, and that they add up."""

import numpy as np
import pytest

from fastmlp.experiments.node import SHOWN, node_at_work
from fastmlp.network.parameters import Parameters, initial_parameters

CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def parameters() -> Parameters:
    drawn = initial_parameters((20, 5, 3), init="he", seed=1)
    drawn.weights[1][3] = [4, -4, 4]
    drawn.biases[0][:] = np.arange(5)
    return drawn


def test_the_numbers_of_a_node_add_up_to_what_the_network_computes(parameters: Parameters) -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.standard_normal((40, 20)).astype(np.float32), np.arange(40) % 3
    node = node_at_work(parameters, features, labels, CLASSES)
    assert node is not None
    sums = features @ parameters.weights[0] + parameters.biases[0]
    assert node["unit"] == 3
    assert node["image"] == sums[:, 3].argmax()
    assert node["class"] == CLASSES[node["image"] % 3]
    assert node["sum"] == pytest.approx(sums[:, 3].max(), rel=1e-5)
    assert node["activation"] == max(node["sum"], 0)
    shown = [one["value"] * one["weight"] for one in node["inputs"]]
    assert len(shown) == SHOWN
    assert sorted(map(abs, shown), reverse=True) == list(map(abs, shown))
    assert node["adding"]["count"] + node["subtracting"]["count"] == 20 - SHOWN
    assert node["adding"]["sum"] >= 0 >= node["subtracting"]["sum"]
    total = sum(shown) + node["adding"]["sum"] + node["subtracting"]["sum"] + node["bias"]
    assert total == pytest.approx(node["sum"])


def test_a_node_that_nothing_excites_passes_on_nothing(parameters: Parameters) -> None:
    parameters.biases[0][:] = -100
    node = node_at_work(parameters, np.ones((2, 20), np.float32), np.array([0, 1]), CLASSES)
    assert node is not None
    assert node["sum"] < 0 == node["activation"]


def test_a_network_without_a_hidden_layer_has_no_such_node() -> None:
    linear = initial_parameters((20, 3))
    assert node_at_work(linear, np.ones((2, 20), np.float32), np.array([0, 1]), CLASSES) is None
