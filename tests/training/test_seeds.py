"""`--seeds`: each network as if trained alone, stopping and resuming, the statistics in results, claims and report."""

import json
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.cli.main import main
from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.statistics import summarize
from fastmlp.experiments.config import Config
from fastmlp.models import storage
from fastmlp.report import check_claims, table1_text
from fastmlp.training import run
from fastmlp.training.checkpoint import ModelFolders, SeedsFile
from fastmlp.training.loop import DivergedError, train
from fastmlp.training.member import Blueprint
from fastmlp.training.recipe import Recipe
from fastmlp.training.run import Run
from fastmlp.training.samples import Samples

COMMAND = ["reproduce", "--dataset", "synthetic:200", "--extractor", "pixels", "--backend", "numpy", "--threads", "1"]
COMMAND += ["--epochs", "3", "--out", "run"]
SIZES = (12, 8, 3)
RECIPE = Recipe(5, 16, 0.1, "constant", optimizer="adam", weight_decay=0.1, init="he")
FILE = Path("seeds.safetensors")


pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, SIZES[-1], 100)
    features = rng.standard_normal((100, SIZES[0])) + 4 * np.eye(SIZES[-1], SIZES[0])[labels]
    return Samples.place(open_backend("numpy"), features, labels, "float32")


def blueprint(seed):
    return Blueprint(SIZES, RECIPE, seed, "float32")


def begun(seeds=(1, 2, 3), fingerprint="a", resume=False):
    checkpoint = SeedsFile(FILE, {"of": fingerprint})
    return Run(checkpoint.begin([blueprint(seed) for seed in seeds], open_backend("numpy"), resume), checkpoint)


def train_three(samples, seeds=(1, 2, 3), fingerprint="a", resume=False):
    run = begun(seeds, fingerprint, resume)
    run.train(samples, "train")
    return [member.network for member in run.members]


def assert_same(one, two):
    for a, b in zip((*one.weights, *one.biases), (*two.weights, *two.biases), strict=True):
        np.testing.assert_array_equal(a, b)


# Training them.


def test_each_is_as_if_trained_alone(samples):
    for seed, together in zip((1, 2, 3), train_three(samples), strict=True):
        alone = blueprint(seed).network(open_backend("numpy"))
        train(alone, samples, RECIPE, seed)
        assert_same(together.parameters, alone.parameters)


def killed_after(epochs, monkeypatch):
    """From now on, KeyboardInterrupt after that many epochs, each of which was saved."""

    class Bar:
        done = 0

        def advance(self, *_):
            self.done += 1
            if self.done == epochs:
                raise KeyboardInterrupt

    @contextmanager
    def progress(*_):
        yield Bar()

    monkeypatch.setattr(run, "progress", progress)
    monkeypatch.setattr(run, "SECONDS_BETWEEN_CHECKPOINTS", 0)


@pytest.mark.parametrize("epochs", [1, 4])
def test_stopping_and_resuming_ends_with_the_same_bytes(samples, epochs, monkeypatch, capsys):
    train_three(samples)
    whole = FILE.read_bytes()
    with monkeypatch.context() as patched:
        killed_after(epochs, patched)
        with pytest.raises(KeyboardInterrupt):
            train_three(samples)
    assert FILE.read_bytes() != whole
    train_three(samples, resume=True)
    assert f"after epoch {epochs}." in capsys.readouterr().err
    assert FILE.read_bytes() == whole


class Ranked(NumpyBackend):
    """NumPy, with a measurement that has chosen a way, or none."""

    def __init__(self, measured):
        super().__init__()
        self.measured = measured

    def fastest(self, kind):
        return self.by_way(self.measured, kind)

    def by_way(self, way, kind):
        chosen = copy(self)
        chosen.way = way
        return chosen


