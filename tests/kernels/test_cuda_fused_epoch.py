"""The fused epoch's CUDA kernel, emulated: the choice of layouts, and what the public check does not ask.

Its numbers in every layout, on every family of devices, are in `fastmlp.testing.ways`.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import BackendError, UsageError
from fastmlp.kernels import EpochKind
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.fused_epoch import FusedEpoch
from fastmlp.kernels.cuda.layout import FEWER_BLOCKS, LAYOUTS, UNMEASURED, Layout, Shape, candidates, refusal
from fastmlp.kernels.cuda.one_block import ONE_BLOCK, ONE_BLOCK_UNMEASURED
from fastmlp.network.optimizers import SGD, Optimizer, make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing import check_backend
from fastmlp.testing.compare import assert_close, error

PLAIN = SGD()
TOLERANCE = 1e-5  # an epoch of few steps: rounding of float32, as for one step
GPUS = {
    "Turing": Device("Turing", 75, 68, 65_536),
    "A100": Device("A100", 80, 108, 166_912),
    "RTX 4090": Device("RTX 4090", 89, 128, 101_376),
    "H100": Device("H100", 90, 132, 232_448),
    "RTX 5090": Device("RTX 5090", 120, 170, 101_376),
}
PAPER = Shape.of((512, 64, 10), 64, PLAIN, centred=False)
SMALL = Shape.of((24, 16, 5), 16, PLAIN, centred=False)
CLUSTER, GRID = LAYOUTS[0], next(layout for layout in LAYOUTS if not layout.cluster)
ONE_BLOCKS = {"one block": ONE_BLOCK, "one block, tensor cores": ONE_BLOCK_UNMEASURED}
KINDS = {"cluster": CLUSTER, "grid": GRID, "specialised": UNMEASURED[0], **ONE_BLOCKS}


class Problem:
    """A network, rows to train it on, and what the array code makes of it in float64."""

    def __init__(self, sizes, batch_size, rows, optimizer=PLAIN, centred=False, seed=0):
        rng = np.random.default_rng([seed, rows, *sizes])
        self.batch_size, self.optimizer, self.centred = batch_size, optimizer, centred
        self.parameters = initial_parameters(sizes, "he", seed)
        self.features = rng.standard_normal((rows + 5, sizes[0])).astype("f4")
        self.labels = rng.integers(0, sizes[-1], rows + 5)
        self.order = rng.permutation(rows + 5)[:rows]
        self.rates = np.linspace(0.1, 0.02, -(-rows // batch_size)) * (0.1 if optimizer.moments else 1)

    def bind(self, backend, dtype, tier=None):
        trainer = Trainer(self.parameters.astype(dtype), backend, self.batch_size, tier, self.optimizer)
        if self.centred:
            trainer.standardize(np.full(trainer.sizes[0], 0.25), 1.5)
        return trainer

    def exact(self):
        """Loss sum, hits and state after the epoch, by NumPy in float64."""
        trainer = self.bind(NumpyBackend(), "float64", Tier.ARRAY_CODE)
        loss, accuracy = trainer.train_epoch(self.features.astype("f8"), self.labels, self.order, self.rates)
        return loss * len(self.order), round(accuracy * len(self.order)), trainer.state

    def task(self, backend):
        """The epoch for the kernel, and the trainer whose network it trains."""
        trainer = self.bind(backend, "float32", Tier.ARRAY_CODE)
        return trainer, trainer.task(self.order, trainer.coefficients(self.rates, len(self.order)))


def train(emulated, problems, layout=None):
    """Each problem's network, trained together by the kernel; their features are the first problem's."""
    bound = [problem.task(emulated) for problem in problems]
    features, labels = emulated.asarray(problems[0].features), emulated.asarray(problems[0].labels)
    fused = FusedEpoch(emulated.driver, emulated.asarray, LAYOUTS if layout is None else [layout])
    results = fused.train([task for _, task in bound], features, labels)
    return [(loss, hits, trainer.state) for (loss, hits), (trainer, _) in zip(results, bound, strict=True)]


def assert_same(got, exact, tolerance=TOLERANCE):
    loss, hits, state = got
    exact_loss, exact_hits, exact_state = exact
    assert abs(loss / exact_loss - 1) < tolerance
    assert hits == exact_hits
    for name, values in state.items():
        assert_close(name, values, exact_state[name], tolerance)


@pytest.mark.parametrize("layout", KINDS.values(), ids=KINDS)
def test_networks_train_together_as_if_alone_emulated(emulated, layout):
    """Their epochs may differ in length: blocks of one never wait for those of another."""
    problems = [Problem((24, 16, 5), 16, 60, seed=seed) for seed in range(3)]
    for problem, rows in zip(problems, (60, 17, 33), strict=True):
        problem.features, problem.labels = problems[0].features, problems[0].labels
        problem.order, problem.rates = problem.order[:rows], problem.rates[: -(-rows // 16)]
    together = train(emulated, problems, layout)
    alone = [train(emulated, [problem], layout)[0] for problem in problems]
    for got, by_itself, problem in zip(together, alone, problems, strict=True):
        assert_same(got, problem.exact())
        assert got[:2] == by_itself[:2]
        for name in got[2]:
            np.testing.assert_array_equal(got[2][name], by_itself[2][name])


def test_too_few_blocks_at_once_are_an_error_not_a_hang_emulated(emulated, monkeypatch):
    monkeypatch.setattr(emulated.driver, "blocks_at_once", lambda program, threads: GRID.blocks - 1)
    with pytest.raises(BackendError, match="15 blocks run at once, and not 16"):
        train(emulated, [Problem((24, 16, 5), 16, 20)], GRID)


def test_a_layout_that_the_device_refuses_is_not_tried_again_emulated(emulated, monkeypatch):
    monkeypatch.setattr(emulated.driver, "largest_cluster", 8)
    problem = Problem((24, 16, 5), 16, 20)
    trainer, task = problem.task(emulated)
    features, labels = emulated.asarray(problem.features), emulated.asarray(problem.labels)
    fused = FusedEpoch(emulated.driver, emulated.asarray)
    first = candidates(SMALL, emulated.driver.device)[0]
    assert first.blocks > 8
    ((loss, hits),) = fused.train([task], features, labels)
    assert_same((loss, hits, trainer.state), problem.exact())
    monkeypatch.setattr(emulated.driver, "largest_cluster", 16)
    assert first not in fused._layouts(SMALL, 1)


@pytest.mark.parametrize("layout", KINDS.values(), ids=KINDS)
def test_no_schedule_changes_a_bit_emulated(emulated, layout):
    """Threads, blocks and messages come in another order every time."""
    problem = Problem((24, 16, 5), 16, 60)
    (first,) = train(emulated, [problem], layout)
    for _ in range(4):
        (again,) = train(emulated, [problem], layout)
        assert again[:2] == first[:2]
        for name in first[2]:
            np.testing.assert_array_equal(again[2][name], first[2][name])


def test_a_row_that_is_not_there_is_refused_emulated(emulated):
    problem = Problem((24, 16, 5), 16, 40)
    problem.order = np.array([0, 45])
    problem.rates = problem.rates[:1]
    with pytest.raises(UsageError, match=r"rows 0 \.\. 44"):
        train(emulated, [problem])


@pytest.mark.parametrize(
    "checks",
    [
        "33-16-10 37 rows in batches of 12, best tier, float32",  # NaN, infinity, ties
        "momentum decay 0.3 epoch, 33-16-10 90 rows in batches of 37 centred weighted, best tier, float32",
        "adam decay 0.3 epoch, 33-16-10 90 rows in batches of 37 centred smoothing 0.1, best tier, float32",
        "low probabilities, 5-4-300 16 rows in batches of 16, best tier, float32",
        "exact sum of losses, 1-1-2 12 rows in batches of 1, best tier, float32",
    ],
)
def test_specialised_warps_hold_to_what_the_chosen_layout_does_emulated(emulated, checks):
    way = emulated.by_layout(UNMEASURED[0])
    assert not way.fused_epoch_refusal(EpochKind((33, 16, 10), "float32", 37, PLAIN))
    report = check_backend(way, only=checks)
    assert report.ok, report


# Inputs, hidden units and rows of a batch: the least with which the warps' sums are where the next batch will be.
FEWER = {(2, 2, False): ((290, 38, 10), 29), (2, 2, True): ((450, 46, 10), 29), (2, 4, True): ((250, 60, 10), 61)}


@pytest.mark.parametrize("layout", FEWER_BLOCKS, ids=str)
def test_fewer_blocks_train_a_network_as_many_do_emulated(emulated, layout):
    sizes, batch_size = FEWER[layout.split_k, layout.split_n, layout.tensor_cores]
    problem = Problem(sizes, batch_size, 3 * batch_size + 5, centred=True)
    assert layout.sums_in_batch(Shape.of(sizes, batch_size, PLAIN, centred=True)) is (layout.split_n == 2)
    (got,) = train(emulated, [problem], layout)
    assert_same(got, problem.exact())
    (again,) = train(emulated, [problem], layout)  # in another order of threads and messages
    for name in got[2]:
        np.testing.assert_array_equal(again[2][name], got[2][name])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_tensor_cores_keep_what_is_no_number_emulated(emulated, value):
    problem = Problem((250, 60, 10), 61, 61)
    problem.features[problem.order[3], 5] = value
    with np.errstate(all="ignore"):
        ((loss, _, state),) = train(emulated, [problem], UNMEASURED[1])
        exact_loss, _, exact = problem.exact()
    assert np.isnan(loss) == np.isnan(exact_loss)
    for name, values in state.items():
        np.testing.assert_array_equal(np.isnan(values), np.isnan(exact[name]))


@pytest.mark.parametrize("layout", ONE_BLOCKS.values(), ids=ONE_BLOCKS)
def test_nan_shows_and_rows_left_out_do_not_on_one_block_emulated(emulated, layout):
    problem = Problem((70, 16, 5), 16, 40)
    left_out = np.setdiff1d(np.arange(len(problem.labels)), problem.order)
    problem.features[left_out] = np.nan
    (got,) = train(emulated, [problem], layout)
    assert_same(got, problem.exact())
    problem.features[problem.order[0], -1] = np.nan
    ((loss, _, state),) = train(emulated, [problem], layout)
    assert np.isnan(loss)
    assert np.isnan(state["weights"]).any()


def test_one_block_on_tensor_cores_has_several_tiles_a_warp_and_needs_no_hidden_layer_emulated(emulated):
    for sizes in ((130, 70, 10), (70, 33)):
        problem = Problem(sizes, 61, 150, make_optimizer("momentum", weight_decay=0.1), centred=True)
        (got,) = train(emulated, [problem], ONE_BLOCK_UNMEASURED)
        assert_same(got, problem.exact())


# Layouts, which are arithmetic.


def test_what_is_not_measured_is_chosen_for_nothing():
    assert not any(layout.specialised or layout.tensor_cores for layout in (*LAYOUTS, ONE_BLOCK))
    assert ONE_BLOCK_UNMEASURED.fits(PAPER, GPUS["A100"]) is False  # too little shared memory
    assert not ONE_BLOCK_UNMEASURED.fits(SMALL, GPUS["Turing"])  # whose tensor cores take no float32
    assert all(layout.fits(PAPER, GPUS["H100"]) for layout in UNMEASURED)


def test_tensor_cores_are_for_whole_tiles():
    tensor_cores = UNMEASURED[1]
    for sizes, fits in (((250, 60, 10), True), ((250, 30, 10), False), ((130, 60, 10), False), ((250, 10), False)):
        assert tensor_cores.fits(Shape.of(sizes, 64, PLAIN, centred=False), GPUS["H100"]) is fits


def test_every_family_of_gpus_has_a_layout_for_the_papers_network():
    chosen = {name: candidates(PAPER, device)[0] for name, device in GPUS.items()}
    assert chosen["H100"] == Layout(2, 8, cluster=True, buffers=2, passes=1)
    assert not any(chosen[name].cluster for name in ("Turing", "A100", "RTX 4090"))
    for name, layout in chosen.items():
        assert layout.shared_memory(PAPER) <= GPUS[name].shared_memory


def test_the_more_networks_the_fewer_blocks_each_has():
    """One less at once than there is room for: 7 clusters of 16 blocks, 15 of 8, 32 of 4; but all single blocks."""
    h100, tensor_cores = GPUS["H100"], [layout for layout in UNMEASURED if layout.tensor_cores]
    for networks, measured, unmeasured in ((1, 16, 16), (7, 16, 16), (8, 8, 8), (15, 8, 8), (16, 8, 4), (32, 8, 4)):
        assert candidates(PAPER, h100, networks)[0].blocks == measured
        assert candidates(PAPER, h100, networks, tensor_cores)[0].blocks == unmeasured
    assert candidates(PAPER, h100, 45, (*LAYOUTS, ONE_BLOCK))[0].blocks == 8
    assert candidates(PAPER, h100, 46, (*LAYOUTS, ONE_BLOCK))[0] == ONE_BLOCK
    assert [ONE_BLOCK.turns(h100, networks) for networks in (1, 132, 133)] == [1, 1, 2]


def test_a_block_takes_exactly_the_shared_memory_that_it_is_given_emulated(emulated):
    """A launch with less fails; see also emulation's own check that no more is taken."""
    for layout in KINDS.values():
        less = replace(layout.program(SMALL), shared_memory=layout.shared_memory(SMALL) - 16)
        arrays = [emulated.asarray(np.zeros(1024, dtype)) for dtype in ("f4", "i8", "u1", "f8", "i8", "f4", "u4")]
        with pytest.raises(RuntimeError, match=f"{layout.shared_memory(SMALL)} of {less.shared_memory} bytes"):
            emulated.driver.load(less)((layout.blocks,), (layout.threads,), arrays)


