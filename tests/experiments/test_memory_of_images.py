"""Training on the features of images that are larger than --memory: what is read in windows is their stores."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import datasets, report
from fastmlp.cli.main import main
from fastmlp.common.files import read_safetensors
from fastmlp.datasets.mapped import MappedImages
from fastmlp.extractors.pixels import Pixels
from fastmlp.models.predictor import load_model
from fastmlp.paper import MODELS
from tests.experiments.reads import Reads

DATA = ["--dataset", "synthetic:300", "--extractor", "pixels"]
MACHINE = ["--backend", "numpy", "--threads", "1"]
MEMORY = "75KB"  # for windows of 70 of 360 rows, of 48 features
MEMORY_OF_BOTH = "140KB"  # for windows of 133 of 660 rows
ALL_PIXELS = {name: getattr(Pixels, name) for name in ("__call__", "features")}
Run = Callable[..., str]

pytestmark = pytest.mark.usefixtures("own_folders", "few_pixels")


@pytest.fixture(autouse=True)
def without_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.report.head.write", lambda *_: None)  # which takes a second, and memory by the figures
    for name in ("prepare", "draw_first", "draw", "write"):
        monkeypatch.setattr(report, name, lambda *_: None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's stderr; code: what it ends with."""

    def run(command: str, *options: str, code: int = 0) -> str:
        data = [] if "--features" in options else DATA
        assert main([command, *data, *MACHINE, *options]) == code
        return capsys.readouterr().err

    return run


def weights(folder: str) -> dict[str, np.ndarray]:
    return read_safetensors(Path(folder, "model.safetensors"))[1]


def differ(one: str, other: str) -> bool:
    others = weights(other)
    return any((array != others[name]).any() for name, array in weights(one).items())


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


