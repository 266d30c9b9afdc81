"""Training on features that are larger than --memory: the same bytes however it is interrupted, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.cli.main import main
from fastmlp.common.files import read_safetensors
from fastmlp.features.shard_files import write_shard
from fastmlp.features.sharded_rows import Shard, ShardedRows
from fastmlp.features.shards import open_table
from fastmlp.models.predictor import load_model
from tests.experiments.reads import Reads

ROWS, WIDTH = 600, 8
MEMORY = "90KB"  # of which a window of 337 rows is a third, beside what is held of every row
MACHINE = ["--backend", "numpy", "--threads", "1"]
Run = Callable[..., str]


@pytest.fixture(autouse=True)
def without_report(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.report.head.write", lambda *_: None)  # which takes a second


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's stderr; code: what it ends with."""

    def run(*options: str, code: int = 0) -> str:
        assert main([*options, *MACHINE]) == code
        return capsys.readouterr().err

    return run


@pytest.fixture(autouse=True)
def shards(own_folders: None, rng: np.random.Generator) -> None:
    """Shards, sorted by class, and the same rows in files of their own."""
    y = np.sort(rng.integers(0, 3, ROWS))
    X = (4 * np.eye(3)[y].repeat(3, axis=1)[:, :WIDTH] + rng.normal(size=(ROWS, WIDTH))).astype(np.float32)
    Path("shards").mkdir()
    for number, rows in enumerate(np.array_split(np.arange(ROWS), 7)):
        write_shard(Path("shards"), number, X[rows], y[rows])
    np.save("X.npy", X)
    np.save("y.npy", y)


def train(run: Run, out: str, *options: str, code: int = 0) -> str:
    given = ["--features", "shards", "--epochs", "6", "--memory", MEMORY, "--out", out]
    return run("train", *given, *options, code=code)


def weights(out: str) -> bytes:
    return (Path(out) / "head/model.safetensors").read_bytes()


def results(out: str) -> dict[str, Any]:
    return json.loads((Path(out) / "head/results.json").read_text())


def test_windows_learn_and_are_told(run: Run) -> None:
    said = train(run, "a")
    assert "600 rows are more than fit into --memory: trained on in windows of 337." in said
    assert results("a")["data"]["window_rows"] == 337
    assert results("a")["config"]["memory"] == 90_000
    assert results("a")["data"]["rows"] == {"training": 540, "test": 60}
    assert results("a")["figures"]["test_accuracy"] > 0.95


def test_a_single_file_is_read_in_windows_too(run: Run) -> None:
    train(run, "a")
    run("train", "--features", "X.npy", "--labels", "y.npy", "--epochs", "6", "--memory", MEMORY, "--out", "b")
    assert results("a")["figures"]["test_accuracy"] == pytest.approx(results("b")["figures"]["test_accuracy"], abs=0.05)


@pytest.mark.parametrize("preset", ["tabular", "fast", "paper"])
def test_what_fits_is_trained_on_as_ever(run: Run, preset: str) -> None:
    run("train", "--features", "shards", "--epochs", "3", "--preset", preset, "--out", "a")
    said = run("train", "--features", "shards", "--epochs", "3", "--preset", preset, "--memory", "1GB", "--out", "b")
    assert "windows" not in said
    assert results("b")["data"]["window_rows"] is None
    assert weights("a") == weights("b")


