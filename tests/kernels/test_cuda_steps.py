"""Networks that take their steps together: launched as one, and each to the bit as if it were alone."""

from dataclasses import replace

import numpy as np
import pytest

from fastmlp.kernels.cuda.driver import MOST_ACROSS
from fastmlp.kernels.cuda.fused_steps import LAYER, NETWORK
from fastmlp.network.optimizers import make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.step_group import batch_by_batch
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.testing.emulated import EmulatedBackend
from tests.kernels.test_cuda_launches import DEVICE, NotingBackend

ROWS, BATCH = 23, 9  # the last batch is smaller
STEPS = -(-ROWS // BATCH)
EPOCHS = 3  # of which the first is launched as it is, the second recorded, the third replayed
ORDERS = tuple(
    tuple(np.random.default_rng([seed, epoch]).permutation(ROWS) for epoch in range(EPOCHS)) for seed in (0, 1)
)
SEEDS = (0, 1, 1, 0)  # of each network's order


def bound(backend, sizes, optimizer="adam", count=4):
    """Networks of which each has weights, a weight decay, a mean, a scale and a smoothing of its own."""
    trainers = []
    for seed in range(count):
        own = make_optimizer(optimizer, 0.1 * seed)
        trainer = Trainer(
            initial_parameters(sizes, "he", seed), backend, BATCH, Tier.FUSED_OPS, own, smoothing=0.1 * seed
        )
        if seed:
            trainer.standardize(np.full(sizes[0], 0.1 * seed), 1 + 0.5 * seed)
        trainers.append(trainer)
    return trainers


def data(sizes, backend):
    rng = np.random.default_rng(7)
    features, weights = rng.standard_normal((ROWS, sizes[0])).astype("f4"), rng.uniform(0.5, 1.5, ROWS).astype("f4")
    return [backend.asarray(array) for array in (features, rng.integers(0, sizes[-1], ROWS), weights)]


def train(trainers, numbers, placed, epoch):
    """An epoch of those networks, which have these numbers."""
    features, labels, weights = placed
    orders = [ORDERS[SEEDS[n]][epoch] for n in numbers]
    rates = [np.linspace(0.01, 0.02, STEPS) * (1 + n) for n in numbers]
    return train_epoch_together(trainers, features, labels, orders, rates, weights)


@pytest.mark.parametrize(
    ("sizes", "multiprocessors", "most"),
    [((6, 5, 7, 3), 132, 9), ((6, 40), 132, 3), ((70, 40, 3), 4, 9)],  # few classes, and many; warps with a tile each
)
def test_each_has_the_bits_that_it_has_alone_emulated(can_emulate, sizes, multiprocessors, most):
    from fastmlp.kernels.cuda.emulation import EmulatedDriver

    backend = EmulatedBackend(EmulatedDriver(replace(DEVICE, multiprocessors=multiprocessors)))
    backend.most_networks = most  # of the four together
    together, alone = bound(backend, sizes), bound(EmulatedBackend(), sizes)
    placed = data(sizes, backend)
    for epoch in range(EPOCHS):
        figures = train(together, range(len(SEEDS)), placed, epoch)
        for n, trainer in enumerate(alone):
            assert train([trainer], [n], placed, epoch) == [figures[n]]
    for one, other in zip(together, alone, strict=True):
        for name, array in one.state.items():
            np.testing.assert_array_equal(array, other.state[name], err_msg=name)


# What is launched.


@pytest.fixture
def backend():
    return NotingBackend()


def launched(backend):
    """Since the last call."""
    noted, backend.driver.launched[:] = list(backend.driver.launched), []
    return noted


def test_as_few_launches_as_of_one(backend):
    sizes = (6, 5, 3)
    trainers, placed = bound(backend, sizes), data(sizes, backend)
    train(trainers, range(4), placed, epoch=0)
    steps = launched(backend)
    assert [noted.program.kernel for noted in steps] == ["gather_forward", "head", "descend"] * STEPS
    assert {noted.grid[1] for noted in steps} == {4}
    _, orders, networks, table, *_ = steps[-1].arguments
    of_networks, of_layers = networks.view(NETWORK), table.view(LAYER).reshape(4, 2)
    assert of_networks["order"].tolist() == list(SEEDS)
    np.testing.assert_array_equal(orders, np.concatenate([own[0][-(ROWS % BATCH) :] for own in ORDERS]))
    for trainer, network, layers in zip(trainers, of_networks, of_layers, strict=True):
        mean, weights = trainer.network.mean, trainer.network.weights.values
        assert network["mean"] == (0 if mean is None else mean.ctypes.data)
        assert layers["weights"][:, 0].tolist() == [array.ctypes.data for array in weights]
    assert len(set(of_layers["delta"].ravel().tolist())) == of_layers.size


def test_those_left_go_on_together_and_all_is_bound_anew_only_then(backend):
    sizes = (6, 3)
    trainers, placed = bound(backend, sizes), data(sizes, backend)
    for _ in range(3):
        train(trainers, range(4), placed, epoch=0)
    assert len(backend.driver.recordings) == 1
    for numbers in ((0, 1, 3), (1, 3)):  # the last and the first of them end
        launched(backend)
        train([trainers[n] for n in numbers], numbers, placed, epoch=1)
        assert {noted.grid[1] for noted in launched(backend)} == {len(numbers)}


@pytest.mark.parametrize("unlike", ["optimizer", "steps"])
def test_what_is_not_alike_takes_its_steps_apart(backend, unlike):
    sizes = (6, 3)
    trainers, (features, labels, _) = bound(backend, sizes), data(sizes, backend)
    trainers[1:2] = bound(backend, sizes, "sgd", count=1) if unlike == "optimizer" else trainers[1:2]
    lengths = [ROWS - (unlike == "steps" and n == 1) * BATCH for n in range(4)]
    orders, rates = [np.arange(length) for length in lengths], [np.ones(-(-length // BATCH)) for length in lengths]
    train_epoch_together(trainers, features, labels, orders, rates)
    assert {noted.grid[1] for noted in launched(backend)} == {1, 3}


def test_no_more_go_together_than_a_grid_has_rows(backend):
    assert backend.most_networks == MOST_ACROSS
    backend.most_networks = 3
    sizes = (6, 3)
    train(bound(backend, sizes), range(4), data(sizes, backend), epoch=0)
    assert {noted.grid[1] for noted in launched(backend)} == {1, 3}


def test_orders_lie_batch_by_batch():
    orders = np.arange(5), np.arange(5) + 10
    assert batch_by_batch(orders, 2).tolist() == [0, 1, 10, 11, 2, 3, 12, 13, 4, 14]
    assert batch_by_batch(orders[:1], 7).tolist() == orders[0].tolist()


def test_large_tiles_have_a_warp_each(backend):
    sizes = (768, 1000)
    train(bound(backend, sizes), range(4), data(sizes, backend), epoch=0)
    _, descend, *_ = (noted for noted in launched(backend) if noted.program.kernel != "softmax_rows")
    assert descend.constants["TILE"] == "32"
    assert descend.grid == (24 * 32 // 8 + 1, 4)