@pytest.mark.parametrize("measured_first", ["", "fused steps"])
@pytest.mark.parametrize("measured_then", ["", "op by op"])
@pytest.mark.parametrize("kind", ["seeds", "folders"])
def test_a_training_goes_on_in_the_way_in_which_it_began(kind, measured_first, measured_then, monkeypatch):
    """Whatever was measured since; ways differ in the last bits."""

    def begun(measured, resume):
        checkpoint = SeedsFile(FILE, {}) if kind == "seeds" else ModelFolders({Path("a"): {}, Path("b"): {}})
        monkeypatch.setattr("fastmlp.network.tiers.missing_kernels", lambda *_: [])  # of tier 2, which has ways
        members = checkpoint.begin([blueprint(seed) for seed in (1, 2)], Ranked(measured), resume)
        return Run(members, checkpoint)

    first = begun(measured_first, resume=False)
    first._save()
    again = begun(measured_then, resume=True)
    assert [member.network.backend.way for member in again.members] == [measured_first] * 2
    assert again.members[0].way == ({"way": measured_first} if measured_first else {})
    again._save()
    assert begun(measured_then, resume=True).members[0].way == first.members[0].way
    assert begun(measured_then, resume=False).members[0].network.backend.way == measured_then
    assert blueprint(1).way_on(Ranked(measured_then)) == measured_then


def test_without_resume_nothing_of_an_earlier_run_is_left(samples, monkeypatch):
    train_three(samples)
    whole = FILE.read_bytes()
    train_three(samples)
    assert FILE.read_bytes() == whole
    monkeypatch.setattr(run, "train_together", lambda *_, **__: None)  # as if killed before the first save
    train_three(samples)
    assert not FILE.exists()


def test_other_seeds_start_anew(samples, capsys):
    train_three(samples)
    longer = train_three(samples, (1, 2, 3, 4), resume=True)
    assert "other seeds" in capsys.readouterr().err
    for together, again in zip(longer, train_three(samples, (1, 2, 3, 4)), strict=True):
        assert_same(together.parameters, again.parameters)


def test_a_file_of_another_experiment_is_refused(samples):
    train_three(samples)
    with pytest.raises(UsageError, match="another experiment"):
        train_three(samples, fingerprint="b", resume=True)


def drop_a_seed(about, state):
    return about, {name: array for name, array in state.items() if not name.startswith("2.")}


def drop_a_history(about, state):
    return {**about, "histories": about["histories"][:2]}, state


def shorten_a_history(about, state):
    short = {name: values[:1] for name, values in about["histories"][1].items()}
    return {**about, "histories": [about["histories"][0], short, about["histories"][2]]}, state


@pytest.mark.parametrize("spoil", [drop_a_seed, drop_a_history, shorten_a_history])
def test_a_file_that_does_not_hold_what_it_says(samples, spoil):
    train_three(samples)
    parameters, about, state = storage.load(FILE)
    about, state = spoil(about, state)
    storage.save(parameters, about, FILE, state)
    with pytest.raises(DataError, match="damaged"):
        train_three(samples, resume=True)


def test_a_seed_that_diverges_is_named(samples):
    run = begun((1, 2))
    spoilt = run.members[1].network
    state = spoilt.state
    state["weights"][0] = np.nan
    spoilt.state = state
    with pytest.raises(DivergedError, match="seed 2 diverged in epoch 1"):
        run.train(samples, "train")


@pytest.mark.parametrize("options", [{"seeds": 0}, {"seed": 2**32 - 2, "seeds": 3}])
def test_impossible_numbers_of_seeds(options):
    with pytest.raises(UsageError, match="--seeds must be"):
        Config(**options)


# The command.


@pytest.fixture
def reproduced(capsys):
    """results.json, and the page, of three seeds."""
    assert main([*COMMAND, "--seeds", "3"]) == 0
    return (
        json.loads(Path("run/results.json").read_text()),
        Path("run/report.html").read_text(),
        capsys.readouterr().out,
    )


def test_every_cell_of_table_1_has_its_statistics(reproduced):
    results, page, printed = reproduced
    assert results["over_seeds"]["seeds"] == [0, 1, 2]
    for name, row in results["table1"].items():
        for cell, value in row.items():
            summary = results["over_seeds"]["table1"][name][cell]
            assert summary["values"][0] == value
            assert summary == summarize(summary["values"])
    loss = results["over_seeds"]["table1"]["augmented"]["test_loss"]
    assert len(set(loss["values"])) == 3
    for text in (page, printed):
        for label in ("mean of 3 seeds", "standard deviation", "95% interval"):
            assert text.count(label) >= 2
        assert f"{loss['low']:.3f} to {loss['high']:.3f}" in text
    assert "Over seeds 0 to 2: initial weights and batch orders" in page
    assert "Mean lead over 3 seeds" in page


