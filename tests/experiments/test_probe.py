"""`fastmlp probe`: the protocols, an honest choice, what it leaves behind, and what it refuses."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastmlp
from fastmlp.cli.main import main
from fastmlp.common.errors import DataError, FastMLPError, UsageError
from fastmlp.experiments import candidates, probe
from fastmlp.experiments.protocols import PROTOCOLS, Protocol, open_protocol
from fastmlp.training.member import Blueprint
from fastmlp.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("own_folders")

MACHINE = ["--backend", "numpy", "--threads", "1"]
QUICK = 'learning_rates = [0.01, 0.1]\noptimizer = "momentum"\nepochs = 4\nbatch_size = 32\n'
HERE: dict[str, Any] = {"backend": "numpy", "threads": 1}

Arrays = dict[str, Any]


@pytest.fixture
def rows(rng: np.random.Generator) -> Arrays:
    """Features of three classes, 150 rows to train on and 60 to test on, in files too; quick.toml, a protocol."""
    labels = rng.integers(0, 3, 210)
    X = (3 * np.eye(3, 8)[labels] + rng.normal(size=(210, 8))).astype(np.float32)
    np.savez("own.npz", features=X[:150], labels=labels[:150])
    np.savez("test.npz", features=X[150:], labels=labels[150:])
    Path("quick.toml").write_text(QUICK)
    return {"X": X[:150], "y": labels[:150], "test_X": X[150:], "test_y": labels[150:]}


def probed(*options: str, code: int = 0) -> dict[str, Any]:
    assert (
        main(["probe", "--features", "own.npz", "--protocol", "quick.toml", *MACHINE, "--out", "run", *options]) == code
    )
    return json.loads(Path("run/probe.json").read_text()) if code == 0 else {}


# Protocols.


def test_the_protocols_are_those_of_the_field() -> None:
    dino, clip = PROTOCOLS["sgd-grid"], PROTOCOLS["decay-grid"]
    assert len(dino.learning_rates) == 13
    assert dino.rates(1024) == pytest.approx([4 * rate for rate in dino.learning_rates])  # lr * batch / 256
    rule = dino.recipe.update_rule
    assert (rule.name, dict(rule.constants), rule.weight_decay) == ("momentum", {"momentum": 0.9, "nesterov": 0.0}, 0)
    assert dino.recipe.for_data(50_000, 384).epochs * -(-50_000 // 128) >= 12_500
    assert len(clip.weight_decays) == 97
    np.testing.assert_allclose(clip.weight_decays, np.logspace(-6, 2, 97))
    np.testing.assert_allclose(PROTOCOLS["logistic"].strengths, np.logspace(-6, 5, 45))
    assert (clip.recipe.epochs, clip.recipe.batch_size, clip.rates(64), clip.recipe.standardize) == (
        10,
        64,
        (0.1,),
        "unit",
    )


def test_the_cosine_is_pytorchs() -> None:
    """CosineAnnealingLR step by step to zero: lr / 2 * (1 + cos(pi t / T))."""
    recipe = Recipe(epochs=3, schedule="cosine", learning_rate=0.5)
    rates = np.concatenate([recipe.learning_rates(epoch, 5) for epoch in (1, 2, 3)])
    np.testing.assert_allclose(rates, 0.25 * (1 + np.cos(np.pi * np.arange(15) / 15)))
    warmed = np.concatenate([replace(recipe, warm_up=4).learning_rates(epoch, 5) for epoch in (1, 2, 3)])
    np.testing.assert_allclose(warmed[:5], [0.125, 0.25, 0.375, 0.5, 0.5])
    np.testing.assert_allclose(warmed[4:], 0.25 * (1 + np.cos(np.pi * np.arange(11) / 11)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rate = [0.1]", "unknown key 'learning_rate', did you mean learning_rates"),
        ("[recipe]\nepochs = 1", "unknown key 'recipe'"),
        ('name = "mine"', "unknown key 'name'"),
        ("learning_rates = 0.1", "learning_rates must be a list of numbers, not 0.1"),
        ('learning_rates = ["fast"]', "learning_rates must be a list of numbers"),
        ("learning_rates = [true]", "learning_rates must be a list of numbers"),
        ("learning_rates = []", "learning_rates must be one or more different numbers"),
        ("learning_rates = [0.1, 0.1]", "learning_rates must be one or more different numbers"),
        ("learning_rates = [0.1, -1]", "learning_rates must be positive numbers"),
        ("learning_rates = [nan]", "learning_rates must be positive numbers"),
        ("weight_decays = [-0.1]", "weight_decays must be 0 or more"),
        ("weight_decays = [inf]", "weight_decays must be 0 or more"),
        ("widths = [0.5]", "widths must be a list of whole numbers"),
        ("widths = [-1]", "widths must be 0 or more"),
        ('normalize = "l1"', "normalize must be one of raw, l2, standard, not 'l1'"),
        ("normalize = true", "normalize must be text"),
        ('epochs = "ten"', "epochs must be a whole number"),
        ("epochs = 0", "number of epochs must be a whole number from 1 on"),
        ("epochs = 1.5", "epochs must be a whole number"),
        ("batch_size = 0", "batch size must be a whole number from 1 on"),
        ("rates_for = 0", "rates_for must be 1 or more"),
        ("first_every = 0", "first_every must be 1 or more"),
        ("steps = -1", "steps must be 0 or more"),
        ("warm_up = -1", "warm_up must be"),
        ('optimizer = "adamw"', "optimizer must be one of"),
        ('optimizer = "momentum"\nmomentum = 1.0', "momentum must be a number from 0 to below 1"),
        ("nesterov = 1", "nesterov must be true or false"),
        ('schedule = "linear"', "schedule must be one of"),
        ("learning_rates = [0.1", "is not TOML"),
        ("strengths = [0]", "strengths must be positive numbers"),
        ("strengths = [1.0, 1]", "strengths must be one or more different numbers"),
        ('strengths = ["1"]', "strengths must be a list of numbers"),
        ("strengths = [1]\nepochs = 3", "has no epochs: leave one of them out"),
        ("strengths = [1]\nwidths = [8]", "has no widths: leave one of them out"),
    ],
)
def test_a_protocol_that_is_not_one(text: str, says: str, rows: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(text)
    probed("--protocol", "mine.toml", code=2)
    (said,) = capsys.readouterr().err.splitlines()
    assert "mine.toml" in said
    assert says in said
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--protocol", "sgdgrid"], 2, "no protocol 'sgdgrid', did you mean sgd-grid"),
        (["--protocol", "gone.toml"], 4, "gone.toml does not exist"),
        (["--normalize", "l1"], 2, "normalize must be one of raw, l2, standard"),
        (["--widths", "8,8"], 2, "widths must be one or more different numbers"),
        (["--folds", "1"], 2, "--folds must be 2 or more"),
        (["--folds", "100"], 4, "--folds 100 needs"),
        (["--protocol", "logistic", "--widths", "8"], 2, "strengths are those of linear heads"),
        (["--protocol", "logistic", "--seeds", "2"], 2, "leave --epochs, --batch-size and --seeds out"),
        (["--protocol", "logistic", "--epochs", "2"], 2, "leave --epochs, --batch-size and --seeds out"),
        (["--dataset", "digits"], 2, "--dataset is for images"),
    ],
)
def test_options_that_are_refused(
    options: list[str], code: int, says: str, rows: Arrays, capsys: pytest.CaptureFixture[str]
) -> None:
    probed(*options, code=code)
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().rglob("*.json"))
    assert not Path("run").exists()


# Rows.


def spoilt(X: NDArray[Any], y: NDArray[Any], how: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if how == "NaN":
        X = X.copy()
        X[7, 3] = np.nan
    if how == "constant":
        X = np.ones_like(X)
    if how == "one class":
        y = np.zeros_like(y)
    if how == "shorter":
        y = y[:-1]
    return X, y


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("NaN", "Row 7 of features has NaN"),
        ("constant", "training rows have the same features"),
        ("one class", "There is one class in 150 labels"),
        ("shorter", "150 rows of features, but 149 labels"),
    ],
)
@pytest.mark.parametrize("folds", [None, 3])
def test_rows_that_are_refused(how: str, says: str, folds: int | None, rows: Arrays) -> None:
    X, y = spoilt(rows["X"], rows["y"], how)
    with pytest.raises(DataError, match=says):
        fastmlp.probe(X, y, protocol="quick.toml", folds=folds, out="run", **HERE)
    assert not list(Path().rglob("*.json"))
    assert not Path("run").exists()


def test_a_test_row_of_an_unknown_class(rows: Arrays) -> None:
    with pytest.raises(DataError, match="label '9', but the classes are 0, 1, 2"):
        fastmlp.probe(
            rows["X"], rows["y"], protocol="quick.toml", test_features=rows["test_X"],
            test_labels=np.full(60, 9), **HERE,
        )  # fmt: skip


def test_a_class_of_fewer_rows_than_folds_is_said(rows: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    few = np.where(np.arange(150) < 3, 3, rows["y"])
    fastmlp.probe(
        rows["X"], few, protocol="quick.toml", folds=5, test_features=rows["test_X"], test_labels=rows["test_y"], **HERE
    )
    assert "1 of 4 classes have fewer than 5 rows" in capsys.readouterr().err


def test_rows_without_a_length_are_counted(rows: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    rows["X"][[3, 50]] = 0
    tested = {"test_features": rows["test_X"], "test_labels": rows["test_y"]}
    fastmlp.probe(rows["X"], rows["y"], protocol="quick.toml", normalize="l2", **tested, **HERE)
    assert "2 of 150 training rows are all zeros" in capsys.readouterr().err


# The probe.


def test_what_a_probe_leaves(rows: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    found = probed("--test-features", "test.npz", "--seeds", "2", "--widths", "0,4")
    printed = capsys.readouterr().out
    assert {"schema", "protocol", "grid", "settings", "chosen", "config", "data", "tiers", "seconds"} <= found.keys()
    assert len(found["settings"]) == 4
    assert found["heads"] == 8
    assert found["data"] | {"rows_trained_on": 135, "held_out_rows": 15, "test_rows": 60} == found["data"]
    means = [row["validation_accuracy"]["mean"] for row in found["settings"]]
    assert means == sorted(means, reverse=True)
    chosen = found["chosen"]
    assert chosen["test_accuracy"] > 0.8
    assert chosen["over_seeds"]["test_accuracy"]["values"][0] == chosen["test_accuracy"]
    assert f"test accuracy {chosen['test_accuracy']:.2%}" in printed
    assert "95% interval" in printed
    page = Path("run/report.html").read_text()
    assert "quick" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert Path("run/figures/probe.png").is_file()
    assert not Path("run/heads.json").exists()

    model = ["--model", "run/best", "--backend", "numpy"]
    assert main(["evaluate", *model, "--features", "test.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == chosen["test_accuracy"]
    assert main(["predict", *model, "test.npz"]) == 0


def test_json_is_all_of_stdout(rows: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    found = probed("--json")
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize("normalize", ["raw", "l2", "standard"])
def test_the_best_head_is_used_on_features_as_they_come(normalize: str, rows: Arrays) -> None:
    """It brings rows to its scale itself: in memory, from its folder and as an ONNX graph."""
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = 50 * rows["X"] if normalize == "l2" else rows["X"], rows["y"]
    test = {"test_features": X[100:], "test_labels": y[100:]}
    found = fastmlp.probe(X[:100], y[:100], protocol="quick.toml", normalize=normalize, out="run", **test, **HERE)
    assert (found.model.predict(X[100:]) == y[100:]).mean() == found.accuracy > 0.8
    loaded = fastmlp.load_model("run/best", "numpy")
    np.testing.assert_array_equal(loaded.predict_proba(X), found.model.predict_proba(X))
    assert main(["export", "--model", "run/best", "--out", "head.onnx"]) == 0
    session = onnxruntime.InferenceSession("head.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    given = X.astype(np.float64 if "double" in entry.type else np.float32)
    (probabilities,) = session.run(["probabilities"], {entry.name: given})
    np.testing.assert_allclose(probabilities, loaded.predict_proba(X), atol=1e-5)


def test_unit_length_is_that_of_each_row(rows: Arrays) -> None:
    """Rows times a number are the same rows."""
    same = {"protocol": "quick.toml", "normalize": "l2", **HERE}
    tested = {"test_features": rows["test_X"], "test_labels": rows["test_y"]}
    factors = np.geomspace(0.01, 100, 150)[:, None]
    one, two = (fastmlp.probe(X, rows["y"], **tested, **same) for X in (rows["X"], factors * rows["X"]))
    np.testing.assert_allclose(one.model.parameters.weights[0], two.model.parameters.weights[0], rtol=1e-3, atol=1e-5)


def test_the_chosen_setting_is_the_best_over_folds(rows: Arrays) -> None:
    found = probed("--folds", "3")
    for row in found["settings"]:
        assert [head["fold"] for head in row["heads"]] == [1, 2, 3]
        mean = np.mean([head["validation_accuracy"] for head in row["heads"]])
        assert row["validation_accuracy"]["mean"] == pytest.approx(mean)
    assert found["data"]["held_out_rows"] == 135


def test_the_search_of_weight_decays_finds_the_peak(monkeypatch: pytest.MonkeyPatch, rows: Arrays) -> None:
    """First every eighth of 33, then in halved steps beside the best: what trying all would find, of one peak."""
    decays = tuple(np.geomspace(1e-4, 1, 33).tolist())
    tried: list[float] = []

    def train(_: object, settings: Any, *__: object) -> list[candidates.Known]:
        tried.extend(setting.weight_decay for setting in settings)
        return [
            candidates.Known(one, {"seed": 0, "diverged_in_epoch": None, "train_loss": 0.0, "validation_loss": 0.0,
                                   "validation_accuracy": 1 - abs(decays.index(one.weight_decay) - 21) / 40}, {})
            for one in settings
        ]  # fmt: skip

    class Trained:
        def __init__(self, known: candidates.Known) -> None:
            self.setting, self.tier, self.as_dict = known.setting, {"number": 1}, known.as_dict

    monkeypatch.setattr(probe, "train_candidates", lambda *args: [Trained(one) for one in train(*args)])
    own = replace(Protocol("own"), weight_decays=decays, first_every=8, batch_size=32)
    found = fastmlp.probe(rows["X"], rows["y"], protocol=own, **HERE)
    assert found.results["chosen"]["weight_decay"] == decays[21]
    assert len(tried) == len(set(tried)) == 5 + 2 + 2 + 2


@pytest.mark.parametrize("normalize", ["raw", "standard"])
def test_logistic_regression_is_scikit_learns(normalize: str, rows: Arrays) -> None:
    """The best of the strengths, and its answers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    Path("some.toml").write_text("strengths = [0.001, 0.1, 10]")
    test = {"test_features": rows["test_X"], "test_labels": rows["test_y"]}
    found = fastmlp.probe(
        rows["X"], rows["y"], protocol="some.toml", normalize=normalize, dtype="float64", out="run", **test, **HERE
    )
    strength = found.results["chosen"]["strength"]
    assert all(head["converged"] and head["rounds"] > 0 for setting in found.settings for head in setting["heads"])
    scaler = StandardScaler() if normalize == "standard" else FunctionTransformer()
    theirs = make_pipeline(scaler, LogisticRegression(C=strength, tol=1e-10, max_iter=10_000))
    theirs.fit(rows["X"].astype(np.float64), rows["y"])
    np.testing.assert_allclose(found.model.predict_proba(rows["X"]), theirs.predict_proba(rows["X"]), atol=1e-5)
    assert found.accuracy == theirs.score(rows["test_X"], rows["test_y"])
    assert json.loads(Path("run/best/config.json").read_text())["recipe"] == {
        "optimizer": "logistic", "strength": strength, "standardize": {"raw": "none", "standard": "each"}[normalize],
    }  # fmt: skip
    assert str(found).splitlines()[0].split()[:4] == ["hidden", "units", "strength", "C"]


