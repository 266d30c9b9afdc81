"""The race of a GPU's ways to train, on stand-ins for these: who may win, how they are timed, and the command."""

import json
from functools import cached_property, partial

import numpy as np
import pytest

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.bench import race
from fastmlp.bench.race import ROUNDS, WARM_UP, Network, measure
from fastmlp.cli.main import main
from fastmlp.common.errors import UsageError
from fastmlp.kernels.cuda.layout import UNMEASURED
from fastmlp.network.optimizers import make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.trainer import Trainer
from fastmlp.testing.emulated import EmulatedBackend

STEPS = 3
NETWORK = Network((12, 8, 3), 8, make_optimizer("momentum"))

pytestmark = pytest.mark.usefixtures("own_folders")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Way(NumpyBackend):
    """NumPy, whose epochs take so many seconds each, one after another, on a clock."""

    def __init__(self, way, clock, *seconds):
        super().__init__()
        self.way, self.clock, self.seconds = way, clock, list(seconds)

    def epoch_runner(self, batch_size, kernels):
        run = super().epoch_runner(batch_size, kernels)

        def timed(*arguments):
            self.clock.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
            run(*arguments)

        return timed


class Wrong(Way):
    """Its hidden units are off by a ten-thousandth."""

    @cached_property
    def network_ops(self):
        ops = super().network_ops
        for name in ("bias_relu", "dense_relu"):
            setattr(ops, name, partial(self._off, getattr(ops, name)))
        return ops

    @staticmethod
    def _off(op, *arrays):
        op(*arrays)
        arrays[-1][...] *= 1 + 1e-4


class Broken(Way):
    def empty(self, shape, dtype):
        raise RuntimeError("an illegal memory access")


class Fused(Way):
    """Trains all networks in one call of a constant time."""

    def fused_epoch_refusal(self, kind):
        return ""

    def fused_epoch(self, tasks, features, labels):
        self.clock.now += self.seconds[0]
        return [(1.0, 1)] * len(tasks)


@pytest.fixture
def backend(can_emulate):
    return EmulatedBackend()


def let_race(monkeypatch, *ways):
    monkeypatch.setattr(EmulatedBackend, "rivals", lambda self, kind: iter(ways))


def names(found):
    return [one["way"] for one in found]


def test_the_fastest_that_is_right_is_chosen(backend, monkeypatch, capsys):
    clock = Clock()
    ways = [Way("slow", clock, 0.3), Wrong("wrong", clock, 0.1), Way("fast", clock, 0.2), Broken("broken", clock, 0.1)]
    let_race(monkeypatch, *ways)
    found = measure(backend, NETWORK, clock, (1, 8), STEPS)
    assert names(found[1]) == ["fast", "slow", "wrong", "broken"]
    assert [one.get("us") for one in found[1]] == [pytest.approx(1e6 * 0.2 / STEPS), pytest.approx(1e5), None, None]
    assert found[1][2]["wrong"].startswith("AssertionError: numpy, wrong (12-8-3 21 rows in batches of 8 by momentum")
    assert found[1][3]["wrong"] == "RuntimeError: an illegal memory access"
    assert capsys.readouterr().err.count("It cannot be chosen: ") == 2
    chosen = Trainer(initial_parameters(NETWORK.sizes), EmulatedBackend(), 8, optimizer=NETWORK.optimizer)
    assert chosen.backend is ways[2]


def test_epochs_that_compile_do_not_count_and_a_slow_one_does_not_decide(backend, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(race, "_assert_right", lambda *_: None)
    at_first = [50.0] * WARM_UP
    let_race(monkeypatch, Way("fast", clock, *at_first, 0.1, 0.1, 9.0, 0.1), Way("slow", clock, 0.2))
    assert ROUNDS > 4
    assert measure(backend, NETWORK, clock, (1,), STEPS)[1][0] == {"way": "fast", "us": round(1e5 / STEPS, 3)}


def test_networks_together_share_an_epoch_where_it_is_fused(backend, monkeypatch):
    """Steps come one after another, so eight networks take eight times as long."""
    clock = Clock()
    monkeypatch.setattr(race, "_assert_right", lambda *_: None)
    let_race(monkeypatch, Fused("fused", clock, 0.4), Way("steps", clock, 0.1))
    found = measure(backend, NETWORK, clock, (1, 2, 8), STEPS)
    assert {count: names(of_count)[0] for count, of_count in found.items()} == {1: "steps", 2: "steps", 8: "fused"}
    assert found[8][0]["us"] == pytest.approx(1e6 * 0.4 / (8 * STEPS), abs=1e-3)


def test_a_race_changes_no_network_of_anyone_else(backend, monkeypatch):
    clock = Clock()
    let_race(monkeypatch, Way("one", clock, 0.1))
    mine = initial_parameters(NETWORK.sizes)
    before = [weight.copy() for weight in mine.weights]
    measure(backend, NETWORK, clock, (1,), STEPS)
    for weight, old in zip(mine.weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_every_way_of_the_device_takes_part(backend):
    ways = [rival.way for rival in backend.rivals(Network((512, 64, 10), 64, make_optimizer("sgd")).kind())]
    assert {f"layout {layout}" for layout in UNMEASURED} < set(ways)
    assert {"layout one block a network", "fused steps", "steps op by op"} < set(ways)
    wide = [rival.way for rival in backend.rivals(Network((768, 1000), 64, make_optimizer("sgd")).kind())]
    assert wide == ["fused steps", "steps op by op"]


def test_backends_that_choose_otherwise_are_refused():
    with pytest.raises(UsageError, match="Backend numpy needs no measurement"):
        measure(NumpyBackend(), NETWORK)


def test_the_command(backend, monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr("fastmlp.cli.doctor.open_backend", lambda _: backend)
    monkeypatch.setattr(race, "_assert_right", lambda *_: None)
    let_race(monkeypatch, Fused("first", clock, 0.1), Fused("second", clock, 0.2))
    command = ["backends", "--measure", "cupy", "--network", "6,4,3", "--batch-size", "4", "--optimizer", "adam"]
    assert main([*command, "--quiet"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| us a step and network, of so many together | 1 | 2 | 8 | 16 | 32 | 64 | 132 |"
    assert {row.split("|")[1].strip() for row in rows} == {"first", "second"}
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["64"][1]["way"]
    assert "6-4-3 float32, batches of 4, adam, 64 together" in backend.ranking.path.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--network", "6,4,3"], "give --measure NAME too"),
        (["--measure", "numpy"], "Backend numpy needs no measurement to choose its kernels: --measure is for cupy."),
        (["--measure", "numpy", "--network", "6"], "--network takes inputs, any hidden widths, and classes"),
        (["--measure", "numpy", "--network", "none"], "--network takes inputs, any hidden widths, and classes"),
        (["--measure", "numpy", "--optimizer", "none"], "optimizer"),
        (["--measure", "nunpy"], "nunpy"),
    ],
)
def test_what_cannot_be_measured_is_told(arguments, told, capsys):
    assert main(["backends", *arguments]) == 2
    assert told in capsys.readouterr().err
