"""Heads on features made elsewhere, and what the commands make of any model: predict, evaluate, the model card."""

import csv
import io
import json
import re
import shlex
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import fastmlp
from fastmlp.cli.main import main
from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import read_safetensors
from fastmlp.datasets import synthetic
from fastmlp.experiments.feature_files import Source, open_tables
from fastmlp.extractors import patches
from fastmlp.features.shard_files import write_manifest, write_shard
from fastmlp.models.card import model_card
from fastmlp.models.trained_rows import TrainedRows
from tests.features.test_tables import write_parquet

MACHINE = ["--backend", "numpy", "--threads", "1"]
WORDS = np.array(["ant", "bee", "cat"])
DAMAGED_ENTRIES = (
    *(("integer_classes", True), ("class_names", ["a"]), ("extractor", "x"), ("weights", 3), ("label_column", 3)),
    *(("feature_names", value) for value in (["a"], "abcdefgh", [*"abcdefg", 8])),
)
Run = Callable[..., str]


@pytest.fixture(autouse=True)
def without_report(own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.report.head.write", lambda *_: None)  # which takes a second; see test_reports.py


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's stdout, or, where it must fail with a code, its last line on stderr."""

    def run(command: str, *options: str, code: int = 0) -> str:
        machine = [] if command == "export" else MACHINE
        assert main([command, *options, *machine]) == code
        captured = capsys.readouterr()
        if code == 0:
            return captured.out
        assert captured.out == ""
        return captured.err.strip().splitlines()[-1]

    return run


@pytest.fixture
def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features (300, 8) of three classes that a head tells apart, and their places."""
    labels = rng.integers(0, 3, 300)
    centres = np.repeat(4 * np.eye(3), [3, 3, 2], axis=1)
    return (centres[labels] + rng.normal(size=(300, 8))).astype(np.float32), labels


@pytest.fixture
def head(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> Path:
    """The folder of a head that knows words."""
    np.save("x.npy", blobs[0])
    np.save("y.npy", WORDS[blobs[1]])
    run("train", "--features", "x.npy", "--labels", "y.npy", "--learning-rate", "0.5", "--epochs", "20")
    return Path("runs/features-x/head")


# Training.


def test_a_head_learns_and_leaves_a_model_folder(head: Path) -> None:
    left = {path.name for path in head.iterdir()}
    assert left == {"README.md", "config.json", "history.json", "model.safetensors", "results.json", "rows.safetensors"}
    config = json.loads((head / "config.json").read_text())
    assert config["sizes"] == [8, 256, 3]
    assert config["class_names"] == WORDS.tolist()
    assert config["rows"] == {"training": 270, "test": 30}
    assert json.loads((head / "history.json").read_text())["test_accuracy"][-1] > 0.9


def test_every_kind_of_file_trains_the_same_head(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> None:
    X, y = blobs[0], blobs[1] + 5
    np.savez("both.npz", features=X, labels=y)
    write_parquet(Path("both.parquet"), X, y)
    np.save("x64.npy", X.astype(np.float64))
    np.save("xF.npy", np.asfortranarray(X))
    np.save("y.npy", y)
    choices = [["both.npz"], ["both.parquet"], ["x64.npy", "--labels", "y.npy"], ["xF.npy", "--labels", "y.npy"]]
    figures = [run("train", "--features", *choice, "--epochs", "3", "--json") for choice in choices]
    assert len(set(figures)) == 1


def test_shards_train_and_answer_as_one_file_does(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> None:
    X, y = blobs
    np.savez("whole.npz", features=X, labels=y)
    Path("shards").mkdir()
    parts = zip(np.array_split(X, 4), np.array_split(y, 4), strict=True)
    write_manifest(Path("shards"), [write_shard(Path("shards"), number, *part) for number, part in enumerate(parts)])
    weights = []
    for place in ("whole.npz", "shards", "shards/*.safetensors"):
        run("train", "--features", place, "--epochs", "3", "--out", "runs/head")
        weights.append(read_safetensors(Path("runs/head/head/model.safetensors"))[1])
    for other in weights[1:]:
        np.testing.assert_equal(other, weights[0])
    for command in ("evaluate", "predict"):
        given = ["--features"] if command == "evaluate" else []
        head = ["--model", "runs/head/head", "--json"]
        answers = [run(command, *head, *given, place) for place in ("whole.npz", "shards", "shards/*.safetensors")]
        assert len(set(answers)) == 1


def rows_of(source: Source) -> np.ndarray:
    assert source.rows is not None
    return source.rows


def test_the_tenth_held_out_depends_on_the_seed_alone(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("both.npz", features=blobs[0], labels=blobs[1])
    first, again, other = (open_tables(Path("both.npz"), None, None, None, seed) for seed in (0, 0, 1))
    for tables in (first, again, other):
        rows = np.concatenate([rows_of(tables.train), rows_of(tables.test)])
        np.testing.assert_array_equal(np.sort(rows), np.arange(300))
        assert len(tables.test) == 30
    np.testing.assert_array_equal(rows_of(first.test), rows_of(again.test))
    assert not np.array_equal(rows_of(first.test), rows_of(other.test))


def test_test_features_of_ones_own(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> None:
    X, y = blobs
    np.savez("train.npz", features=X[:200], labels=y[:200])
    np.savez("test.npz", features=X[200:], labels=y[200:])
    trained = json.loads(
        run(
            "train",
            "--features",
            "train.npz",
            "--test-features",
            "test.npz",
            "--epochs",
            "5",
            "--preset",
            "paper",
            "--json",
        )
    )
    evaluated = json.loads(run("evaluate", "--model", "runs/features-train/head", "--features", "test.npz", "--json"))
    assert evaluated["samples"] == 100
    assert evaluated["accuracy"] == trained["test_accuracy"]
    assert evaluated["loss"] == pytest.approx(trained["test_loss"], rel=1e-6)


def test_a_head_resumes_to_the_same_bytes_and_refuses_other_features(head: Path, run: Run) -> None:
    options = ["--features", "x.npy", "--labels", "y.npy", "--learning-rate", "0.5", "--epochs", "20", "--resume"]
    before = (head / "model.safetensors").read_bytes()
    run("train", *options)
    assert (head / "model.safetensors").read_bytes() == before
    np.save("x.npy", np.load("x.npy") + 1)
    assert "another experiment" in run("train", *options, code=2)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.arange(300), "300 classes in 300 labels"),
        (np.zeros(300, int), "is one class in 300 labels"),
        (np.arange(300) - 1, "Row 0 of y.npy has label -1"),
        (np.arange(299), "300 rows of features in x.npy, but 299 labels"),
    ],
)
def test_labels_that_are_refused(blobs: tuple[np.ndarray, np.ndarray], run: Run, labels: np.ndarray, says: str) -> None:
    np.save("x.npy", blobs[0])
    np.save("y.npy", labels)
    assert says in run("train", "--features", "x.npy", "--labels", "y.npy", code=4)
    assert not Path("runs").exists()


def test_features_that_are_refused(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> None:
    X, y = blobs
    np.savez("a.npz", features=X, labels=y)
    np.savez("narrow.npz", features=X[:, 1:], labels=y)
    np.savez("strange.npz", features=X, labels=y + 1)
    np.savez("images.npz", features=synthetic.load(50).train.images, labels=np.arange(50) % 10)
    np.savez("few.npz", features=X[:9], labels=y[:9])
    X[7, 2] = np.nan
    np.savez("nan.npz", features=X, labels=y)
    train = ["train", "--features"]
    assert "Row 7 of nan.npz" in run(*train, "nan.npz", code=4)
    assert "7 features per row" in run(*train, "a.npz", "--test-features", "narrow.npz", code=4)
    assert "has label '3'" in run(*train, "a.npz", "--test-features", "strange.npz", code=4)
    assert "holds images" in run(*train, "images.npz", code=4)
    assert "too few" in run(*train, "few.npz", code=4)


# Named features.


def write_table(path: str, features: dict[str, np.ndarray], labels: np.ndarray, label: str = "label") -> None:
    parquet.write_table(pa.table({**features, label: labels}), path)


@pytest.fixture
def columns(blobs: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    """The features of blobs as columns a to h."""
    return {name: blobs[0][:, place] for place, name in enumerate("abcdefgh")}


@pytest.fixture
def of_columns(blobs: tuple[np.ndarray, np.ndarray], columns: dict[str, np.ndarray], run: Run) -> list[str]:
    """The options that name a head trained on columns, whose labels are in the column kind."""
    write_table("t.parquet", {**columns, "id": blobs[1]}, WORDS[blobs[1]], "kind")
    options = ["--label-column", "kind", "--drop-columns", "id", "--learning-rate", "0.5", "--epochs", "20"]
    run("train", "--features", "t.parquet", *options, "--out", "run")
    return ["--model", "run/head"]


def test_names_of_features_and_labels_are_kept_with_the_model(of_columns: list[str]) -> None:
    config = json.loads(Path("run/head/config.json").read_text())
    assert config["feature_names"] == list("abcdefgh")
    assert config["label_column"] == "kind"
    assert config["notices"] == ["Read t.parquet: 8 features (a, b, c, d, e, f, g, h), labels from 'kind'."]
    assert fastmlp.load_model("run/head", "numpy").feature_names == tuple("abcdefgh")
    assert "| feature names | a, b, c, d, e, f, g, h |" in Path("run/head/README.md").read_text()


@pytest.mark.parametrize("order", ["abcdefgh", "hgfedcba", "badcfehg"])
def test_columns_are_matched_by_name_whatever_their_order(
    blobs: tuple[np.ndarray, np.ndarray], columns: dict[str, np.ndarray], of_columns: list[str], run: Run, order: str
) -> None:
    known = run("evaluate", *of_columns, "--features", "t.parquet", "--json")
    assert json.loads(known)["accuracy"] > 0.9
    moved = {"y": blobs[1].astype(float), **{name: columns[name] for name in order}}
    write_table("moved.parquet", moved, WORDS[blobs[1]], "kind")
    assert run("evaluate", *of_columns, "--features", "moved.parquet", "--json") == known
    write_table("other.parquet", moved, WORDS[blobs[1]], "class")
    assert run("evaluate", *of_columns, "--features", "other.parquet", "--label-column", "class", "--json") == known
    predicted = [run("predict", *of_columns, path, "--json") for path in ("t.parquet", "moved.parquet")]
    assert predicted[0] == predicted[1]


def test_test_features_are_matched_to_the_trainings_names(
    blobs: tuple[np.ndarray, np.ndarray], columns: dict[str, np.ndarray], run: Run
) -> None:
    write_table("train.parquet", columns, blobs[1])
    write_table("same.parquet", columns, blobs[1])
    write_table("moved.parquet", {"target": blobs[0][:, 0], **dict(reversed(columns.items()))}, blobs[1])
    train = ["train", "--features", "train.parquet", "--epochs", "3", "--json", "--test-features"]
    assert run(*train, "moved.parquet", "--out", "moved") == run(*train, "same.parquet", "--out", "same")
    assert "left out 1: target." in json.loads(Path("moved/head/config.json").read_text())["notices"][1]
    write_table("fewer.parquet", {name: columns[name] for name in "abcdefg"}, blobs[1])
    assert "fewer.parquet has no column 'h', which the model was trained on" in run(*train, "fewer.parquet", code=4)


def test_missing_columns_are_refused_and_rows_without_names_are_told(
    blobs: tuple[np.ndarray, np.ndarray],
    columns: dict[str, np.ndarray],
    of_columns: list[str],
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table("fewer.parquet", {name: columns[name] for name in "bcdefgh"}, WORDS[blobs[1]])
    for command in (
        ["predict", *of_columns, "fewer.parquet"],
        ["evaluate", *of_columns, "--features", "fewer.parquet"],
    ):
        assert "fewer.parquet has no column 'a', which the model was trained on" in run(*command, code=4)
    np.save("x.npy", blobs[0])
    assert main(["predict", *of_columns, "x.npy", *MACHINE]) == 0
    assert "have no names, so they are taken in the order of the training: a, b, c" in capsys.readouterr().err


class Frame:
    """As much of a data frame as pandas and polars share."""

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self.of, self.columns = columns, list(columns)

    def __getitem__(self, names: list[str]) -> "Frame":
        return Frame({name: self.of[name] for name in names})

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        return np.stack(list(self.of.values()), axis=1)


def test_a_data_frames_columns_are_matched_by_name(
    blobs: tuple[np.ndarray, np.ndarray], columns: dict[str, np.ndarray], of_columns: list[str]
) -> None:
    model = fastmlp.load_model("run/head", "numpy")
    expected, moved = model.predict_proba(blobs[0]), {"id": blobs[1], **dict(reversed(columns.items()))}
    np.testing.assert_array_equal(model.predict_proba(Frame(moved)), expected)  # type: ignore[arg-type]
    assert model.evaluate(Frame(moved), WORDS[blobs[1]]) == model.evaluate(blobs[0], WORDS[blobs[1]])  # type: ignore[arg-type]
    words = WORDS[blobs[1]].astype(object)
    assert model.evaluate(Frame(moved), words) == model.evaluate(blobs[0], WORDS[blobs[1]])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="labels of type float64 in the labels, but the classes are strings"):
        model.evaluate(blobs[0], blobs[1] + 0.7)
    del moved["a"]
    with pytest.raises(DataError, match="the data frame has no column 'a'"):
        model.predict(Frame(moved))  # type: ignore[arg-type]
    columns["b"][7] = np.nan
    with pytest.raises(DataError, match=r"Row 7 of the features has NaN, .* in column 'b'"):
        model.predict(Frame(columns))  # type: ignore[arg-type]


def test_a_head_resumes_only_on_columns_of_the_same_names(
    blobs: tuple[np.ndarray, np.ndarray], columns: dict[str, np.ndarray], of_columns: list[str], run: Run
) -> None:
    resume = ["--label-column", "kind", "--learning-rate", "0.5", "--epochs", "20", "--out", "run", "--resume"]
    renamed = {name.replace("a", "z"): column for name, column in columns.items()}
    for features, code in ((columns, 0), (renamed, 2)):
        write_table("t.parquet", features, WORDS[blobs[1]], "kind")
        printed = run("train", "--features", "t.parquet", *resume, code=code)
    assert "another experiment" in printed


@pytest.mark.parametrize("options", [["--label-column", "y"], ["--drop-columns", "a,b"]])
def test_options_of_columns_need_features(options: list[str], of_images: Path, run: Run) -> None:
    assert "go with --features" in run("train", *options, code=2)
    assert "go with --features" in run("evaluate", "--model", str(of_images), *options, code=2)
    Image.new("RGB", (40, 40)).save("a.png")
    assert "leave them out with images" in run("predict", "--model", str(of_images), "a.png", *options, code=2)


# Classes.


@pytest.mark.parametrize("rare", [1, 2])
def test_classes_without_test_rows_are_told(
    blobs: tuple[np.ndarray, np.ndarray], run: Run, capsys: pytest.CaptureFixture[str], rare: int
) -> None:
    words = WORDS[blobs[1]].astype("U9")
    words[:rare] = "dodo"
    np.savez("a.npz", X=blobs[0], y=words)
    assert main(["train", "--features", "a.npz", "--epochs", "1", "--out", "run", *MACHINE]) == 0
    sentence = "1 of 4 classes have no test row, so no test figure tells of them: dodo."
    assert capsys.readouterr().err.count(sentence) == 1
    assert json.loads(Path("run/head/config.json").read_text())["notices"] == [sentence]


def test_both_spellings_of_a_class_train_and_test_as_one(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> None:
    spelled = {form: [unicodedata.normalize(form, word) for word in ("né", "où", "çà")] for form in ("NFC", "NFD")}
    for form, words in spelled.items():
        np.savez(f"{form}.npz", X=blobs[0], y=np.array(words)[blobs[1]])
    run("train", "--features", "NFD.npz", "--test-features", "NFC.npz", "--epochs", "3", "--out", "run")
    assert json.loads(Path("run/head/config.json").read_text())["class_names"] == sorted(spelled["NFC"])
    evaluate = ["evaluate", "--model", "run/head", "--json", "--features"]
    assert run(*evaluate, "NFC.npz") == run(*evaluate, "NFD.npz")


@pytest.mark.parametrize("options", [["--dataset", "digits"], ["--extractor", "pixels"], ["--on", "augmented"]])
def test_options_of_images_are_refused(options: list[str], run: Run) -> None:
    assert "leave" in run("train", "--features", "x.npy", *options, code=2)


def test_the_environment_is_not_taken_for_an_option(head: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMLP_DATASET", "cifar10")
    run("train", "--features", "x.npy", "--labels", "y.npy", "--epochs", "1")


# Predicting.


def test_predictions_in_every_format(head: Path, run: Run) -> None:
    predict = ["predict", "--model", str(head), "x.npy"]
    model = fastmlp.load_model(head, "numpy")
    X = np.load("x.npy")
    labels, probabilities = model.predict(X), model.predict_proba(X)
    lines = [json.loads(line) for line in run(*predict, "--format", "jsonl").splitlines()]
    assert [line["label"] for line in lines] == labels.tolist()
    assert [line["row"] for line in lines] == list(range(300))
    np.testing.assert_array_equal([line["probability"] for line in lines], probabilities.max(axis=1))
    assert json.loads(run(*predict, "--json")) == lines
    rows = list(csv.DictReader(io.StringIO(run(*predict, "--format", "csv", "--top", "3"))))
    assert list(rows[0]) == ["row", "label", "probability", "label_2", "probability_2", "label_3", "probability_3"]
    for row, line in zip(rows, lines, strict=True):
        assert row["label"] == line["label"]
        assert sum(float(row[name]) for name in row if name.startswith("prob")) == pytest.approx(1, abs=1e-6)
        assert float(row["probability"]) >= float(row["probability_2"]) >= float(row["probability_3"])
    table = run(*predict).splitlines()
    assert table[0].split() == ["row", "label", "probability"]
    assert table[1].split() == ["0", labels[0], f"{probabilities[0].max():.4f}"]


def test_integer_labels_come_back_as_integers(blobs: tuple[np.ndarray, np.ndarray], run: Run) -> None:
    np.savez("a.npz", features=blobs[0], labels=np.array([7, 30, 200])[blobs[1]])
    run("train", "--features", "a.npz", "--learning-rate", "0.5", "--epochs", "20")
    model = fastmlp.load_model("runs/features-a/head", "numpy")
    assert model.predict(blobs[0]).dtype == np.int64
    assert set(model.predict(blobs[0])) == {7, 30, 200}
    rows = json.loads(run("predict", "--model", "runs/features-a/head", "a.npz", "--json"))
    assert {row["label"] for row in rows} == {7, 30, 200}
    assert (
        json.loads(run("evaluate", "--model", "runs/features-a/head", "--features", "a.npz", "--json"))["accuracy"]
        > 0.9
    )


@pytest.fixture
def of_images(run: Run) -> Path:
    run("train", "--dataset", "synthetic:100", "--extractor", "pixels", "--epochs", "2", "--out", "run")
    return Path("run/original")


def test_a_model_of_images_takes_images_and_features(of_images: Path, run: Run) -> None:
    images = synthetic.load(100).test.images
    model = fastmlp.load_model(of_images, "numpy")
    np.testing.assert_array_equal(model.predict_proba(images), model.predict_proba(model.features(images)))
    np.save("images.npy", images)
    np.save("features.npy", model.features(images))
    predict = ["predict", "--model", str(of_images), "--json"]
    assert run(*predict, "images.npy") == run(*predict, "features.npy")
    with pytest.raises(DataError, match=r"not float32 \(20, 5\)"):
        model.predict(np.zeros((20, 5), np.float32))
    with pytest.raises(DataError, match=r"whole numbers 0 \.\. 255, not float32 .* give np.rint\(X\)"):
        model.predict(images.astype(np.float32))


def test_what_a_model_cannot_take(head: Path, run: Run) -> None:
    Image.new("RGB", (40, 40)).save("a.png")
    predict = ["predict", "--model", str(head)]
    assert "takes features made elsewhere" in run(*predict, "a.png", code=2)
    assert "not several kinds" in run(*predict, "a.png", "x.npy", code=2)
    np.save("wide.npy", np.zeros((2, 9)))
    assert "not float64 (2, 9)" in run(*predict, "wide.npy", code=4)
    np.save("inf.npy", np.full((2, 8), np.inf))
    assert "Row 0 of the features" in run(*predict, "inf.npy", code=4)


def test_names_that_steer_a_terminal_are_not_printed(of_images: Path, run: Run) -> None:
    name = "a\x1b[31m.png"
    Image.new("RGB", (40, 40)).save(name)
    for format_ in ("table", "csv", "jsonl"):
        printed = run("predict", "--model", str(of_images), name, "--format", format_)
        assert printed.replace("\n", "").isprintable()
    assert json.loads(printed)["image"] == name


# Evaluating.


def test_evaluation_as_text_and_as_json(head: Path, run: Run) -> None:
    evaluate = ["evaluate", "--model", str(head), "--features", "x.npy", "--labels", "y.npy"]
    figures = json.loads(run(*evaluate, "--json"))
    assert {"accuracy", "loss", "calibration_error", "samples", "classes", "mistakes", "confusion"} < set(figures)
    assert np.trace(figures["confusion"]) == round(figures["accuracy"] * 300)
    text = run(*evaluate)
    assert f"accuracy           {figures['accuracy']:.3%}" in text
    bee = next(line for line in text.splitlines() if line.startswith("bee"))
    assert bee.split()[-1] == str(figures["classes"][1]["support"])
    limited = json.loads(run(*evaluate, "--limit", "50", "--json"))
    assert limited["samples"] == 50


def test_rows_that_were_trained_on_are_told(head: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """In the very file, and in others with the same rows."""
    X, y = np.load("x.npy"), np.load("y.npy")
    np.savez("same.npz", features=X[::-1].astype(np.float64), labels=y[::-1])
    write_parquet(Path("part.parquet"), X[:100], y[:100])
    np.savez("new.npz", features=X + 0.01, labels=y)
    places = np.asarray(TrainedRows.load(head).held_out)  # type: ignore[union-attr]
    trained = np.setdiff1d(np.arange(300), places)
    evaluate = ["evaluate", "--model", str(head), *MACHINE]
    for files, rows in (
        (["x.npy", "--labels", "y.npy"], 270),
        (["same.npz"], 270),
        (["part.parquet"], np.count_nonzero(trained < 100)),
        (["new.npz"], 0),
    ):
        assert main([*evaluate, "--features", *files, "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["rows_trained_on"] == rows
        assert (f"{rows} of these" in captured.err and "--held-out" in captured.err) == (rows > 0)


@pytest.mark.parametrize("limit", [[], ["--limit", "200"]])
def test_the_held_out_rows_give_the_figures_of_the_training(
    blobs: tuple[np.ndarray, np.ndarray], limit: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("all.npz", features=blobs[0], labels=WORDS[blobs[1]])
    np.savez("all64.npz", features=blobs[0].astype(np.float64), labels=WORDS[blobs[1]])
    recipe = ["--preset", "paper", "--epochs", "3", "--seed", "3"]
    told = json.loads(run("train", "--features", "all.npz", *recipe, *limit, "--json"))
    for name in ("all.npz", "all64.npz"):
        options = ["--model", "runs/features-all/head", "--features", name, "--held-out", "--json"]
        assert main(["evaluate", *options, *MACHINE]) == 0
        captured = capsys.readouterr()
        figures = json.loads(captured.out)
        assert figures["accuracy"] == told["test_accuracy"]
        assert figures["loss"] == pytest.approx(told["test_loss"], rel=1e-6)
        assert (figures["samples"], figures["rows_trained_on"]) == (20 if limit else 30, 0)
        assert "trained on" not in captured.err


def test_held_out_rows_that_are_not_to_be_had(head: Path, of_images: Path, run: Run) -> None:
    X, y = np.load("x.npy"), np.load("y.npy")
    np.savez("other.npz", features=X + 1, labels=y)
    np.savez("test.npz", features=X[:50], labels=y[:50])
    run("train", "--features", "other.npz", "--test-features", "test.npz", "--epochs", "1")
    evaluate, held_out = ["evaluate", "--model", str(head)], ["--features", "x.npy", "--labels", "y.npy", "--held-out"]
    assert "does not have the model's held-out rows" in run(*evaluate, "--features", "other.npz", "--held-out", code=2)
    assert "none were held out" in run("evaluate", "--model", "runs/features-other/head", *held_out, code=2)
    assert "go with --features" in run("evaluate", "--model", str(of_images), "--held-out", code=2)
    (head / "rows.safetensors").unlink()
    assert "does not tell" in run(*evaluate, *held_out, code=2)
    assert json.loads(run(*evaluate, *held_out[:-1], "--json"))["rows_trained_on"] is None


def test_training_images_are_known_again(of_images: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = synthetic.load(100)
    np.savez("train.npz", images=dataset.train.images, labels=dataset.train.labels)
    assert main(["evaluate", "--model", str(of_images), "--features", "train.npz", "--json", *MACHINE]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["rows_trained_on"] == len(dataset.train)
    assert "give rows that it has not seen" in captured.err


def test_of_many_classes_the_most_mistaken_are_shown(run: Run, rng: np.random.Generator) -> None:
    labels = np.arange(120) % 40
    features = np.eye(40)[labels]
    features[labels == 7] = features[8]
    np.savez("many.npz", features=features + rng.normal(0, 0.01, (120, 40)), labels=labels)
    run(
        "train",
        "--features",
        "many.npz",
        "--test-features",
        "many.npz",
        "--learning-rate",
        "1",
        "--epochs",
        "200",
        "--preset",
        "paper",
    )
    evaluate = ["evaluate", "--model", "runs/features-many/head", "--features", "many.npz"]
    figures, text = json.loads(run(*evaluate, "--json")), run(*evaluate)
    (worst,) = figures["mistakes"]
    assert {worst["true"], worst["predicted"]} == {"7", "8"}
    assert "The 25 of 40 classes with most mistakes" in text
    classes, mistakes = text.split("The most frequent mistakes:")
    table = classes.split("\n\n")[1].splitlines()
    assert len(table) == 1 + 25
    assert table[1].split()[0] == worst["true"]
    assert mistakes.split()[-3:] == [worst["true"], worst["predicted"], "3"]


def test_what_cannot_be_evaluated(head: Path, of_images: Path, run: Run) -> None:
    evaluate = ["evaluate", "--model", str(head)]
    assert "give --features and --labels" in run(*evaluate, code=2)
    assert "give both" in run(*evaluate, "--labels", "y.npy", code=2)
    assert "pass them with --labels" in run(*evaluate, "--features", "x.npy", code=4)
    np.save("other.npy", np.array(["dog"] * 300))
    assert "'dog'" in run(*evaluate, "--features", "x.npy", "--labels", "other.npy", code=4)
    np.savez("places.npz", features=np.zeros((3, 3072)), labels=[0, 9, 10])
    sentence = run("evaluate", "--model", str(of_images), "--features", "places.npz", code=4)
    assert "there are 10 classes" in sentence


# The model card.


def test_the_card_tells_data_recipe_figures_and_licences(head: Path, of_images: Path) -> None:
    card, config = (head / "README.md").read_text(), json.loads((head / "config.json").read_text())
    history = json.loads((head / "history.json").read_text())
    assert card == model_card(config, history)
    assert f"| training rows | {config['rows']['training']} |" in card
    assert f"{history['test_accuracy'][-1]:.3%}" in card
    assert f"| fastmlp | {fastmlp.__version__} |" in card
    assert config["features"][0].startswith("x.npy-")
    assert "the licence of the model that made them" in card
    assert "Synthetic images were generated" in (of_images / "README.md").read_text()


def test_nothing_in_a_card_is_markup(head: Path) -> None:
    config = json.loads((head / "config.json").read_text())
    hostile = "<script>alert(1)</script>|[x](http://x)`\x1b[31m"
    config |= {"class_names": [hostile, "b"], "dataset": hostile, "note": hostile}
    card = model_card(config, json.loads((head / "history.json").read_text()))
    assert "<script" not in card.replace("\\<", "")
    assert "\x1b" not in card
    rows = [line for line in card.splitlines() if "alert" in line]
    assert len(rows) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)


def test_every_entry_of_a_config_is_checked(head: Path) -> None:
    path = head / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    for name, value in DAMAGED_ENTRIES:
        path.write_text(json.dumps({**config, name: value}))
        with pytest.raises(DataError, match="damaged"):
            fastmlp.load_model(head, "numpy")
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="takes features made elsewhere"):
        fastmlp.load_model(head, "numpy").predict(np.zeros((1, 3, 32, 32), np.uint8))


# The README's section.


def test_the_readmes_commands_and_snippet_run(
    blobs: tuple[np.ndarray, np.ndarray], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(patches, "SAMPLE_PATCHES", 5_000)
    text = (Path(__file__).parents[2] / "README.md").read_text()
    section = text.split("## Models and features that travel")[1].split("\n## ")[0]
    np.save("X.npy", blobs[0])
    np.save("y.npy", WORDS[blobs[1]])
    Path("photos").mkdir()
    for path in ("photo.png", "photos/one.png"):
        Image.new("RGB", (40, 40), (90, 0, 90)).save(path)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        program, *options = shlex.split(command)
        assert program == "fastmlp"
        assert run(*options)
    (snippet,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"X": blobs[0]}
    exec(snippet, names)
    assert names["model"].predict_proba(blobs[0]).shape == (300, 3)
