"""The fused epoch's parts: register tiles, the team and its pace, and whole epochs of one and of several networks.

Its parity with the other tiers, epoch by epoch and run by run, is in test_parity.py.
"""

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest

from fastmlp.common.errors import UsageError
from fastmlp.kernels import EpochTask
from fastmlp.kernels.cpu import fused_epoch as module
from fastmlp.kernels.cpu.exponential import exponential
from fastmlp.kernels.cpu.fused_epoch import fused_epoch, parts_of
from fastmlp.kernels.cpu.jit import jit
from fastmlp.kernels.cpu.pace import CREW, ELAPSED, FIRST_PAUSE, ITEMS, LONGEST_PAUSE, WAITED, decide, new_pace
from fastmlp.kernels.cpu.team import all_done, claim, finish, new_team
from fastmlp.kernels.cpu.tile import LINE, make_product
from fastmlp.kernels.cpu.workers import Workers
from fastmlp.network import reference
from fastmlp.network.optimizers import OPTIMIZERS, make_optimizer
from fastmlp.testing.tolerances import STEP

ROWS = 150


@pytest.fixture(autouse=True)
def any_work_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOPS_PER_PART", 1)


def make_task(
    sizes: tuple[int, int, int], batch_size: int = 32, dtype: str = "float32", seed: int = 0, optimizer: str = "sgd"
) -> EpochTask:
    rng = np.random.default_rng(seed)
    inputs, hidden, classes = sizes
    shapes = ((inputs, hidden), (hidden,), (hidden, classes), (classes,))
    chosen = make_optimizer(optimizer, weight_decay=0.1)
    w1, b1, w2, b2 = ((rng.standard_normal(shape) / np.sqrt(shape[0])).astype(dtype) for shape in shapes)
    values = [(w1, b1), (w2, b2)]
    moments = [[(np.zeros_like(w), np.zeros_like(b)) for w, b in values] for _ in chosen.moments]
    rates = np.linspace(1, 0.2, -(-ROWS // batch_size)) * (1e-3 if chosen.moments else 0.1)
    order, coefficients = rng.permutation(ROWS), chosen.coefficients(rates, 1)
    return EpochTask([values, *moments], chosen, order, batch_size, coefficients)


def make_data(sizes: tuple[int, int, int], dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(99)
    return rng.standard_normal((ROWS, sizes[0])).astype(dtype), rng.integers(0, sizes[2], ROWS)


def exactly(task: EpochTask, features: np.ndarray, labels: np.ndarray) -> tuple[list[list[np.ndarray]], float, int]:
    """The slots after the epoch, the loss and the hits, by the reference's gradients and the optimizer, in float64."""
    slots = [[array.astype("f8") for array in chain(*slot)] for slot in task.slots]
    total, hits = 0.0, 0
    for number, (kept, *coefficients) in enumerate(task.coefficients):
        rows = task.order[number * task.batch_size : (number + 1) * task.batch_size]
        x, y = features[rows].astype("f8"), labels[rows]
        w1, b1, w2, b2 = slots[0]
        hits += int(((np.maximum(x @ w1 + b1, 0) @ w2 + b2).argmax(axis=1) == y).sum())
        loss, gradients, _ = reference.step(x, y, (w1, b1, w2, b2), 0)
        total += loss * len(rows)
        for k, gradient in enumerate(gradients):
            change, moments = OPTIMIZERS[task.rule.name]().step(
                np, gradient, [slot[k] for slot in slots[1:]], coefficients
            )
            values = slots[0][k] * (kept if gradient.ndim == 2 else 1) - change
            for slot, array in zip(slots, (values, *moments), strict=True):
                slot[k] = array
    return slots, total, hits


def error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# Tiles.


@pytest.mark.parametrize(("register_bytes", "dtype"), [(64, "f4"), (64, "f8"), (32, "f4"), (16, "f4"), (16, "f8")])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("along_rows", [True, False])
def test_product_in_registers_of_any_width(along_rows: bool, adds: bool, register_bytes: int, dtype: str) -> None:
    product = make_product(along_rows, register_bytes)
    rng = np.random.default_rng(0)
    line = LINE // np.dtype(dtype).itemsize
    for count, depth in [(1, 1), (2, 15), (3, 16), (7, 17), (8, 33), (15, 40), (31, 7), (5, 0)]:
        rows, columns = (count + 2, depth) if along_rows else (depth, count + 2)
        a, b = rng.standard_normal((rows + 3, columns)).astype(dtype), rng.standard_normal((depth, line)).astype(dtype)
        c = np.full((count + 1, line + 4), 7, dtype)
        order = rng.permutation(rows + 3)[:rows]  # rows of a in any order
        product(a.reshape(-1), order * columns, 1, count, depth, b.reshape(-1), 0, line, c.reshape(-1), 3, line + 4,
                order * columns, adds)  # fmt: skip
        factor = a[order][1 : 1 + count] if along_rows else a[order][:, 1 : 1 + count].T
        got = c.reshape(-1)[3 : 3 + count * (line + 4)].reshape(count, -1)[:, :line]
        exact = factor.astype("f8") @ b.astype("f8") + (7 if adds else 0)
        assert np.abs(got - exact).max() <= STEP["float64" if dtype == "f8" else "float32"] * max(
            1, np.abs(exact).max()
        )
        assert (c.reshape(-1)[:3] == 7).all()
        assert (c.reshape(-1)[3 + count * (line + 4) :] == 7).all()


# exp.


def test_exponential_is_exact_to_two_units_in_the_last_place() -> None:
    @jit
    def apply(x, out):
        for i in range(len(x)):
            out[i] = exponential(x[i])

    x = np.concatenate([np.linspace(-87, 0, 100_001), [-0.0, -1e-30]]).astype("f4")
    got = np.empty_like(x)
    apply(x, got)
    exact = np.exp(x.astype("f8"))
    assert (np.abs(got - exact) <= 2 * np.spacing(exact.astype("f4"))).all()
    edges = np.array([np.nan, -np.inf, -1000], "f4")
    got = np.empty_like(edges)
    apply(edges, got)
    assert np.isnan(got[0])
    assert (got[1:] < 2e-38).all()


# The team.


def test_an_item_is_claimed_once_and_in_order() -> None:
    counters = new_team(2)
    assert not claim(counters, 0, 1)
    assert claim(counters, 0, 0)
    assert not claim(counters, 0, 0)
    finish(counters, 0)
    assert not all_done(counters, 2, 0)
    assert claim(counters, 1, 0)
    finish(counters, 1)
    assert all_done(counters, 2, 0)
    assert not all_done(counters, 2, 1)
    assert claim(counters, 0, 1)


def test_of_many_threads_one_gets_an_item() -> None:
    counters = new_team(1)
    with ThreadPoolExecutor(4) as pool:
        for item in range(500):
            assert sum(pool.map(lambda _, item=item: claim(counters, 0, item), range(4))) == 1


def late(call: Callable[[], bool]) -> bool:
    time.sleep(0.02)
    return call()


# Which threads come, when, and how many the pace lets work at first.
COMPANIES: dict[str, tuple[Callable[[list[Callable[[], bool]]], list[Callable[[], bool]]], int]] = {
    "all": (lambda calls: calls, 3),
    "the last first": (lambda calls: calls[::-1], 3),
    "only the first": (lambda calls: calls[:1], 3),
    "only the second": (lambda calls: calls[1:2], 3),
    "only the last two": (lambda calls: calls[1:], 3),
    "the first late": (lambda calls: [partial(late, calls[0]), *calls[1:]], 3),
    "all but the first late": (lambda calls: [calls[0], *(partial(late, call) for call in calls[1:])], 3),
    "the first to work alone": (lambda calls: calls, 1),
    "two to work, the second late": (lambda calls: [calls[0], partial(late, calls[1]), calls[2]], 2),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("company", COMPANIES)
def test_bits_do_not_depend_on_who_works(company: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (20, 50, 3)
    data = make_data(sizes)
    expected, task = (make_task(sizes, 8, optimizer=optimizer) for _ in range(2))
    [result] = fused_epoch([expected], *data, threads=3)
    choose, crew = COMPANIES[company]
    monkeypatch.setattr(module, "pace_of", lambda *_: new_pace(crew))
    training = module._Training(task, *data, most=3)
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda call: call(), choose(training.calls())))
    assert training.finish() == result
    for got, wanted in zip(task.slots, expected.slots, strict=True):
        assert all(map(np.array_equal, chain(*got), chain(*wanted)))


@pytest.mark.parametrize("crew", [1, 2])
@pytest.mark.parametrize("home", [0, 1])
def test_a_dismissed_team_does_no_more(home: int, crew: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pace_of", lambda *_: new_pace(crew))
    sizes = (20, 40, 3)
    task = make_task(sizes)
    before = task.slots[0][0][0].copy()
    training = module._Training(task, *make_data(sizes), most=2)
    training.dismiss()
    assert not training.calls()[home]()
    training.finish()
    assert np.array_equal(task.slots[0][0][0], before)


def window(pace: np.ndarray, each: int, waiting: float) -> int:
    """Let a window pass, an item taking that long with that share of waiting; how many threads are to work then."""
    pace[ITEMS], pace[ELAPSED], pace[WAITED] = 10, 10 * each, int(10 * each * waiting)
    decide(pace, 4)
    return int(pace[CREW])


def test_threads_go_on_as_long_as_they_wait_little() -> None:
    pace = new_pace(4)
    assert [window(pace, each, 0.1) for each in (100, 5000, 100)] == [4, 4, 4]


def test_fewer_threads_work_while_that_is_faster() -> None:
    pace = new_pace(4)
    assert window(pace, 4000, 0.9) == 2  # a try
    assert window(pace, 3000, 0.9) == 2  # kept
    assert [window(pace, 3000, 0.9) for _ in range(FIRST_PAUSE)] == [2] * (FIRST_PAUSE - 1) + [1]
    assert window(pace, 500, 0.0) == 1
    assert [window(pace, 500, 0.0) for _ in range(FIRST_PAUSE)] == [1] * (FIRST_PAUSE - 1) + [2]
    assert window(pace, 100, 0.0) == 2  # the machine is idle again


def test_tries_in_vain_become_rare() -> None:
    pace = new_pace(1)
    tries = [k for k in range(2000) if window(pace, 100 if pace[CREW] == 1 else 900, 0.0) > 1]
    pauses = np.diff(tries) - 1
    assert pauses.tolist() == [min(FIRST_PAUSE * 2**k, LONGEST_PAUSE) for k in range(1, len(tries))]


def test_a_thread_that_cannot_start_leaves_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneThreadOnly(ThreadPoolExecutor):
        calls = 0

        def submit(self, *arguments):  # type: ignore[override]
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("can't start new thread")
            return super().submit(*arguments)

    monkeypatch.setattr("fastmlp.kernels.cpu.workers.ThreadPoolExecutor", OneThreadOnly)
    monkeypatch.setattr(module, "workers", Workers)
    sizes = (20, 40, 3)
    with pytest.raises(RuntimeError, match="can't start"):
        fused_epoch([make_task(sizes)], *make_data(sizes), threads=2)


def test_teams_that_share_the_workers_all_finish() -> None:
    sizes = (20, 40, 3)
    data, alone = make_data(sizes), make_task(sizes)
    fused_epoch([alone], *data, threads=2)
    tasks = [make_task(sizes) for _ in range(200)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda task: fused_epoch([task], *data, threads=2), tasks))
    assert all(np.array_equal(task.slots[0][0][0], alone.slots[0][0][0]) for task in tasks)


def test_epochs_start_no_threads() -> None:
    sizes = (20, 40, 3)
    data = make_data(sizes)
    fused_epoch([make_task(sizes)], *data, threads=2)
    before = {thread.ident for thread in threading.enumerate()}
    for _ in range(5):
        fused_epoch([make_task(sizes)], *data, threads=2)
    assert {thread.ident for thread in threading.enumerate()} == before


def test_ctrl_c_ends_a_long_epoch_soon() -> None:
    sizes = (512, 512, 10)
    task = make_task(sizes)
    steps = 200_000  # most of a minute of work
    order = np.tile(task.order, steps * 32 // ROWS + 1)[: steps * 32]
    endless = replace(task, order=order, coefficients=np.ones((steps, 2)))
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)  # SIGINT itself may be ignored here
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            fused_epoch([endless], *make_data(sizes), threads=2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    [(loss, _)] = fused_epoch([task], *make_data(sizes), threads=2)  # the workers are free again
    assert np.isfinite(loss)


# Epochs.

SHAPES = [(512, 64, 10), (7, 5, 3), (33, 17, 2), (1, 1, 2), (20, 100, 130), (16, 16, 16)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("sizes", SHAPES, ids=lambda sizes: "-".join(map(str, sizes)))
def test_an_epoch_is_by_the_book(sizes: tuple[int, int, int], optimizer: str, dtype: str) -> None:
    features, labels = make_data(sizes, dtype)
    for batch_size, threads in [(32, 1), (32, 2), (64, 3), (1, 2), (ROWS + 9, 2)]:
        task = make_task(sizes, batch_size, dtype, optimizer=optimizer)
        slots, loss, hits = exactly(task, features, labels)
        [(got_loss, got_hits)] = fused_epoch([task], features, labels, threads)
        # Adam divides by the root of a mean square, where that is small: it feels roundings more
        limit = STEP[dtype] * (10 if optimizer == "adam" else 1)
        assert abs(got_loss - loss) <= limit * loss
        assert got_hits == hits
        for got, expected in zip(task.slots, slots, strict=True):
            assert max(map(error, chain(*got), expected)) <= limit


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_networks_together_end_as_each_alone(optimizer: str) -> None:
    sizes = (50, 40, 7)
    data = make_data(sizes)
    together, alone = ([make_task(sizes, seed=seed, optimizer=optimizer) for seed in range(5)] for _ in range(2))
    results = fused_epoch(together, *data, threads=2)
    assert results == [result for task in alone for result in fused_epoch([task], *data, threads=1)]
    for one, other in zip(together, alone, strict=True):
        for got, expected in zip(one.slots, other.slots, strict=True):
            assert all(map(np.array_equal, chain(*got), chain(*expected)))


def test_small_steps_are_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [parts_of(make_task(sizes), 2) for sizes in ((64, 64, 10), (512, 64, 10))] == [1, 2]


def test_features_may_be_read_only_or_mapped(tmp_path) -> None:
    sizes = (20, 16, 3)
    features, labels = make_data(sizes)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    one, other = make_task(sizes), make_task(sizes)
    assert fused_epoch([one], features, labels, 1) == fused_epoch([other], mapped, labels, 1)


@pytest.mark.parametrize("bad", ["label", "negative label", "row"])
def test_what_is_not_there_is_refused(bad: str) -> None:
    sizes = (20, 16, 3)
    features, labels = make_data(sizes)
    task = make_task(sizes)
    if bad == "row":
        task.order[5] = ROWS
    else:
        labels[7] = 3 if bad == "label" else -1
    with pytest.raises(UsageError, match="rows 0" if bad == "row" else "Labels must lie in 0 .. 2"):
        fused_epoch([task], features, labels, 1)
