"""The commands as a person types them: what they print, the files they leave, and one sentence for every mistake."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastmlp.cli.main import main
from fastmlp.cli.parser import build_parser
from fastmlp.common import files
from fastmlp.models import storage
from fastmlp.training import run

SMALL = ["--dataset", "synthetic:200", "--extractor", "pixels", "--backend", "numpy", "--threads", "1", "--epochs", "3"]


pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a model that knows synthetic's classes."""
    assert main(["train", *SMALL, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    return tmp_path / "run" / "original"


def error_of(capsys: pytest.CaptureFixture[str], argv: list[str], code: int) -> str:
    """The one sentence on stderr of a command that must fail with that code."""
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("fastmlp: ")
    return last


# What the commands do.


def test_reproduce_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *SMALL, "--out", "run"]) == 0
    captured = capsys.readouterr()
    assert "original" in captured.out
    assert "augmented" in captured.out
    assert "80.140%" in captured.out
    assert "Report: run/report.html" in captured.err

    results = json.loads(Path("run/results.json").read_text())
    for row in results["table1"].values():
        assert set(row) == {"train_accuracy", "train_loss", "test_accuracy", "test_loss"}
        assert 0 <= row["test_accuracy"] <= 1
        assert row["train_loss"] > 0
    assert results["tier"]["number"] == 1
    assert results["tier"]["reason"]
    assert results["config"]["augmentation"]["crop_padding"] == 4
    assert {"augment", "extract", "train_original", "train_augmented"} <= set(results["seconds"])
    assert np.sum(results["evaluation"]["original"]["confusion"]) == results["data"]["test_images"] == 200 // 5
    alone, images = results["only_right"], results["data"]["test_images"]
    gain = results["table1"]["augmented"]["test_accuracy"] - results["table1"]["original"]["test_accuracy"]
    assert (alone["augmented"] - alone["original"]) / images == pytest.approx(gain)
    assert len(results["claims"]) == 3
    for name in ("original", "augmented"):
        left = {path.name for path in Path("run", name).iterdir()}
        assert left == {
            "README.md",
            "config.json",
            "history.json",
            "model.safetensors",
            "results.json",
            "rows.safetensors",
        }
    assert Path("run/report.html").stat().st_size > 10_000
    assert len(list(Path("run/figures").glob("*.png"))) >= 4
    assert not [path for path in Path("run").rglob("*") if path.name.startswith(".")]


def test_table_figures_are_full_passes_over_the_final_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", *SMALL, "--out", "run", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    history = results["history"]["original"]
    assert results["table1"]["original"]["test_loss"] == pytest.approx(history["test_loss"][-1], rel=1e-6)
    assert results["table1"]["original"]["train_loss"] < history["train_loss"][-1]  # the mean over a falling epoch


def test_json_is_all_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", *SMALL, "--json"]) == 0
    stores = json.loads(capsys.readouterr().out)
    assert stores["train"]["shape"] == stores["augmented"]["shape"] == [200, 3072]
    assert Path(stores["test"]["path"]).is_dir()


