"""Samples that do not fit on the device: chunks give the same numbers, the next is on its way while one is used."""

import json
import sys
import threading
import types
from collections.abc import Callable

import numpy as np
import pytest

from fastmlp.backends import Backend
from fastmlp.backends.cupy import CupyBackend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.cli.main import main
from fastmlp.common.errors import BackendError
from fastmlp.features.sharded_rows import ShardedRows
from fastmlp.features.shards import open_features
from fastmlp.features.streamed import StreamedRows
from fastmlp.network.optimizers import SGD, Optimizer, make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.problems import tiers
from fastmlp.training import loop, windowed
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import ChunkedSamples, Samples
from tests.backends import fake_cupy

SIZES = (12, 8, 5)
ROWS, BATCH = 182, 16
BUDGET = 4 * 40 * SIZES[0] * 4  # 40 rows a chunk: two batches, and a last chunk of one and a smaller one


def data(dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, SIZES[0])).astype(dtype), rng.integers(0, SIZES[-1], ROWS)


def placed(backend: Backend, budget: int | None, monkeypatch: pytest.MonkeyPatch, dtype: str = "float32") -> Samples:
    monkeypatch.setattr(backend, "memory_budget", lambda: budget)
    return Samples.place(backend, *data(), dtype)


def networks_of(backend: Backend, optimizer: Optimizer, tier: Tier | None, dtype: str = "float32") -> list[Trainer]:
    """Three, of which the first two will share an order."""
    first = [initial_parameters(SIZES, "he", seed, dtype) for seed in range(3)]
    return [Trainer(parameters, backend, BATCH, tier, optimizer) for parameters in first]


def train(samples: Samples, networks: list[Trainer], epochs: int = 1) -> list[tuple[float, float]]:
    steps = -(-ROWS // BATCH)
    rates = [np.linspace(0.1, 0.05, steps) * (1 + number) for number in range(3)]
    for epoch in range(epochs):
        shared, own = (np.random.default_rng([epoch, k]).permutation(ROWS) for k in range(2))
        figures = samples.train_epoch(networks, [shared, shared, own], rates)
    return figures


def assert_same(
    monkeypatch: pytest.MonkeyPatch, backend: Backend, optimizer: Optimizer, tier: Tier | None, epochs: int = 1
) -> None:
    """Weights to the last bit; means of losses, which are summed by chunks, all but."""
    whole, chunked = placed(backend, None, monkeypatch), placed(backend, BUDGET, monkeypatch)
    assert isinstance(chunked, ChunkedSamples)
    assert not isinstance(whole, ChunkedSamples)
    expected, got = networks_of(backend, optimizer, tier), networks_of(backend, optimizer, tier)
    np.testing.assert_allclose(train(chunked, got, epochs), train(whole, expected, epochs), rtol=1e-6)
    for one, two in zip(expected, got, strict=True):
        for name, value in one.state.items():
            np.testing.assert_array_equal(two.state[name], value, err_msg=name)
        np.testing.assert_allclose(chunked.evaluate(two), whole.evaluate(one), rtol=1e-6)
        got_logits, expected_logits = (
            np.concatenate(list(samples.logit_batches(network))) for samples, network in ((chunked, two), (whole, one))
        )
        np.testing.assert_allclose(got_logits, expected_logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", [SGD(), make_optimizer("adam", 0.1)], ids=["sgd", "adam"])
def test_chunks_train_the_same_weights(backend, optimizer, monkeypatch):
    for tier in tiers(backend, SIZES, "float32", optimizer):
        assert_same(monkeypatch, backend, optimizer, tier, epochs=1 if backend.name == "emulated" else 2)


class Pinned(np.ndarray):
    """Memory of the host that a GPU may read by itself, as cupyx.empty_pinned gives it."""


def pinned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.empty(shape, dtype).view(Pinned)


@pytest.mark.usefixtures("can_emulate")
def test_chunks_go_to_cupy_from_pinned_memory_in_a_stream_of_their_own_emulated(monkeypatch):
    """What is not pinned, or copied in the stream of the kernels, would have the GPU wait."""
    gpu = fake_cupy.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=pinned))
    streams = set()

    def set_(array: fake_cupy.Array, source: np.ndarray, stream: fake_cupy.Stream) -> None:
        assert (array.shape, array.dtype) == (source.shape, source.dtype)
        assert source.flags.c_contiguous
        assert array.flags.c_contiguous
        assert isinstance(source, Pinned)
        streams.add(stream)
        array[...] = source

    monkeypatch.setattr(fake_cupy.Array, "set", set_)
    assert_same(monkeypatch, CupyBackend(), SGD(), None)
    assert streams
    assert gpu.streams[0] not in streams


