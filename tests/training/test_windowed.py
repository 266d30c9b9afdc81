"""Rows that are too many for memory: the plan of their windows, and the same numbers as if they all lay in memory."""

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp.backends import Backend
from fastmlp.common.errors import UsageError
from fastmlp.features.sharded_rows import Shard, ShardedRows
from fastmlp.features.shards import open_features
from fastmlp.features.streamed import StreamedRows, window_rows
from fastmlp.network.optimizers import make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.scaling import Moments
from fastmlp.network.trainer import Trainer
from fastmlp.training import windowed
from fastmlp.training.loop import train_together
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples
from fastmlp.training.windowed import Slot, WindowedSamples, placed
from fastmlp.training.windows import plan, plan_in_order, rows_of

SIZES = (12, 8, 5)
ROWS, BATCH, WINDOW = 182, 16, 50
Stream = Callable[..., StreamedRows]


# The plan.

BORDERS = st.lists(st.integers(1, 9), min_size=1, max_size=60).map(lambda sizes: np.cumsum([0, *sizes]))


@given(BORDERS, st.integers(9, 200), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_every_row_is_in_one_window_of_a_plan(borders: np.ndarray, most: int, seed: int, epoch: int) -> None:
    windows = plan(seed, epoch, borders, most)
    rows = [rows_of(blocks, borders) for blocks in windows]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(borders[-1]))
    assert all(0 < len(window) <= most for window in rows)
    assert all((np.diff(window) > 0).all() for window in rows)
    assert len(windows) <= 2 + 2 * borders[-1] // most
    again = plan(seed, epoch, borders, most)
    assert [window.tolist() for window in again] == [window.tolist() for window in windows]


def test_a_plan_depends_on_seed_and_epoch() -> None:
    borders = np.arange(0, 1001, 10)
    plans = [np.concatenate(plan(seed, epoch, borders, 100)) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert len({tuple(one.tolist()) for one in plans}) == 3
    np.testing.assert_array_equal(np.concatenate(plan_in_order(borders, 100)), np.arange(100))


def test_windows_are_about_equally_large() -> None:
    borders = np.arange(0, 1011, 10)
    sizes = [len(rows_of(blocks, borders)) for blocks in plan(0, 1, borders, 500)]
    assert sizes == [340, 340, 330]


# Streamed rows.


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, SIZES[-1], ROWS))
    return (rng.standard_normal((ROWS, SIZES[0])) + labels[:, None]).astype(np.float32), labels


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """The rows in five shards, of which a few are held at a time."""

    def stream(most: int = WINDOW, seed: int = 0, rows: np.ndarray | None = None) -> StreamedRows:
        for number, part in enumerate(np.array_split(data()[0], 5)):
            np.save(tmp_path / f"{number}.npy", part)
        features = open_features(tmp_path)
        assert isinstance(features, ShardedRows)
        return StreamedRows(features, most, seed, rows)

    return stream


def networks_of(backend: Backend, optimizer: str, weighted: bool, seeds: int) -> list[Trainer]:
    first = [initial_parameters(SIZES, "he", seed, "float32") for seed in range(seeds)]
    return [
        Trainer(parameters, backend, BATCH, optimizer=make_optimizer(optimizer), weighted=weighted)
        for parameters in first
    ]