@pytest.mark.parametrize("options", [(), ("--early-stopping",), ("--class-weight", "balanced")])
def test_interrupted_anywhere_and_resumed_it_ends_with_the_same_bytes(
    run: Run, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    reads = Reads(monkeypatch)
    train(run, "unbroken", *options)
    for number, moment in enumerate(rng.integers(0, reads.count, 5).tolist()):
        reads.interrupt(moment)
        train(run, f"broken-{number}", *options, code=130)
        reads.go_on()
        train(run, f"broken-{number}", *options, "--resume")
        assert weights(f"broken-{number}") == weights("unbroken"), moment


def interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run into the folder a, ended after an epoch or two."""
    epochs = iter([None, None])

    def stop(*_: object) -> None:
        if next(epochs, "over") == "over":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("fastmlp.training.run.Run._check_finite", stop)
        train(run, "a", code=130)


def test_a_shard_that_changed_since_the_run_began_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(run, monkeypatch)
    X, y = np.load("X.npy"), np.load("y.npy")
    rows = np.array_split(np.arange(ROWS), 7)[4]
    write_shard(Path("shards"), 4, X[rows] + 1, y[rows])
    said = train(run, "a", "--resume", code=4)
    assert "The shard shard-00004.safetensors has changed since the run in a/head began" in said
    write_shard(Path("shards"), 4, X[rows], y[rows])
    train(run, "a", "--resume")


def test_another_memory_is_another_experiment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(run, monkeypatch)
    assert "is of another experiment" in train(run, "a", "--resume", "--memory", "88KB", code=2)


def test_a_shard_that_changes_while_it_is_trained_on_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ShardedRows.read
    path = Path("shards/shard-00002.safetensors")

    def changing(shards: ShardedRows, rows: np.ndarray, out: np.ndarray, scaling: Any = None) -> None:
        if scaling is not None:  # to train on, when all have been checked
            path.write_bytes(path.read_bytes()[:-1])
        real(shards, rows, out, scaling)

    monkeypatch.setattr(ShardedRows, "read", changing)
    assert "shard-00002.safetensors has changed" in train(run, "a", code=4)


def test_many_heads_choose_as_they_do_in_memory(run: Run) -> None:
    options = ["--features", "shards", "--epochs", "6", "--seeds", "2", "--learning-rates", "0.0001,0.01"]
    run("sweep", *options, "--weight-decays", "0", "--memory", MEMORY, "--out", "sweep")
    swept = json.loads(Path("sweep/sweep.json").read_text())
    assert swept["chosen"]["learning_rate"] == 0.01
    train(run, "alone", "--learning-rate", "0.01", "--weight-decay", "0")
    best, alone = (read_safetensors(Path(path, "model.safetensors"))[1] for path in ("sweep/best", "alone/head"))
    np.testing.assert_equal(best, alone)


def test_answers_to_shards_are_read_in_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run, "a")
    model = load_model(Path("a/head"), "numpy")
    table, read, real = open_table(Path("shards")), [], Shard.read
    features: Any = table.features

    def noting(shard: Shard, rows: np.ndarray, *into: Any) -> None:
        read.append(len(rows))
        real(shard, rows, *into)

    monkeypatch.setattr("fastmlp.models.predictor.PART_BYTES", 0)
    monkeypatch.setattr("fastmlp.network.evaluation.ROWS", 64)
    X, figures = np.load("X.npy"), model.evaluate(np.load("X.npy"), table.labels)
    expected = model.predict_proba(X)
    monkeypatch.setattr(Shard, "read", noting)
    np.testing.assert_array_equal(model.predict_proba(features), expected)
    assert max(read) <= 64
    assert model.evaluate(features, table.labels) == figures
    assert figures["rows_trained_on"] == 540


def test_folds_are_read_in_windows(run: Run) -> None:
    train(run, "a", "--folds", "3")
    assert results("a")["figures"]["test_accuracy"] > 0.95


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["train", "--features", "X.npy", "--labels", "y.npy", "--memory", "20KB"], "--memory is too little for 600"),
        (["train", "--features", "shards", "--memory", MEMORY, "--limit", "590"], "more than --memory allows"),
        (["probe", "--features", "shards", "--memory", MEMORY, "--protocol", "logistic"], "leave --memory out"),
    ],
)
def test_what_is_refused(run: Run, options: list[str], reason: str) -> None:
    assert reason in run(*options, code=2)


@pytest.mark.parametrize("command", ["train", "probe", "sweep"])
def test_a_window_holds_the_largest_file_that_is_only_read_whole(run: Run, command: str) -> None:
    Path("packed").mkdir()
    X, y = np.load("X.npy"), np.load("y.npy")
    for number, rows in enumerate(np.array_split(np.arange(ROWS), 4)):
        np.savez(f"packed/{number}.npz", X=X[rows], y=y[rows])
    grid = ["--learning-rates", "0.1", "--weight-decays", "0", "--seeds", "1"] if command == "sweep" else []
    argv = [command, "--features", "packed", "--epochs", "1", *grid, "--out", "a", "--memory"]
    told = run(*argv, "90KB", code=2)
    found = re.search(r"give (\d+KB) or more, or save them in files or row groups of fewer than 150", told)
    assert found, told
    assert "windows of" in run(*argv, found[1])


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1PB", "0", "0.1", "1 2GB", "nan", "1e3"])
def test_sizes_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--features", "X.npy", f"--memory={text}"])
    assert f"must be a size such as 1GB or 500MB, not {text!r}" in capsys.readouterr().err