def test_features_of_another_dtype_are_converted_by_chunks(monkeypatch):
    backend = NumpyBackend()
    chunked = placed(backend, 2 * BUDGET, monkeypatch, "float64")
    assert isinstance(chunked, ChunkedSamples)
    assert chunked.features.dtype == np.float32
    whole = Samples(data()[0].astype(np.float64), data()[1])
    expected, got = (networks_of(backend, SGD(), Tier.ARRAY_CODE, "float64") for _ in range(2))
    train(chunked, got), train(whole, expected)
    np.testing.assert_array_equal(got[2].parameters.weights[0], expected[2].parameters.weights[0])


def test_memory_mapped_features_stay_on_disk(tmp_path, monkeypatch):
    np.save(tmp_path / "features.npy", data()[0])
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    backend = NumpyBackend()
    monkeypatch.setattr(backend, "memory_budget", lambda: BUDGET)
    chunked = Samples.place(backend, mapped, data()[1], "float32")
    assert chunked.features is mapped
    train(chunked, networks_of(backend, SGD(), Tier.ARRAY_CODE))


def test_a_whole_training_is_the_same(monkeypatch):
    """Standardised, with a test set, by the fast preset's method."""
    recipe = Recipe(
        epochs=3, batch_size=BATCH, schedule="one-cycle", optimizer="adam", standardize="together", init="he"
    )
    histories = []
    for budget in (None, BUDGET):
        backend = NumpyBackend()
        on = placed(backend, budget, monkeypatch)
        network = recipe.network(initial_parameters(SIZES, "he"), backend)
        histories.append(loop.train(network, on, recipe, 0, test=on).as_dict())
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-6, err_msg=name)


def test_the_next_chunk_comes_while_one_is_used(monkeypatch):
    """It is uploaded, by another thread, though nobody has asked for it yet; and no further one, for lack of room."""
    uploaded, threads = threading.Semaphore(0), set()

    class Watched(NumpyBackend):
        def memory_budget(self) -> int:
            return BUDGET

        def upload(self, source: np.ndarray, out: np.ndarray) -> None:
            super().upload(source, out)
            threads.add(threading.get_ident())
            uploaded.release()

    chunked = Samples.place(Watched(), *data(), "float32")
    assert isinstance(chunked, ChunkedSamples)
    chunks = chunked.chunks.of(np.arange(ROWS), 32)
    start, (features, labels, _) = next(chunks)
    assert (start, len(features), len(labels)) == (0, 32, 32)
    for _ in range(4):  # features and labels of two chunks
        assert uploaded.acquire(timeout=10)
    assert not uploaded.acquire(timeout=0.1)
    np.testing.assert_array_equal(features, data()[0][:32])
    rest = [(start, len(labels)) for start, (_, labels, _) in chunks]
    assert rest == [(start, min(32, ROWS - start)) for start in range(32, ROWS, 32)]
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("streamed", [False, True])
def test_uploads_begin_once_earlier_work_has_ended(streamed, tmp_path):
    """It may still use the memory that a device has freed and given to them; they go beside all other work."""
    calls: list[str] = []

    class Noted(NumpyBackend):
        def memory_budget(self) -> int:
            return BUDGET

        def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
            calls.append("empty")
            return super().empty(shape, dtype)

        def synchronize(self) -> None:
            calls.append("synchronize")

        def upload(self, source: np.ndarray, out: np.ndarray) -> None:
            calls.append("upload")
            super().upload(source, out)

    backend, (features, labels) = Noted(), data()
    np.save(tmp_path / "0.npy", features)
    stored = open_features(tmp_path)
    assert isinstance(stored, ShardedRows)
    rows = StreamedRows(stored, 80, seed=0) if streamed else features
    [network, *_] = networks_of(backend, SGD(), None)
    windowed.placed(backend, rows, labels, "float32").evaluate(network)
    before = calls[: calls.index("upload")]
    assert before[::-1].index("synchronize") < before[::-1].index("empty")


