"""`--views mirror`: what predict and evaluate print and leave, and one sentence where there is no mirror image."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp.cli.main import main
from fastmlp.cli.parser import parse
from fastmlp.datasets import load
from fastmlp.models.views import VIEWS

IMAGES = load("synthetic:100").test.images
MACHINE = ["--backend", "numpy", "--threads", "1", "--quiet"]
MIRROR = ["--views", "mirror"]
FEATURES = ["--features", "x.npy", "--labels", "y.npy"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of images (run), one of digits, and one of features (head), and with files of each."""
    folder = tmp_path_factory.mktemp("views")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FASTMLP_CACHE_DIR", str(folder / "cache"))
        patch.setattr("fastmlp.report.head.write", lambda *_: None)  # which takes a second
        np.save("images.npy", IMAGES)
        np.save("x.npy", IMAGES.reshape(20, -1).astype(np.float32))
        np.save("y.npy", np.arange(20) % 10)
        quick = [*MACHINE, "--epochs", "2"]
        of_images = ["--extractor", "pixels", "--limit", "100", *quick]
        assert main(["train", "--dataset", "synthetic:100", *of_images, "--out", "run"]) == 0
        assert main(["train", "--dataset", "digits", *of_images, "--out", "digits"]) == 0
        assert main(["train", *FEATURES, *quick, "--out", "features"]) == 0
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(place / "cache"))


def test_the_parser_knows_all_views() -> None:
    for views in VIEWS:
        assert parse(["predict", "--model", "run", "X.npy", "--views", views]).views == views
    assert parse(["evaluate", "--model", "run"]).views == VIEWS[0]


def test_predict(capsys: pytest.CaptureFixture[str]) -> None:
    model = fastmlp.load_model("run/original", "numpy")
    expected = (model.predict_proba(IMAGES) + model.predict_proba(IMAGES[..., ::-1].copy())) / 2
    assert main(["predict", "--model", "run/original", "images.npy", *MIRROR, "--json", *MACHINE]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["label"] for row in rows] == model.classes[expected.argmax(axis=1)].tolist()
    np.testing.assert_allclose([row["probability"] for row in rows], expected.max(axis=1), rtol=0, atol=1e-6)


def test_evaluate_says_which_views(capsys: pytest.CaptureFixture[str]) -> None:
    test = load("synthetic:100").test
    expected = fastmlp.load_model("run/original", "numpy").evaluate(test.images, test.labels, views="mirror")
    evaluate = ["evaluate", "--model", "run/original", *MACHINE]
    assert main([*evaluate, *MIRROR, "--json", "--out", "mirrored"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert json.loads(Path("mirrored/results.json").read_text())["evaluation"]["original"] == expected
    assert "each image and to its mirror image" in Path("mirrored/report.md").read_text()
    assert main(["compare", "run/original", "mirrored", *MACHINE]) == 0
    told = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in told if "mirrored views" in line} == {"mirrored"}
    assert main([*evaluate, *MIRROR]) == 0
    assert "views              mirror\n" in capsys.readouterr().out
    assert main(evaluate) == 0
    assert "views " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("predict --model digits/original images.npy", "digits, where a mirror image does not keep its class: leave"),
        (
            "evaluate --model digits/original",
            "digits, where a mirror image does not keep its class: leave views at one",
        ),
        ("predict --model features/head x.npy", "takes features, which have no mirror image: leave views at one."),
        (
            "evaluate --model features/head --features x.npy --labels y.npy",
            "takes features, which have no mirror image",
        ),
        ("evaluate --model features/head", "takes features, which have no mirror image"),
        ("predict --model run/original x.npy", "Features have no mirror image: give images"),
        ("evaluate --model run/original --features x.npy --labels y.npy --out new", "Features have no mirror image"),
    ],
)
def test_where_there_is_no_mirror_image(command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), *MIRROR, *MACHINE]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert not Path("new").exists()


def test_other_views_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--model", "run/original", "images.npy", "--views", "miror"])
    assert "did you mean mirror" in capsys.readouterr().err
