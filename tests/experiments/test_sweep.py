"""`fastmlp sweep`: every candidate as if trained alone, an honest choice, and what it leaves behind."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastmlp.cli.main import main
from fastmlp.common.errors import UsageError
from fastmlp.common.statistics import summarize
from fastmlp.experiments import candidates
from fastmlp.experiments.candidates import Candidate, Setting
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import ImageFeatures, StoredFeatures, hold_out_tenth
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.experiments.sweep import Grid
from fastmlp.models.storage import load
from fastmlp.network.tiers import Tier
from fastmlp.report.sweep import draw_sweep, table_text
from fastmlp.testing.compare import assert_close
from fastmlp.testing.tolerances import EPOCH
from fastmlp.training import loop
from fastmlp.training.history import History
from fastmlp.training.member import Blueprint, Member
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples

DATA: dict[str, Any] = {"dataset": "synthetic:200", "extractor": "pixels", "threads": 2, "epochs": 2, "seeds": 2}
OPTIONS = [
    "--dataset",
    "synthetic:200",
    "--extractor",
    "pixels",
    "--backend",
    "numpy",
    "--threads",
    "1",
    "--epochs",
    "3",
]
PAPER = ["--preset", "paper"]
GRID = [
    "--learning-rates",
    "0.001,0.003",
    "--weight-decays",
    "0,0.1",
    "--widths",
    "8,16",
    "--seeds",
    "2",
    "--out",
    "run",
]


pytestmark = pytest.mark.usefixtures("own_folders")


def swept(*options, code=0):
    assert main(["sweep", *OPTIONS, *PAPER, *GRID, *options]) == code


def models_of(on="original", **options):
    """The model that a sweep on these images chooses for."""
    config = Config(**{**DATA, "backend": "numpy", **options})
    machine = Machine(config.backend, config.threads)
    return Models(config, machine, {on: ImageFeatures(config, machine).of(on)})


def trial_of(models, on="original"):
    return hold_out_tenth(models.feature_sets[on], models.config.seed)


def results():
    return json.loads(Path("run/sweep.json").read_text())


# The candidates.


def test_each_candidate_is_as_if_trained_alone(backend, few_pixels, monkeypatch):
    """To the bit where a backend takes step by step; a fused epoch splits a lone network between its threads."""
    monkeypatch.setattr("fastmlp.experiments.machine.open_backend", lambda *_: backend)
    slow = backend.name == "emulated"
    models = models_of("augmented", **({"limit": 20, "epochs": 1} if slow else {}))
    trial = trial_of(models, "augmented")
    kept, held_out = (
        Samples.place(backend, rows.features, rows.labels, "float32") for rows in (trial.kept, trial.held_out)
    )
    settings = Grid((0.001, 0.003), (0.1,) if slow else (0.0, 0.1), (8,) if slow else (8, 32)).settings()
    trained_together = candidates.train_candidates(models, settings, trial)
    trained = [(candidate.setting, candidate.member.blueprint.seed) for candidate in trained_together]
    assert trained == [(setting, seed) for setting in settings for seed in (0, 1)]
    for candidate in trained_together:
        own, blueprint = candidate.member.history, candidate.member.blueprint
        network = blueprint.network(backend)
        history = loop.train(network, kept, blueprint.recipe, blueprint.seed)
        loss, _ = held_out.evaluate(network)
        if network.tier.tier < Tier.FUSED_EPOCH:
            assert (own, candidate.validation[0]) == (history, loss)
        losses = np.array([*own.train_loss, candidate.validation[0]])
        assert_close(f"{candidate.setting}", losses, np.array([*history.train_loss, loss]), EPOCH["float32"])


# What is held out.


@pytest.mark.parametrize("on", ["original", "augmented"])
def test_held_out_images_and_their_copies_are_not_trained_on(on):
    trial = trial_of(models_of(on), on)
    kept, held_out = trial.kept, trial.held_out
    assert len(held_out.labels) == 20
    assert len(kept.labels) == (180 if on == "original" else 360)
    stores = models_of("augmented").feature_sets["augmented"].parts
    rows = {row.tobytes(): index for index, row in enumerate(stores[0].features)}
    held = {rows[row.tobytes()] for row in held_out.features}  # of the originals, so none is an augmented copy
    assert len(held) == 20
    for index in held:
        for store in stores:
            assert not (kept.features == store.features[index]).all(axis=1).any()
    np.testing.assert_array_equal(held_out.labels, stores[0].labels[sorted(held)])


def test_another_seed_holds_out_other_images():
    held = [trial_of(models_of(seed=seed)).held_out for seed in (0, 0, 1)]
    np.testing.assert_array_equal(held[0].features, held[1].features)
    assert not np.array_equal(held[0].features, held[2].features)


# The choice.


NO_NETWORK: Any = None  # the choice looks at none


def candidates_of(setting, accuracies, losses=None, diverged=()):
    group = []
    for seed, accuracy in enumerate(accuracies):
        nan = seed in diverged
        loss = 0.5 if losses is None else losses[seed]
        history = History(train_loss=[1.0, math.nan if nan else 0.7])
        member = Member(Blueprint((), Recipe(), seed, "float32"), NO_NETWORK, history)
        group.append(Candidate(setting, member, (math.nan,) * 2 if nan else (loss, accuracy)))
    return group


LOW, MIDDLE, HIGH = (Setting(rate, 0.0, 64) for rate in (0.001, 0.01, 0.1))


def ranking(*groups):
    return [row["learning_rate"] for row in candidates.ranked([candidate for group in groups for candidate in group])]


def test_the_best_mean_is_chosen_not_the_best_candidate():
    groups = ((LOW, [0.68, 0.69]), (HIGH, [0.8, 0.6]), (MIDDLE, [0.72, 0.71]))
    best = [setting.learning_rate for setting in (MIDDLE, HIGH, LOW)]
    assert ranking(*(candidates_of(*group) for group in groups)) == best


def test_equal_accuracies_are_told_apart_by_the_loss():
    assert ranking(candidates_of(LOW, [0.7], [0.9]), candidates_of(HIGH, [0.7], [0.8])) == [
        HIGH.learning_rate,
        LOW.learning_rate,
    ]


def test_a_setting_with_a_diverged_candidate_is_never_before_one_without():
    (first, second, third) = candidates.ranked(
        [
            *candidates_of(HIGH, [0.9, 0.9], diverged=(0, 1)),
            *candidates_of(MIDDLE, [0.9, 0.9], diverged=(1,)),
            *candidates_of(LOW, [0.1] * 2),
        ]
    )
    assert [row["diverged"] for row in (first, second, third)] == [0, 1, 2]
    assert "validation_accuracy" not in second
    assert second["heads"][0]["validation_accuracy"] == 0.9
    assert second["heads"][1] == {"seed": 1, "diverged_in_epoch": 2}


def test_figures_are_over_the_seeds():
    (row,) = candidates.ranked(candidates_of(LOW, [0.7, 0.72, 0.8], [0.5, 0.4, 0.6]))
    assert row["validation_accuracy"] == summarize([0.7, 0.72, 0.8])
    assert row["validation_loss"] == summarize([0.5, 0.4, 0.6])


# The command.


def test_what_a_sweep_leaves(capsys):
    swept("--on", "augmented")
    printed = capsys.readouterr()
    found = results()
    assert {"schema", "settings", "chosen", "grid", "config", "data", "tiers", "environment", "seconds"} <= set(found)
    assert len(found["settings"]) == 8
    assert found["heads"] == 16
    assert found["heads_per_second"] == pytest.approx(16 / found["seconds"]["sweep"], rel=0.05)
    assert found["data"] | {"rows_trained_on": 360, "held_out_rows": 20, "test_rows": 40} == found["data"]
    means = [row["validation_accuracy"]["mean"] for row in found["settings"]]
    assert means == sorted(means, reverse=True)
    best = found["settings"][0]
    assert Setting.of(found["chosen"]) == Setting.of(best)
    lines = printed.out.splitlines()
    assert len([line for line in lines if line.endswith(f"{best['validation_loss']['mean']:.4f}")]) >= 1
    assert f"test accuracy {found['chosen']['test_accuracy']:.2%}" in printed.out
    assert "Tier 1" in printed.err
    with Image.open("run/sweep.png") as image:
        assert image.width == 1843
    assert not list(Path("run").rglob(".*"))


def assert_same_model(*folders):
    best, alone = (load(folder / "model.safetensors") for folder in folders)
    for one, two in zip(best.parameters.weights, alone.parameters.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert best.about["fingerprint"] == alone.about["fingerprint"]


def test_the_best_is_the_model_that_train_writes(capsys):
    swept()
    chosen = results()["chosen"]
    options = [f"--{name}={chosen[name.replace('-', '_')]}" for name in ("learning-rate", "weight-decay")]
    options += [f"--hidden-layer-sizes={chosen['width']}", "--out", "alone"]
    assert main(["train", *OPTIONS, *PAPER, *options]) == 0
    assert_same_model(Path("run/best"), Path("alone/original"))

    capsys.readouterr()
    assert main(["evaluate", "--model", "run/best", "--backend", "numpy", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] == chosen["test_accuracy"]
    Image.new("RGB", (32, 32)).save("a.png")
    assert main(["predict", "--model", "run/best", "--backend", "numpy", "a.png"]) == 0


@pytest.fixture
def features(rng):
    """Files of features: own.npz of three classes, 150 rows, and test.npz, 60 more."""
    labels = rng.integers(0, 3, 210)
    X = (4 * np.eye(3, 8)[labels] + rng.normal(size=(210, 8))).astype(np.float32)
    words = np.array(["ant", "bee", "cat"])[labels]
    np.savez("own.npz", features=X[:150], labels=words[:150])
    np.savez("test.npz", features=X[150:], labels=words[150:])


@pytest.mark.parametrize("tested", [[], ["--test-features", "test.npz"]])
def test_a_sweep_of_ones_own_features_leaves_the_head_that_train_writes(tested, features, capsys):
    machine = ["--backend", "numpy", "--threads", "1"]
    of = ["--features", "own.npz", *tested, "--preset", "fast", "--epochs", "20", *machine]
    rates = ["--learning-rates", "0.001,0.01", "--weight-decays", "0.1", "--widths", "8,16", "--seeds", "2"]
    assert main(["sweep", *of, *rates]) == 0
    assert "held-out rows" in capsys.readouterr().out
    folder = Path("runs/features-own")
    found = json.loads((folder / "sweep.json").read_text())
    train, test = (150, 60) if tested else (135, 15)
    held = round(train / 10)
    rows = {"rows_trained_on": train - held, "held_out_rows": held, "test_rows": test}
    assert found["data"] | rows == found["data"]

    chosen = found["chosen"]
    own = [f"--learning-rate={chosen['learning_rate']}", f"--hidden-layer-sizes={chosen['width']}"]
    assert main(["train", *of, *own, "--weight-decay=0.1", "--out", "alone"]) == 0
    assert_same_model(folder / "best", Path("alone/head"))

    capsys.readouterr()
    model = ["--model", str(folder / "best"), "--backend", "numpy"]
    assert main(["evaluate", *model, "--features", "test.npz", "--json"]) == 0
    if tested:
        assert json.loads(capsys.readouterr().out)["accuracy"] == chosen["test_accuracy"] > 0.8
    assert main(["predict", *model, "test.npz"]) == 0


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--features", "own.npz", "--dataset", "digits"], 2, "--dataset is for images"),
        (["--features", "own.npz", "--on", "augmented"], 2, "leave --on out"),
        (["--features", "gone.npz"], 4, "gone.npz does not exist"),
        (["--features", "own.npz", "--limit", "9"], 4, "9 are too few"),
        (["--labels", "y.npy"], 2, "go with --features"),
    ],
)
def test_features_that_a_sweep_refuses(options, code, says, features, capsys):
    assert main(["sweep", *options, "--backend", "numpy", "--threads", "1"]) == code
    assert says in capsys.readouterr().err
    assert not Path("runs").exists()


def test_no_test_image_is_looked_at_before_the_choice(monkeypatch):
    def forbidden(_):
        raise AssertionError("the test images were loaded")

    models = models_of()
    monkeypatch.setattr(StoredFeatures, "test", property(forbidden))
    monkeypatch.setattr(StoredFeatures, "sources", property(forbidden))  # which names the test features
    candidates.ranked(candidates.train_candidates(models, Grid((0.001,), (0.0,), (8,)).settings(), trial_of(models)))
    with pytest.raises(AssertionError, match="the test images were loaded"):
        candidates.train_chosen(models, "original", Setting(0.001, 0.0, 8))


def test_json_is_all_of_stdout(capsys):
    swept("--json")
    assert json.loads(capsys.readouterr().out) == results()


def test_digits(capsys):
    """All of the grid by default, on real images."""
    options = ["--extractor", "pixels", "--limit", "400", "--backend", "numba", "--epochs", "5", "--batch-size", "16"]
    options += ["--out", "run"]
    assert main(["sweep", *PAPER, *options]) == 0
    found = results()
    assert found["grid"] == {"learning_rates": [0.001, 0.003, 0.01, 0.03, 0.1], "weight_decays": [0.0], "widths": [64]}
    assert found["config"]["seeds"] == [0, 1, 2]
    assert found["tiers"]["64"]["number"] == 3
    assert found["chosen"]["test_accuracy"] > 0.8
    assert "largest: try larger" in capsys.readouterr().out


# Divergence.


def test_diverged_candidates_are_shown_and_the_rest_is_chosen_from(capsys):
    swept("--learning-rates", "0.001,1e30", "--widths", "8")
    found = results()
    assert found["chosen"]["learning_rate"] == 0.001
    assert [row["diverged"] for row in found["settings"]] == [0, 0, 2, 2]
    assert found["settings"][-1]["heads"][0]["diverged_in_epoch"] in (1, 2)
    assert capsys.readouterr().out.count("2 of 2 diverged") == 2


def test_a_width_of_which_all_diverge_does_not_end_the_sweep(monkeypatch):
    def train_together(networks, *args, **kwargs):
        rest = loop.train_together
        if networks[0].sizes[1] == 16:
            raise loop.DivergedError("all diverged")
        return rest(networks, *args, **kwargs)

    monkeypatch.setattr(candidates, "train_together", train_together)
    swept()
    assert [row["diverged"] for row in results()["settings"]] == [0] * 4 + [2] * 4
    assert results()["settings"][-1]["heads"][0] == {"seed": 0, "diverged_in_epoch": 1}


def test_a_sweep_of_which_all_diverge_fails(capsys):
    swept("--learning-rates", "1e30", code=1)
    assert "lower the --learning-rates" in capsys.readouterr().err
    assert not Path("run/sweep.json").exists()


# Interruption and mistakes.


def test_an_interrupt_leaves_nothing_half_written(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    swept()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    with monkeypatch.context() as patched:
        patched.setattr(candidates, "train_together", interrupted)
        swept("--seed", "1", code=130)
        assert capsys.readouterr().err.endswith("Interrupted.\n")
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    monkeypatch.setattr("fastmlp.training.run.train_together", interrupted)
    swept("--seed", "1", code=130)
    assert not Path("run/sweep.json").exists()  # it tells of another model than the one to come
    assert not Path("run/best/model.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--learning-rates", "0.1,-1"], "--learning-rates must be"),
        (["--weight-decays", "-0.1"], "--weight-decays must be"),
        (["--learning-rates", "nan"], "--learning-rates must be"),
        (["--learning-rates", ","], "--learning-rates must be one or more"),
        (["--widths", "8,8"], "--widths must be one or more different"),
        (["--limit", "9"], "9 are too few, give 10"),
        (["--preset", "quick"], "no preset 'quick'"),
    ],
)
def test_mistakes(options, says, capsys):
    swept(*options, code=2)
    assert says in capsys.readouterr().err
    assert not Path("run/sweep.json").exists()


@pytest.mark.parametrize(
    "options", [["--widths", "0"], ["--learning-rates", "fast"], ["--seeds", "0"], ["--on", "both"]]
)
def test_impossible_options_are_refused_by_the_parser(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", *options])
    assert stopped.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_defaults_surround_the_preset():
    grid = Grid.around(Recipe(learning_rate=0.003, weight_decay=0.2))
    assert grid == Grid((0.0003, 0.0009, 0.003, 0.009, 0.03), (0.0, 0.2), (64,))
    with pytest.raises(UsageError, match="--widths"):
        Grid.around(Recipe(), widths=())


# The chart.


def drawn_of(settings, **grid):
    rows = candidates.ranked([candidate for group in settings for candidate in group])
    chosen = Setting.of(rows[0]).as_dict() | {"test_accuracy": 0.7, "test_loss": 0.9}
    return {
        "settings": rows, "grid": grid, "chosen": chosen, "data": {"held_out_rows": 100}, "config": {"seeds": [0, 1]},
    }  # fmt: skip


def test_the_chart_has_a_panel_per_width_and_a_cross_for_a_diverged_candidate():
    settings = [
        candidates_of(Setting(rate, decay, width), [0.7, 0.71], diverged=(0,) if rate > 0.01 else ())
        for width in (8, 16, 32, 64)
        for decay in (0.0, 0.1)
        for rate in (0.001, 0.1)
    ]
    grid = {"widths": [8, 16, 32, 64], "weight_decays": [0.0, 0.1], "learning_rates": [0.001, 0.1]}
    figure = draw_sweep(drawn_of(settings, **grid))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [f"{width} hidden units" for width in (8, 16, 32, 64)]
    for axes in panels:
        assert len([line for line in axes.lines if line.get_marker() == "x"]) == 2
    words = [text.get_text() for axes in panels for text in axes.texts]
    assert sorted(words) == ["chosen: 70.5%", "weight decay 0", "weight decay 0.1"]


def test_one_seed_and_one_setting_are_drawn_and_told_without_spread():
    found = drawn_of([candidates_of(LOW, [0.7])], widths=[64], weight_decays=[0.0], learning_rates=[0.001])
    found["config"]["seeds"] = [0]
    assert len(draw_sweep(found).axes) == 1
    text = table_text(found)
    assert "Means over 1 seed;" in text
    assert "standard error of 4.58%" in text  # sqrt(0.7 * 0.3 / 100)
    assert "try" not in text