@pytest.mark.parametrize(
    ("sizes", "dtype", "batch_size", "reason"),
    [
        ((512, 64, 10), "float64", 64, "float32"),
        ((512, 64, 32, 10), "float32", 64, "one hidden layer"),
        ((512, 257), "float32", 64, "shared memory"),
        ((512, 1000, 10), "float32", 64, "shared memory"),
        ((512, 64, 10), "float32", 4096, "shared memory"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(sizes, dtype, batch_size, reason):
    assert reason in refusal(EpochKind(sizes, dtype, batch_size, PLAIN), GPUS["H100"])
    assert not refusal(EpochKind((512, 64, 10), "float32", 64, PLAIN), GPUS["H100"])


@pytest.mark.parametrize("sizes", [(512, 64, 10), (512, 10), (512, 200)])
def test_weights_and_smoothing_are_taken_and_what_has_neither_is_compiled_without(sizes):
    assert not refusal(EpochKind(sizes, "float32", 64, PLAIN, weighted=True, smoothing=0.1), GPUS["H100"])
    shape = Shape.of(sizes, 64, PLAIN, centred=False)
    plain, other = (set(CLUSTER.program(one).options) for one in (shape, replace(shape, weighted=True, smoothed=True)))
    assert {"-DWEIGHTED=0", "-DSMOOTHED=0"} <= plain
    assert {"-DWEIGHTED=1", "-DSMOOTHED=1"} <= other


def test_errors_of_the_comparison_itself():
    """What assert_same is made of tells one part in 10,000 from nothing."""
    ones = np.ones(3)
    assert error(ones * (1 + 1e-4), ones) > TOLERANCE


class Unknown(Optimizer):
    """Two moments, as Adam has, and no kernel anywhere."""

    name = "unknown"
    moments: ClassVar[tuple[str, ...]] = ("first", "second")
    schedule = SGD.schedule
    step = SGD.step


class Many(Unknown):
    name = "adam"
    moments = ("a", "b", "c", "d")


def test_an_optimizer_without_a_kernel_is_refused_not_guessed():
    assert "no step of unknown" in refusal(EpochKind((512, 64, 10), "float32", 64, Unknown()), GPUS["H100"])


def test_more_moments_than_the_table_has_room_for_are_refused():
    assert "up to 3 moments, and adam has 4" in refusal(EpochKind((512, 64, 10), "float32", 64, Many()), GPUS["H100"])