def test_train_then_evaluate_agree(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["sizes"] == [3072, 64, 10]
    history = json.loads((trained / "history.json").read_text())
    assert main(["evaluate", "--model", str(trained), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["samples"] == 40
    assert figures["loss"] == pytest.approx(history["test_loss"][-1], rel=1e-5)
    assert figures["accuracy"] == history["test_accuracy"][-1]


def test_train_on_augmented(tmp_path: Path) -> None:
    assert main(["train", *SMALL, "--on", "augmented", "--out", "run"]) == 0
    assert Path("run/augmented/model.safetensors").exists()
    assert not Path("run/original").exists()


def test_predict_names_the_classes_of_images(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures").mkdir()
    for name, shade in (("dark.png", 10), ("light.png", 240)):
        Image.new("RGB", (50, 40), (shade,) * 3).save(Path("pictures") / name)
    assert main(["predict", "--model", str(trained), "pictures", "pictures/dark.png", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["image"]).name for row in rows] == ["dark.png", "light.png", "dark.png"]
    assert rows[0]["label"] == rows[2]["label"]
    assert all(0.1 <= row["probability"] <= 1 for row in rows)


def test_augment_draws_a_sheet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["augment", "--dataset", "synthetic:50", "--backend", "numpy", "--out", "sheet"]) == 0
    path = Path(capsys.readouterr().out.strip())
    with Image.open(path) as image:
        assert image.width > 500
        assert len(np.unique(np.asarray(image.convert("L")))) > 50


def test_backends_tells_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numpy"]["usable"]
    assert found["numpy"]["tier"]["number"] == 1
    assert {"numpy", "numba", "torch", "cupy"} <= set(found)
    for backend in found.values():
        assert backend["usable"] or (backend["reason"] and backend["mend"])


def test_resume_in_an_absent_folder_starts_from_the_beginning(tmp_path: Path) -> None:
    assert main(["train", *SMALL, "--out", "new", "--resume"]) == 0
    history = json.loads(Path("new/original/history.json").read_text())
    assert history["epoch"] == [1, 2, 3]


def test_option_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs(*argv: str) -> object:
        return build_parser().parse_args(["train", *argv]).epochs

    assert epochs() is None
    monkeypatch.setenv("FASTMLP_EPOCHS", "7")
    assert epochs() == 7
    assert epochs("--epochs", "9") == 9


# What people get wrong.


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--dataset", "mnist"], 2, "no dataset 'mnist'"),
        (["--extractor", "resnet"], 2, "no extractor 'resnet'"),
        (["--preset", "quick"], 2, "no preset 'quick'"),
        (["--backend", "tensorflow"], 2, "no backend 'tensorflow'"),
        (["--backend", "cupy"], 3, "cupy cannot run here"),
        (["--backend", "numpy:cuda"], 3, "no device 'cuda'"),
        (["--dtype", "float8"], 2, "dtype must be one of"),
        (["--dtype", "float16"], 2, "float16 is for backbones on a GPU: leave --dtype out with pixels"),
        (["--dtype", "tf32"], 2, "tf32 is for backbones on a GPU: leave --dtype out with pixels"),
        (["--dtype", "bfloat16"], 2, "bfloat16 is for backbones on a GPU: leave --dtype out with pixels"),
        (["--convolutions", "cudnn"], 2, "cudnn is for backbones on an NVIDIA GPU: leave it out with pixels"),
        (["--learning-rate", "-1"], 2, "--learning-rate must be"),
        (["--limit", "0"], 2, "--limit must be 1 or more"),
        (["--weights", "w.pth"], 2, "pixels have no weights"),
        (["--image-size", "64"], 2, "leave it out with pixels"),
        (["--dataset", "folder:nowhere"], 4, "nowhere"),
        (["--dataset", "cifar10", "--data-dir", "nowhere"], 4, "nowhere"),
        (["--extractor", "patches", "--weights", "gone.safetensors"], 4, "does not exist"),
        (["--learning-rate", "1e30"], 1, "diverged"),
    ],
)
def test_mistakes(options: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in error_of(capsys, ["reproduce", *SMALL, *options, "--out", "run"], code)
    assert not Path("run/results.json").exists()
    assert code == 1 or not Path("run").exists()


@pytest.mark.parametrize(
    "options", [["--epochs", "0"], ["--epochs", "many"], ["--seed", "-1"], ["--hidden-layer-sizes", "64,x"]]
)
def test_impossible_options_are_refused_by_the_parser(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", *options])
    assert stopped.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_damaged_data(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("data/cifar-10-batches-bin")
    folder.mkdir(parents=True)
    argv = ["reproduce", *SMALL, "--dataset", "cifar10", "--data-dir", "data"]
    (folder / "data_batch_1.bin").write_bytes(bytes(3073 * 2 + 5))
    assert "lacks data_batch_2.bin, data_batch_3.bin" in error_of(capsys, argv, 4)
    for name in (*(f"data_batch_{i}.bin" for i in range(2, 6)), "test_batch.bin"):
        (folder / name).write_bytes(bytes(3073))
    assert "data_batch_1.bin is truncated" in error_of(capsys, argv, 4)


def test_a_checkpoint_of_another_experiment_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", *SMALL, "--seed", "5", "--out", str(trained.parent), "--resume"]
    assert "another experiment" in error_of(capsys, argv, 2)


def test_a_damaged_checkpoint_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "damaged" in error_of(capsys, ["train", *SMALL, "--out", str(trained.parent), "--resume"], 4)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_or_missing_model(trained: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (32, 32)).save("a.png")
    argv = ["predict", "--model", str(trained), "a.png"]
    (trained / name).write_bytes(b"{}")
    assert "damaged" in error_of(capsys, argv, 4)
    (trained / name).unlink()
    error_of(capsys, argv, 4)


def test_an_unreadable_image(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.png").write_bytes(b"not a picture")
    assert "a.png" in error_of(capsys, ["predict", "--model", str(trained), "a.png"], 4)
    assert "gone.png" in error_of(capsys, ["predict", "--model", str(trained), "gone.png"], 4)


def test_a_dataset_with_other_classes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", "--model", str(trained), "--dataset", "digits"]
    assert "other classes" in error_of(capsys, argv, 2)


def test_output_where_a_file_stands(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    assert "taken" in error_of(capsys, ["reproduce", *SMALL, "--out", "taken"], 1)
    assert Path("taken").read_text() == "mine"


def test_a_full_disk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "run/original/checkpoint.safetensors")

    monkeypatch.setattr(storage, "write_bytes", full)
    sentence = error_of(capsys, ["reproduce", *SMALL, "--out", "run"], 1)
    assert "No space left on device" in sentence
    assert "Free some space" in sentence
    assert not [path for path in Path("run").rglob("*") if path.is_file()]


def test_an_interrupted_run_exits_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_together", interrupted)
    assert main(["train", *SMALL, "--out", "run"]) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.usefixtures("heed_interrupts")
def test_an_interrupt_in_a_callback_that_python_only_prints_is_none_the_less_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Collected:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def interrupted(*_: object, **__: object) -> None:
        Collected()
        time.sleep(5)  # the interrupt ends it
        raise AssertionError

    monkeypatch.setattr(run, "train_together", interrupted)
    hook = sys.unraisablehook
    assert main(["train", *SMALL, "--out", "run"]) == 130
    assert sys.unraisablehook is hook
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_is_one_sentence_and_a_traceback_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(files, "cache_dir", broken)
    monkeypatch.setattr("fastmlp.experiments.feature_sets.cache_dir", broken)
    assert "--debug" in error_of(capsys, ["train", *SMALL], 1)
    with pytest.raises(ZeroDivisionError):
        main(["train", *SMALL, "--debug"])


# What starting costs, and what a pipe may do.


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fastmlp.cli.parser import build_parser; build_parser().format_help(); "
        "print(sorted({'numpy', 'torch', 'numba', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m fastmlp backends --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
