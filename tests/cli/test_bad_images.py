"""Images that cannot be read: told by every command that reads images, and left out where that is asked for."""

import csv
import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastmlp.cli.main import main
from fastmlp.features.store import open_store
from tests.faults.quick import picture
from tests.photos import draw_photos

SMALL = ["--extractor", "pixels", "--backend", "numpy", "--threads", "1", "--epochs", "1", "--dataset", "folder:pets"]
MODEL = ["--model", "run/original", "--backend", "numpy"]
SKIP = ["--on-bad-image", "skip"]
NOT_AN_IMAGE = "not a BMP, DIB, GIF, JPEG, PNG, PPM, TIFF or WEBP file"
BAD = {"pets/train/dog/bad.png": NOT_AN_IMAGE}
LEFT_OUT = {"files": {".heic": 1}, "images": BAD}


@pytest.fixture(autouse=True)
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes, with one bad image and one of an unknown format."""
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", picture)  # drawing takes seconds
    monkeypatch.chdir(tmp_path)
    draw_photos(Path("pets"), {"train": 20, "test": 2})
    Path("pets/train/dog/bad.png").write_bytes(b"")
    Path("pets/train/cat/photo.heic").write_bytes(b"")


@pytest.fixture
def trained() -> None:
    assert main(["train", *SMALL, *SKIP, "--out", "run"]) == 0


def read(name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(Path(name).read_text())
    return content


@pytest.mark.parametrize("command", ["train", "extract", "sweep", "reproduce", "augment"])
def test_a_bad_image_ends_every_command_by_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [command, *(SMALL[:6] + SMALL[8:] if command == "augment" else SMALL)]
    assert main([*argv, "--out", "run"]) == 4
    told = capsys.readouterr().err
    assert f"pets/train/dog/bad.png cannot be read as an image ({NOT_AN_IMAGE})" in told
    assert "--on-bad-image skip" in told
    assert "Left out of pets: 1 .heic." in told


def test_what_is_left_out_is_recorded_with_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, *SKIP, "--out", "run"]) == 0
    assert read("run/original/config.json")["left_out"] == LEFT_OUT
    assert "1 .heic, 1 unreadable" in Path("run/original/README.md").read_text()
    told = capsys.readouterr().err
    assert told.count("Left out of pets: 1 .heic.") == 1
    assert told.count("1 of 45 images cannot be read and is left out:") == 1


def test_what_is_left_out_is_recorded_with_a_sweep() -> None:
    argv = ["--learning-rates", "0.1", "--weight-decays", "0", "--seeds", "1", "--out", "run"]
    assert main(["sweep", *SMALL, *SKIP, *argv]) == 0
    data = read("run/sweep.json")["data"]
    assert isinstance(data, dict)
    assert data["left_out"] == LEFT_OUT


def test_what_is_left_out_is_recorded_with_a_reproduction() -> None:
    assert main(["reproduce", *SMALL, *SKIP, "--out", "run"]) == 0
    data = read("run/results.json")["data"]
    assert isinstance(data, dict)
    assert data["left_out"] == LEFT_OUT
    assert "Left out of the data: 1 .heic, 1 unreadable" in Path("run/report.html").read_text()


def test_the_model_of_a_class_of_another_spelling_is_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    """The data came from macOS, or the model from a time when names were taken as they were."""
    for part in ("train", "test"):
        Path("pets", part, "cat").rename(Path("pets", part, unicodedata.normalize("NFD", "kätzchen")))
    assert main(["train", *SMALL, *SKIP, "--out", "run"]) == 0
    names = read("run/original/config.json")["class_names"]
    assert names == ["dog", "kätzchen"]
    for part in ("train", "test"):
        Path("pets", part, unicodedata.normalize("NFD", "kätzchen")).rename(Path("pets", part, "kätzchen"))
    for form in ("NFC", "NFD"):
        config = read("run/original/config.json") | {"class_names": ["dog", unicodedata.normalize(form, "kätzchen")]}
        Path("run/original/config.json").write_text(json.dumps(config))
        capsys.readouterr()
        assert main(["evaluate", *MODEL, *SKIP, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["samples"] == 4


def test_evaluate_reads_as_it_is_told(trained: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *MODEL, "--json"]) == 4
    capsys.readouterr()
    assert main(["evaluate", *MODEL, *SKIP, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 4


class TestPredict:
    """Two good images, a missing one and a bad one between them."""

    INPUTS = ("pets/test/cat/0.png", "gone.png", "pets/train/dog/bad.png", "pets/test/dog/1.png")

    def predict(self, *options: str) -> int:
        return main(["predict", *MODEL, *options, *self.INPUTS])

    def test_by_default_all_bad_ones_are_named_and_nothing_else(
        self, trained: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.predict() == 4
        written = capsys.readouterr()
        assert written.out == ""
        assert "2 of 4 images cannot be read:" in written.err
        assert "gone.png (No such file or directory)" in written.err
        assert f"bad.png ({NOT_AN_IMAGE})" in written.err
        assert "nor can 1 more: repair or remove them, or leave out what cannot be read by --on-bad-image skip" in (
            written.err
        )

    @pytest.mark.parametrize("options", [["--format", "csv"], []])
    def test_tables_have_rows_of_the_others(
        self, trained: None, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.predict(*SKIP, *options) == 0
        written = capsys.readouterr()
        first = [line.replace(",", " ").split()[0] for line in written.out.splitlines()]
        assert first == ["image", self.INPUTS[0], self.INPUTS[3]]
        assert "2 of 4 images cannot be read and are left out:" in written.err
        if options:
            assert {len(row) for row in csv.reader(io.StringIO(written.out))} == {3}

    @pytest.mark.parametrize("options", [["--format", "jsonl"], ["--json"]])
    def test_json_has_the_reason_in_its_place(
        self, trained: None, options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.predict(*SKIP, *options) == 0
        text = capsys.readouterr().out
        rows = json.loads(text) if "--json" in options else [json.loads(line) for line in text.splitlines()]
        assert [row["image"] for row in rows] == list(self.INPUTS)
        assert [row.get("error") for row in rows] == [None, "No such file or directory", NOT_AN_IMAGE, None]
        assert ["label" in row for row in rows] == [True, False, False, True]

    def test_none_left_is_an_error(self, trained: None, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["predict", *MODEL, *SKIP, "--json", "gone.png", "pets/train/dog/bad.png"]) == 4
        assert capsys.readouterr().out == ""

    def test_a_folder_without_images_is_left_out_too(self, trained: None, capsys: pytest.CaptureFixture[str]) -> None:
        Path("empty").mkdir()
        Path("nested/inner").mkdir(parents=True)
        argv = ["predict", *MODEL, "--format", "jsonl"]
        for bad in ("empty", "nested"):
            assert main([*argv, bad, self.INPUTS[0]]) == 4
            assert f"{bad} has no images" in capsys.readouterr().err
        assert main([*argv, *SKIP, "empty", "nested", self.INPUTS[0]]) == 0
        written = capsys.readouterr()
        assert len(written.out.splitlines()) == 1
        assert "empty has no images" in written.err
        assert "only 1 nested folder: add" in written.err
        assert main([*argv, *SKIP, "empty"]) == main([*argv, *SKIP, "empty", "nested"]) == 4

    def test_giants_need_leave(self, trained: None, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["predict", *MODEL, "--max-pixels"]
        assert main([*argv, "1023", self.INPUTS[0]]) == 4
        assert "(Image size (1024 pixels) exceeds limit of 1023 pixels, which --max-pixels raises)" in (
            capsys.readouterr().err
        )
        assert main([*argv, "1024", self.INPUTS[0]]) == 0


@pytest.mark.parametrize("option", [SKIP, ["--max-pixels", "5"]])
def test_features_made_elsewhere_are_no_images(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--features", "x.npy", *option]) == 2
    assert f"{option[0]} is for images" in capsys.readouterr().err


def test_a_mistyped_choice_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--on-bad-image", "skp"]) == 2
    assert "There is no --on-bad-image 'skp', did you mean skip: choose fail or skip." in capsys.readouterr().err


def test_a_quick_look_tells_of_classes_that_it_does_not_see(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pets/train/dog/bad.png").unlink()
    assert main(["extract", *SMALL, "--limit", "1"]) == 0
    assert "None of the 1 training images is of these classes: " in capsys.readouterr().err


# The list of them.


def write_deep(path: Path) -> None:
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(path)


def cut(path: Path) -> None:
    content = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(content, "PNG" if path.suffix == ".png" else "JPEG")
    path.write_bytes(content.getvalue()[: content.tell() // 2])


BAD_KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.jpg": (cut, "truncated"),
    "cut.png": (cut, "truncated"),
    "deep.png": (write_deep, "not 8 bits per channel"),
    "deep.tiff": (write_deep, "not 8 bits per channel"),
    "empty.jpg": (Path.touch, NOT_AN_IMAGE),
    "giant.png": (lambda path: Image.new("1", (300, 200)).save(path), "exceeds limit of 50000 pixels"),
    "gone.png": (lambda path: path.symlink_to("nowhere.png"), "No such file"),
    "itself.png": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "page.jpg": (lambda path: path.write_text("<html>404</html>"), NOT_AN_IMAGE),
    "pipe.gif": (os.mkfifo, "it is not a file"),
}
LIMIT = ["--max-pixels", "50000"]


def write_good_ones(folder: Path) -> int:
    """Images that are odd and yet can be read; how many."""
    colours = Image.effect_noise((40, 40), 50).convert("RGB")
    colours.convert("CMYK").save(folder / "odd-cmyk.jpg")
    colours.quantize(8).save(folder / "odd-palette.png", transparency=0)
    colours.save(folder / "odd-animated.gif", save_all=True, append_images=[colours.rotate(90)])
    colours.save(folder / "odd-suffix.bmp", "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    colours.save(folder / "odd-turned.jpg", exif=exif)
    return len(list(folder.glob("odd-*")))


@pytest.fixture
def zoo() -> list[dict[str, str]]:
    """Two classes, one of which has a bad image of every kind beside good ones; what the list of bad ones must say."""
    draw_photos(Path("zoo"), {"train": 12, "test": 2}, digits=2)
    bad = Path("zoo/train/cat")
    write_good_ones(bad)
    for name, (write, _) in BAD_KINDS.items():
        write(bad / name)
    return [{"path": str(bad / name), "reason": reason} for name, (_, reason) in BAD_KINDS.items()]


def assert_listed(path: str, expected: list[dict[str, str]]) -> dict[str, str]:
    """That the list names these images, with reasons that have these words; the reasons."""
    listed = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert [one["path"] for one in listed] == [one["path"] for one in expected]
    for one, wanted in zip(listed, expected, strict=True):
        assert wanted["reason"] in one["reason"], one
    return {one["path"]: one["reason"] for one in listed}


@pytest.mark.parametrize("command", ["extract", "train", "sweep", "probe", "reproduce"])
def test_bad_images_of_every_kind_are_listed_and_not_among_the_rows(
    command: str, zoo: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["--learning-rates", "0.1", "--weight-decays", "0", "--seeds", "1"] if command == "sweep" else []
    argv = [command, *SMALL[:-1], "folder:zoo", *LIMIT, *sweep, "--out", "run"]
    assert main(argv) == 4
    told = capsys.readouterr().err
    assert f"{len(zoo)} of 43 images cannot be read:" in told
    assert not list(Path("run").rglob("*.json*"))
    assert main([*argv, *SKIP]) == 0
    told = capsys.readouterr().err
    assert told.count(f"{len(zoo)} of 43 images cannot be read and are left out:") == 1
    assert told.count("Bad images: run/bad-images.jsonl") == 1
    reasons = assert_listed("run/bad-images.jsonl", zoo)
    stores = [open_store(path) for path in Path(os.environ["FASTMLP_CACHE_DIR"], "features").glob("*-train-*")]
    assert [store.shape[0] for store in stores] == [len(store.labels) for store in stores] == [29]
    recorded = {"train": "run/original/results.json", "sweep": "run/sweep.json", "probe": "run/probe.json"}
    if command != "extract":
        content = read(recorded.get(command, "run/results.json"))["data"]
        assert isinstance(content, dict)
        assert content["left_out"]["images"] == reasons
    for one in zoo:
        Path(one["path"]).unlink()
    assert main(argv) == 0
    assert not Path("run/bad-images.jsonl").exists()
    assert len(list(Path(os.environ["FASTMLP_CACHE_DIR"], "features").glob("*-train-*"))) == 1  # the same rows


def test_bad_images_are_listed_beside_a_sheet(zoo: list[dict[str, str]]) -> None:
    assert main(["augment", "--dataset", "folder:zoo", *LIMIT, *SKIP, "--out", "run"]) == 0
    assert_listed("run/bad-images.jsonl", zoo)


def test_bad_images_are_listed_where_a_model_is_evaluated(trained: None, zoo: list[dict[str, str]]) -> None:
    argv = ["evaluate", *MODEL, "--dataset", "folder:zoo", *LIMIT, "--out", "judged"]
    assert main(argv) == 4
    assert not Path("judged").exists()
    assert main([*argv, *SKIP]) == 0
    reasons = assert_listed("judged/bad-images.jsonl", zoo)
    data = read("judged/results.json")["data"]
    assert isinstance(data, dict)
    assert data["left_out"] == {"files": {}, "images": reasons}


def test_bad_images_of_every_kind_are_told_in_answers(
    trained: None, zoo: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *MODEL, *LIMIT, *SKIP, "--json", "zoo/train/cat"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in rows if "error" in row] == [one["path"] for one in zoo]
    assert sum("label" in row for row in rows) == 17


@pytest.mark.parametrize("spoilt", [["zoo/train/dog"], ["zoo/test/dog"], ["zoo/train/cat", "zoo/train/dog"], ["zoo"]])
def test_a_class_of_bad_images_only_is_refused(spoilt: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    draw_photos(Path("zoo"), {"train": 3, "test": 2})
    for path in [path for folder in spoilt for path in Path(folder).rglob("*.png")]:
        path.write_bytes(b"no image")
    assert main(["train", *SMALL[:-1], "folder:zoo", *SKIP, "--out", "run"]) == 4
    told = capsys.readouterr().err.splitlines()[-1]
    assert "has no image that can be read" in told or "cannot be read as an image" in told
    assert not list(Path("run").rglob("*.*"))