def test_the_first_seed_is_the_run_without_seeds_and_another_is_its_own(reproduced):
    results, _, _ = reproduced
    weights = Path("run/original/model.safetensors").read_bytes()
    for seed in (0, 2):
        assert main([*COMMAND, "--seed", str(seed), "--out", "alone"]) == 0
        alone = json.loads(Path("alone/results.json").read_text())
        assert "over_seeds" not in alone
        for cell, value in alone["table1"]["original"].items():  # the augmented copies of another seed are others
            assert results["over_seeds"]["table1"]["original"][cell]["values"][seed] == value
        assert (Path("alone/original/model.safetensors").read_bytes() == weights) == (seed == 0)


def test_resuming_may_add_seeds(reproduced, capsys):
    first, _, _ = reproduced
    for count in (3, 4):
        assert main([*COMMAND, "--seeds", str(count), "--resume"]) == 0
        log = capsys.readouterr().err
        assert ("other seeds" in log) == (count == 4)
        results = json.loads(Path("run/results.json").read_text())
        for name, cells in results["over_seeds"]["table1"].items():
            for cell, summary in cells.items():
                assert summary["values"][:3] == first["over_seeds"]["table1"][name][cell]["values"]


# The claims.


def results_with(original, augmented):
    """Results whose accuracies, and with them the losses, are these over the seeds."""
    table = {}
    for name, accuracies in (("original", original), ("augmented", augmented)):
        cells = {f"{split}_accuracy": accuracies for split in ("train", "test")}
        cells |= {f"{split}_loss": [1 - value for value in accuracies] for split in ("train", "test")}
        table[name] = {cell: summarize(values) for cell, values in cells.items()}
    return {
        "table1": {
            name: {cell: summary["values"][0] for cell, summary in cells.items()} for name, cells in table.items()
        },
        "over_seeds": {"seeds": [0, 1, 2], "table1": table},
        "config": {"extractor": "patches"},
        "data": {"test_images": 10_000},
        "history": {},
    }


@pytest.mark.parametrize(
    ("original", "augmented", "fits_better", "generalises_better"),
    [
        ([0.70, 0.71, 0.72], [0.75, 0.76, 0.775], False, True),
        ([0.75, 0.76, 0.775], [0.70, 0.71, 0.72], True, False),
        ([0.70, 0.76, 0.72], [0.75, 0.71, 0.74], None, None),  # the first seed alone would say False, True
        ([0.70, 0.71, 0.72], [0.70, 0.71, 0.72], False, False),  # equal is not better
        ([0.70, 0.71, float("nan")], [0.75, 0.76, 0.775], False, False),
    ],
)
def test_claims_are_judged_by_intervals(original, augmented, fits_better, generalises_better):
    claims = check_claims(results_with(original, augmented))
    assert [claim["holds"] for claim in claims[:2]] == [fits_better, generalises_better]
    assert ("more --seeds may decide" in claims[1]["numbers"]) == (generalises_better is None)


def test_a_claims_numbers_are_the_paired_leads():
    numbers = check_claims(results_with([0.70, 0.71, 0.72], [0.75, 0.76, 0.775]))[1]["numbers"]
    lead = summarize([0.05, 0.05, 0.055])
    assert (
        f"test accuracy +5.17 points (95% interval {100 * lead['low']:+.2f} to {100 * lead['high']:+.2f} points)"
        in numbers
    )
    assert "10,000 images, is 0.46" in numbers


def test_the_table_without_seeds_has_no_such_rows():
    results = results_with([0.7, 0.7, 0.7], [0.7, 0.7, 0.7])
    assert "95% interval" in table1_text(results)
    del results["over_seeds"]
    assert "95% interval" not in table1_text(results)
