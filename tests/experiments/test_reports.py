"""The reports that `train` and `evaluate` leave of one's own data, and the results.json beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.cli.main import main
from fastmlp.experiments.config import Config
from fastmlp.experiments.reproduce import reproduce
from fastmlp.models.trained_rows import digests, row_hashes
from tests.report.test_report import Page

MACHINE = ["--backend", "numpy", "--threads", "1", "--quiet"]
NAMES = np.array(["<ant>", "bee", "cat|dog"])


pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def trained(rng: np.random.Generator) -> Path:
    """The folder of a head on features made elsewhere."""
    labels = rng.integers(0, 3, 300)
    features = np.eye(3)[labels].repeat(2, axis=1) + rng.normal(0, 0.6, (300, 6))
    np.savez("x.npz", features=features, labels=NAMES[labels])
    train = ["train", "--features", "x.npz", "--preset", "fast", "--epochs", "4", "--out", "run"]
    assert main([*train, *MACHINE]) == 0
    return Path("run/head")


def results_of(folder: Path) -> dict[str, Any]:
    """results.json, once the report beside it is seen to be whole and to say nothing of the paper."""
    page, markdown = Page((folder / "report.html").read_text()), (folder / "report.md").read_text()
    for text in (" ".join(page.text), markdown):
        assert "Table 1" not in text
        assert "the paper" not in text
        assert "claim" not in text
    shown = [line.split("](")[1].rstrip(")") for line in markdown.splitlines() if line.startswith("![")]
    assert shown
    for file in shown:
        assert (folder / file).stat().st_size > 1000
    assert {"table", "svg"} <= {tag for tag, _ in page.elements}
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def test_training_leaves_a_report(trained: Path) -> None:
    results = results_of(trained)
    assert set(results["figures"]) == {"train_accuracy", "train_loss", "test_accuracy", "test_loss"}
    evaluation = results["evaluation"]["head"]
    assert evaluation["accuracy"] == results["figures"]["test_accuracy"]
    assert evaluation["samples"] == results["data"]["rows"]["test"] == evaluation["test_set"]["count"]
    assert len(results["history"]["head"]["test_loss"]) == results["config"]["epochs"] == 4
    assert results["seconds"]["train_head"] > 0
    text = " ".join(Page((trained / "report.html").read_text()).text)
    for shown in (f"{evaluation['accuracy']:.2%}", f"{evaluation['calibration_error']:.2%}", "x.npz", *NAMES):
        assert shown in text


def test_an_evaluation_leaves_a_report_where_it_is_told_to(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "results.json").read_bytes()
    evaluate = ["evaluate", "--model", str(trained), "--features", "x.npz", "--json", *MACHINE]
    capsys.readouterr()
    assert main([*evaluate, "--held-out", "--out", "evaluated"]) == 0
    results = results_of(Path("evaluated"))
    assert results["evaluation"]["head"] == json.loads(capsys.readouterr().out)
    assert results["evaluation"]["head"]["test_set"] == json.loads(before)["evaluation"]["head"]["test_set"]
    assert (trained / "results.json").read_bytes() == before
    assert main([*evaluate, "--out", "all"]) == 0
    told = results_of(Path("all"))["evaluation"]["head"]["rows_trained_on"]
    assert f"{told} rows tested on equal rows" in Path("all/report.md").read_text()


def test_a_model_of_images_leaves_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "--dataset", "synthetic:100", "--extractor", "pixels", "--epochs", "1", "--out", "run"]
    assert main([*train, *MACHINE]) == 0
    results = results_of(Path("run/original"))
    assert "20 images" in Path("run/original/report.md").read_text()
    capsys.readouterr()
    assert main(["evaluate", "--model", "run/original", "--json", *MACHINE]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert evaluated["test_set"] == results["evaluation"]["original"]["test_set"]


def test_of_many_classes_the_report_has_the_mistakes(rng: np.random.Generator) -> None:
    labels = np.arange(400) % 40
    np.savez("many.npz", features=rng.normal(size=(400, 4)), labels=labels)
    assert main(["train", "--features", "many.npz", "--epochs", "1", "--out", "many", *MACHINE]) == 0
    results_of(Path("many/head"))
    text = Path("many/head/report.md").read_text()
    assert "The 30 of 40 classes with most mistakes" in text
    assert "confusion.png" not in text


def test_every_model_of_a_reproduction_has_its_results() -> None:
    options: dict[str, Any] = {"dataset": "synthetic:100", "extractor": "pixels", "backend": "numpy", "epochs": 1}
    both = reproduce(Config(**options, out=Path("run")))
    for name, row in both["table1"].items():
        results = json.loads((Path("run") / name / "results.json").read_text())
        assert results["figures"] == row
        assert results["evaluation"][name]["accuracy"] == row["test_accuracy"]


def test_digests_tell_other_rows_and_labels(rng: np.random.Generator) -> None:
    features, labels = rng.normal(size=(20, 3)).astype(np.float32), np.arange(20) % 3
    own = digests(row_hashes(features), labels)
    assert digests(row_hashes(features.astype(np.float64)), labels) == own
    turned = digests(row_hashes(features[::-1]), labels[::-1])
    assert turned["rows"] == own["rows"]
    assert digests(row_hashes(features + 1), labels)["rows"] != own["rows"]
    assert digests(row_hashes(features + 1), labels)["labels"] == own["labels"]
    assert digests(row_hashes(features), labels[::-1])["rows"] != own["rows"]