def test_weighted_rows_weigh_the_same_in_chunks(backend, monkeypatch):
    weights = np.random.default_rng(1).uniform(0.1, 1.9, ROWS)
    weights /= weights.mean()
    samples = []
    for budget in (None, BUDGET):
        monkeypatch.setattr(backend, "memory_budget", lambda budget=budget: budget)
        samples.append(Samples.place(backend, *data(), "float32", weights=weights))
    whole, chunked = samples
    assert isinstance(chunked, ChunkedSamples)
    expected, got = networks_of(backend, SGD(), None), networks_of(backend, SGD(), None)
    np.testing.assert_allclose(train(chunked, got), train(whole, expected), rtol=1e-6)
    for one, two in zip(expected, got, strict=True):
        np.testing.assert_array_equal(two.state["weights"], one.state["weights"])
        assert chunked.accuracy(two) == pytest.approx(whole.accuracy(one))
    unweighted = networks_of(backend, SGD(), None)
    train(placed(backend, None, monkeypatch), unweighted)
    assert not np.allclose(unweighted[0].state["weights"], expected[0].state["weights"], rtol=1e-4)


def test_what_fits_by_a_byte_is_placed_whole(monkeypatch):
    size = ROWS * SIZES[0] * 4
    assert not isinstance(placed(NumpyBackend(), size, monkeypatch), ChunkedSamples)
    assert isinstance(placed(NumpyBackend(), size - 1, monkeypatch), ChunkedSamples)


def test_a_batch_that_does_not_fit_names_the_fix(monkeypatch):
    backend = NumpyBackend()
    chunked = placed(backend, BUDGET // 4, monkeypatch)
    with pytest.raises(BackendError, match=r"for 10 rows at a time, not for a batch of 16: choose a smaller --batch"):
        train(chunked, networks_of(backend, SGD(), Tier.ARRAY_CODE))
    with pytest.raises(BackendError, match=r"100 bytes of memory left, too few for rows of 48"):
        placed(backend, 100, monkeypatch)


@pytest.fixture
def figures(tmp_path, capsys) -> Callable[[str], dict[str, float]]:
    """What `fastmlp train` prints, in a folder of that name."""

    def run(name: str) -> dict[str, float]:
        options = ["--dataset", "digits", "--limit", "400", "--epochs", "3", "--backend", "numpy", "--json"]
        assert main(["train", *options, "--out", str(tmp_path / name)]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_the_command_line_sends_chunks_too(figures, monkeypatch):
    expected = figures("whole")
    monkeypatch.setattr(NumpyBackend, "memory_budget", lambda self: 4 * 70 * 512 * 4)
    uploads: list[tuple[int, ...]] = []
    upload = NumpyBackend.upload

    def watched(backend: Backend, source: np.ndarray, out: np.ndarray) -> None:
        uploads.append(source.shape)
        upload(backend, source, out)

    monkeypatch.setattr(NumpyBackend, "upload", watched)
    assert figures("chunked") == pytest.approx(expected, rel=1e-6)
    assert uploads
