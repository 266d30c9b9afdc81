"""Images that cannot be read: told by every command that reads images, and left out where that is asked for."""

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest

from fastmlp.cli.main import main
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
    assert told.count("1 of 45 images cannot be read and are left out:") == 1


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