def test_a_probe_of_stored_features(capsys: pytest.CaptureFixture[str]) -> None:
    Path("quick.toml").write_text(QUICK)
    images = ["--dataset", "synthetic:200", "--extractor", "pixels", "--on", "augmented"]
    assert main(["probe", *images, *MACHINE, "--protocol", "quick.toml", "--epochs", "1", "--out", "run"]) == 0
    found = json.loads(Path("run/probe.json").read_text())
    assert found["data"] | {"rows_trained_on": 360, "held_out_rows": 20, "test_rows": 40} == found["data"]
    assert main(["evaluate", "--model", "run/best", "--backend", "numpy"]) == 0


# Interruption.


def test_an_interrupted_probe_resumes_to_the_same_results(rows: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--widths", "0,4", "--folds", "2"]
    whole = probed(*options)
    best = Path("run/best/model.safetensors").read_bytes()
    trained = interrupted_after(3, options, monkeypatch)
    probed(*options, "--seed", "1", "--resume", code=2)
    again = probed(*options, "--resume")
    assert len(trained) == 4
    assert {**again, "seconds": {}} == {**whole, "seconds": {}}
    assert Path("run/best/model.safetensors").read_bytes() == best


def test_heads_that_trained_in_another_way_are_trained_again(rows: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's ways differ in the last bits, and were measured again since, here for the second width."""
    options = ["--widths", "0,4", "--folds", "2"]
    whole = probed(*options)
    trained = interrupted_after(3, options, monkeypatch)
    Path("run/best/checkpoint.safetensors").write_text("of heads that are forgotten")
    monkeypatch.setattr(Blueprint, "way_on", lambda self, _: "fused steps" if len(self.sizes) > 2 else "")
    again = probed(*options, "--resume")
    assert len(trained) == 5  # the third again, and the fourth
    assert {**again, "seconds": {}} == {**whole, "seconds": {}}


def interrupted_after(batches: int, options: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Interrupt a probe once so many batches of heads are trained; returns those of this and of later probes."""
    trained: list[Any] = []

    def counted(*args: Any) -> Any:
        trained.append(args)
        return candidates.train_candidates(*args)

    def interrupted(*args: Any) -> Any:
        if len(trained) == batches:
            raise KeyboardInterrupt
        return counted(*args)

    with monkeypatch.context() as patched:
        patched.setattr(probe, "train_candidates", interrupted)
        probed(*options, code=130)
    monkeypatch.setattr(probe, "train_candidates", counted)
    return trained


def test_a_probe_of_which_all_diverge_fails(rows: Arrays, capsys: pytest.CaptureFixture[str]) -> None:
    Path("high.toml").write_text('learning_rates = [1.0]\nweight_decays = [1e30]\nepochs = 4\noptimizer = "sgd"\n')
    probed("--protocol", "high.toml", code=1)
    assert "smaller learning_rates" in capsys.readouterr().err
    assert not Path("run/probe.json").exists()


# From Python.


def test_threads_may_probe_at_the_same_time(rows: Arrays) -> None:
    def own(_: int) -> NDArray[Any]:
        return fastmlp.probe(rows["X"], rows["y"], protocol="quick.toml", **HERE).model.parameters.weights[0]

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(own, range(2))
    np.testing.assert_array_equal(one, two)


def test_words_as_labels_and_the_table(rows: Arrays) -> None:
    words = np.array(["ant", "bee", "cat"])[rows["y"]]
    found = fastmlp.probe(rows["X"], words, protocol=open_protocol("quick.toml"), **HERE)
    assert set(found.model.predict(rows["X"])) == {"ant", "bee", "cat"}
    assert str(found).splitlines()[0].split()[:2] == ["hidden", "units"]
    assert found.settings[0]["learning_rate"] == found.results["chosen"]["learning_rate"]
    with pytest.raises(UsageError, match="test_features and test_labels together"):
        fastmlp.probe(rows["X"], words, test_features=rows["test_X"])
    with pytest.raises(FastMLPError, match="no protocol 'mine'"):
        fastmlp.probe(rows["X"], words, protocol="mine")