def in_memory(samples: WindowedSamples) -> tuple[Samples, Callable[..., np.ndarray]]:
    """The same rows on the device, and the whole order of an epoch."""
    features, labels = data()
    rows = np.arange(ROWS) if samples.features.rows is None else samples.features.rows
    weights = None if samples.weights is None else np.asarray(samples.weights)
    whole = Samples.place(samples.backend, features[rows], labels[rows], "float32", samples.scaling, weights)

    def order(seed: int, epoch: int) -> np.ndarray:
        windowed = samples.order(seed, epoch, len(samples), shuffle=True)
        pairs = zip(windowed.rows(), windowed.shuffled(), strict=True)
        return np.concatenate([window[places] for window, places in pairs])

    return whole, order


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("seeds", [[0, 0, 0], [0, 1, 2]])
def test_windows_train_as_if_all_rows_lay_in_memory(
    backend: Backend, stream: Stream, optimizer: str, weighted: bool, seeds: list[int]
) -> None:
    kept = np.delete(np.arange(ROWS), [0, 7, 90, 91, 181])
    features = stream(rows=kept)
    weights = 0.5 + np.arange(len(kept)) % 3 if weighted else None
    scaling = Moments.of(features[:]).scaling(each=True)
    samples = placed(backend, features, data()[1][kept], "float32", scaling, weights)
    assert isinstance(samples, WindowedSamples)
    whole, whole_order = in_memory(samples)
    expected, got = (networks_of(backend, optimizer, weighted, len(seeds)) for _ in range(2))
    rates = [np.linspace(0.1, 0.05, -(-len(kept) // BATCH))] * len(seeds)
    for epoch in (1, 2):
        drawn = {seed: samples.order(seed, epoch, len(kept), shuffle=True) for seed in seeds}
        orders = {seed: whole_order(seed, epoch) for seed in seeds}
        figures = samples.train_epoch(got, [drawn[seed] for seed in seeds], rates)
        wanted = whole.train_epoch(expected, [orders[seed] for seed in seeds], rates)
        np.testing.assert_allclose(figures, wanted, rtol=1e-6)
    for one, two in zip(expected, got, strict=True):
        for name, value in one.state.items():
            np.testing.assert_array_equal(two.state[name], value, err_msg=name)
    np.testing.assert_allclose(samples.evaluate_each(got), whole.evaluate_each(expected), rtol=1e-6)
    assert samples.evaluate(got[0]) == samples.evaluate_each(got)[0]
    logits, wanted_logits = (np.concatenate(list(rows.logit_batches(got[0]))) for rows in (samples, whole))
    np.testing.assert_allclose(logits, wanted_logits, rtol=1e-5, atol=1e-6)


def test_one_window_is_the_full_shuffle_to_the_last_bit(backend: Backend, stream: Stream) -> None:
    recipe = Recipe(epochs=3, batch_size=BATCH, learning_rate=0.1)
    states, histories = [], []
    for features in (data()[0], stream(ROWS)):
        network = networks_of(backend, "sgd", weighted=False, seeds=1)
        samples = placed(backend, features, data()[1], "float32")
        histories.append(train_together(network, samples, [recipe], [4])[0])
        states.append(network[0].state)
    assert histories[0] == histories[1]
    np.testing.assert_equal(states[1], states[0])


@pytest.mark.parametrize("heads", [1, 6])
def test_an_epoch_reads_each_row_once_whatever_the_number_of_heads(
    backend: Backend, stream: Stream, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[np.ndarray] = []
    real = Shard.read

    def counting(shard: Shard, rows: np.ndarray, *into: Any) -> None:
        read.append(shard.start + rows)
        real(shard, rows, *into)

    samples = placed(backend, stream(), data()[1], "float32")
    recipe = Recipe(epochs=1, batch_size=BATCH, learning_rate=0.1)
    monkeypatch.setattr(Shard, "read", counting)
    train_together(networks_of(backend, "sgd", False, heads), samples, [recipe] * heads, list(range(heads)))
    np.testing.assert_array_equal(np.sort(np.concatenate(read)), np.arange(ROWS))
    assert max(map(len, read)) <= WINDOW


@pytest.mark.parametrize(("held", "reads"), [(WINDOW // 4, 1), (WINDOW // 4 + 1, 3)])
def test_rows_to_look_at_are_kept_where_they_are_few(
    backend: Backend, stream: Stream, held: int, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = placed(backend, stream(rows=np.arange(0, 3 * held, 3)), data()[1][: 3 * held : 3], "float32")
    network, real = networks_of(backend, "sgd", weighted=False, seeds=1)[0], Shard.read
    read: list[int] = []

    def counting(shard: Shard, rows: np.ndarray, *into: Any) -> None:
        read.append(len(rows))
        real(shard, rows, *into)

    monkeypatch.setattr(Shard, "read", counting)
    assert len({samples.evaluate(network) for _ in range(3)}) == 1
    assert sum(read) == reads * held


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("from_disk", [0, 10**9])
def test_a_thread_reads_ahead_unless_computing_takes_all_cores_and_the_page_cache_has_the_rows(
    backend: Backend, stream: Stream, monkeypatch: pytest.MonkeyPatch, from_disk: int, in_place: bool
) -> None:
    read, beside, real = count(step=from_disk), list[bool](), Slot.fill

    def noting(slot: Slot, *arguments: Any) -> Slot:
        beside.append(current_thread() is not main_thread())
        return real(slot, *arguments)

    monkeypatch.setattr(Slot, "fill", noting)
    monkeypatch.setattr(windowed, "_bytes_from_disk", lambda: next(read))
    monkeypatch.setattr(StreamedRows, "in_place", in_place)
    samples = placed(backend, stream(), data()[1], "float32")
    whole, whole_order = in_memory(samples)  # type: ignore[arg-type]
    got, expected = (networks_of(backend, "sgd", weighted=False, seeds=1) for _ in range(2))
    rates = [np.full(-(-ROWS // BATCH), 0.1)]
    samples.train_epoch(got, [samples.order(0, 1, ROWS, shuffle=True)], rates)
    whole.train_epoch(expected, [whole_order(0, 1)], rates)
    np.testing.assert_equal(got[0].state, expected[0].state)
    ahead = not backend.fills_host or not in_place or from_disk > 0
    assert beside == [False, *[ahead] * (len(beside) - 1)]
    assert len(beside) > 2


def test_rows_in_order_are_read_in_windows_too(backend: Backend, stream: Stream) -> None:
    recipe = Recipe(epochs=2, batch_size=BATCH, learning_rate=0.1)
    states = []
    for features in (data()[0], stream()):
        network = networks_of(backend, "sgd", weighted=False, seeds=1)
        samples = placed(backend, features, data()[1], "float32")
        train_together(network, samples, [recipe], [0], shuffle=False)
        states.append(network[0].state)
    np.testing.assert_equal(states[1], states[0])


# What fits.


def test_how_many_rows_a_window_has() -> None:
    assert window_rows(10**9, 10_000, 512, 4) is None
    rows = window_rows(10**9, 5_000_000, 512, 4)
    assert rows is not None
    assert 3 * rows * 512 * 4 + 5_000_000 * 96 <= 10**9 < 3 * (rows + 1) * 512 * 4 + 5_000_000 * 96
    with pytest.raises(UsageError, match=r"--memory is too little .* give 579KB or more"):
        window_rows(578_000, 5_000, 512, 4)
    assert window_rows(579_000, 5_000, 512, 4) is not None
    assert window_rows(10**9, 5_000_000, 512, 4, seeds=32) == (10**9 - 5_000_000 * 96) // (3 * (2048 + 31 * 8))
    assert window_rows(10**9, 5_000_000, 512, 4, part=9_000) == rows - 12_000
    with pytest.raises(UsageError, match="or save them in files or row groups of fewer than 5,000"):
        window_rows(20_000_000, 5_000, 512, 4, part=5_000)


@pytest.mark.parametrize(("part", "least"), [(0, 0), (500, 500), (500, 0), (700, 500), (5_000, 5_000)])
@pytest.mark.parametrize("seeds", [1, 32])
def test_as_much_memory_as_an_error_names_is_enough(part: int, least: int, seeds: int) -> None:
    """A window holds the largest part of a file that is only read whole."""
    with pytest.raises(UsageError, match="--memory is too little") as refused:
        window_rows(10_000, 5_000, 512, 4, seeds, part, least)
    enough = 1000 * int(re.search(r"([\d,]+)KB", str(refused.value))[1].replace(",", ""))  # type: ignore[index]
    rows = window_rows(enough, 5_000, 512, 4, seeds, part, least)
    assert rows is None or rows >= max(16, least)
    with pytest.raises(UsageError):
        window_rows(enough - 1000, 5_000, 512, 4, seeds, part, least)