@pytest.mark.parametrize("memory", [MEMORY, "1GB"])
def test_it_is_the_training_on_the_stores_as_shards(memory: str, run: Run) -> None:
    options = ["--epochs", "3", "--preset", "best", "--memory", memory]
    said = run("train", *options, "--out", "images")
    stores = [str(next(Path("cache/features").glob(f"*-{split}-*"))) for split in ("train", "test")]
    run("train", "--features", stores[0], "--test-features", stores[1], *options, "--out", "files")
    np.testing.assert_equal(weights("images/original"), weights("files/head"))
    images, files = (read(f"{folder}/results.json") for folder in ("images/original", "files/head"))
    assert images["figures"] == files["figures"]
    assert images["data"]["window_rows"] == files["data"]["window_rows"] == (70 if memory == MEMORY else None)
    assert ("trained on in windows of 70" in said) == (memory == MEMORY)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", ["--on", "augmented", "--copies", "2", "--early-stopping", "--memory", "200KB"]),
        ("reproduce", ["--seeds", "2", "--preset", "fast", "--memory", MEMORY_OF_BOTH]),
    ],
)
def test_interrupted_anywhere_and_resumed_it_ends_with_the_same_bytes(
    command: str, options: list[str], run: Run, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    reads = Reads(monkeypatch)
    assert "trained on in windows" in run(command, *options, "--epochs", "4", "--out", "unbroken")
    for number, moment in enumerate(rng.integers(0, reads.count, 4).tolist()):
        out = f"broken-{number}"
        reads.interrupt(moment)
        run(command, *options, "--epochs", "4", "--out", out, code=130)
        reads.go_on()
        run(command, *options, "--epochs", "4", "--out", out, "--resume")
        for whole in Path("unbroken").rglob("*.safetensors"):
            assert Path(out, whole.relative_to("unbroken")).read_bytes() == whole.read_bytes(), (moment, whole)
        assert not list(Path(out).rglob("checkpoint.safetensors"))


def test_both_models_share_windows_and_each_trains_on_its_own_rows(run: Run) -> None:
    """A window that holds all rows of the original model is the full shuffle, to the bit."""
    options = ["--epochs", "20", "--preset", "fast"]
    run("reproduce", *options, "--out", "whole")
    assert "660 rows are more than fit into --memory: trained on in windows of 344." in run(
        "reproduce", *options, "--memory", "262KB", "--out", "windows"
    )
    assert (Path("windows/original/history.json")).read_bytes() == Path("whole/original/history.json").read_bytes()
    np.testing.assert_equal(weights("windows/original"), weights("whole/original"))
    assert differ("windows/augmented", "whole/augmented")
    whole, windows = read("whole/results.json"), read("windows/results.json")
    assert whole["table1"]["original"] == pytest.approx(windows["table1"]["original"], rel=1e-6)
    for model in MODELS:
        accuracies = [results["table1"][model]["test_accuracy"] for results in (whole, windows)]
        assert accuracies[0] == pytest.approx(accuracies[1], abs=0.1)
        assert min(accuracies) > 0.5
        assert read(f"windows/{model}/results.json")["data"]["window_rows"] == 344
    assert (whole["data"]["window_rows"], windows["data"]["window_rows"]) == (None, 344)
    assert windows["node"]["image"] in range(60)
    assert "window rows 344, not none" in report._caution(windows)
    assert "window" not in report._caution(whole)


@pytest.mark.parametrize("command", ["sweep", "probe"])
def test_many_heads_choose_one_that_trains_as_it_does_alone(command: str, run: Run) -> None:
    given = {
        "sweep": ["--learning-rates", "0.03,0.0001", "--weight-decays", "0", "--seeds", "2"],
        "probe": ["--protocol", "my.toml", "--widths", "64"],
    }
    Path("my.toml").write_text('learning_rates = [0.03, 0.0001]\nbatch_size = 64\nepochs = 3\nnormalize = "standard"\n')
    options = ["--on", "augmented", "--epochs", "3", "--memory", MEMORY_OF_BOTH]
    assert "trained on in windows" in run(command, *options, *given[command], "--out", "many")
    found = read(f"many/{command}.json")
    assert found["chosen"]["learning_rate"] == 0.03
    assert found["data"]["window_rows"] < 300
    assert found["data"]["rows_trained_on"] == 2 * 270


@pytest.mark.parametrize("command", ["train", "sweep", "probe", "reproduce"])
def test_too_little_is_refused_before_anything_is_extracted(command: str, run: Run) -> None:
    said = run(command, "--memory", "20KB", code=2)
    assert "--memory is too little for" in said
    assert not list(Path("cache").glob("features/*"))


def test_a_logistic_regression_needs_all_rows(run: Run) -> None:
    assert "leave --memory out" in run("probe", "--protocol", "logistic", "--memory", MEMORY, code=2)


def test_a_fold_that_fits_into_a_window_is_trained_on_as_ever(run: Run) -> None:
    options = ["--folds", "2", "--epochs", "2", "--preset", "fast"]
    run("train", *options, "--out", "whole")
    assert "windows of 151" in run("train", *options, "--memory", "122KB", "--out", "windows")
    for fold in ("fold-1", "fold-2"):
        np.testing.assert_equal(weights(f"windows/original/folds/{fold}"), weights(f"whole/original/folds/{fold}"))
    assert differ("windows/original", "whole/original")


@pytest.mark.parametrize("views", ["one", "mirror"])
def test_answers_to_images_are_read_and_extracted_in_parts(
    views: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("train", "--epochs", "1", "--preset", "fast", "--out", "a")
    model, images = load_model(Path("a/original"), "numpy"), datasets.load("synthetic:700").test
    monkeypatch.setattr("fastmlp.network.evaluation.ROWS", 16)
    monkeypatch.setattr(Pixels, "batch_size", 24)
    whole = model.evaluate(images.images, images.labels, views)
    read, real = [], MappedImages.__getitem__

    def noting(mapped: MappedImages, rows: Any) -> np.ndarray:
        found = real(mapped, rows)
        read.append(len(found))
        return found

    monkeypatch.setattr("fastmlp.datasets.mapped.MOST_IN_MEMORY", 0)
    monkeypatch.setattr(MappedImages, "__getitem__", noting)
    monkeypatch.setattr("fastmlp.models.predictor.PART_BYTES", 0)
    mapped = datasets.load("synthetic:700").test
    read.clear()
    assert model.evaluate(mapped.images, mapped.labels, views) == whole
    assert max(read) == 24


def test_four_times_the_images_take_no_more_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """From reading the images to the last figure: each has 12 KB of features, and 3 KB of pixels."""
    for name, value in ALL_PIXELS.items():
        monkeypatch.setattr(Pixels, name, value)
    monkeypatch.setattr("fastmlp.datasets.mapped.MOST_IN_MEMORY", 0)
    for at_once in ("datasets.mapped.BLOCK", "datasets.synthetic.CHUNK", "experiments.images.AT_ONCE"):
        monkeypatch.setattr(f"fastmlp.{at_once}", 50)
    monkeypatch.setattr("fastmlp.experiments.node.NUMBERS", 0)
    monkeypatch.setattr("fastmlp.features.extraction.SHARD_BATCHES", 1)
    monkeypatch.setattr(Pixels, "batch_size", 50)

    def peak(images: int) -> int:
        options = ["--dataset", f"synthetic:{images}", "--epochs", "1", "--memory", "1MB"]
        tracemalloc.start()
        run("reproduce", *options, "--out", str(images))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(50)  # which imports and compiles
    assert peak(400) - peak(100) < 1_000_000 < 300 * 2.2 * 12_288 / 8
