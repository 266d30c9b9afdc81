"""What people get wrong, on the command line and in Python: one sentence each, which names the fix."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastmlp
from fastmlp import Augmenter, FeatureExtractor, MLPClassifier
from fastmlp.cli.main import main
from fastmlp.common.errors import FastMLPError, UsageError, did_you_mean
from fastmlp.models.predictor import Predictor
from fastmlp.training.standardize import odd_scale
from tests.shell import is_one_sentence

CLASSES, WIDTH, ROWS = 3, 8, 120
RNG = np.random.default_rng(0)
Y = RNG.integers(0, CLASSES, ROWS)
X = (RNG.standard_normal((ROWS, WIDTH)) + 4 * np.eye(CLASSES, WIDTH)[Y]).astype(np.float32)
PIXELS = RNG.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
NAN = np.where(np.arange(ROWS)[:, None] == 5, np.nan, X)
SPREAD = X * np.r_[1e6, np.ones(WIDTH - 1)].astype(np.float32)
FILES: dict[str, Any] = {
    "X": X, "wide": X[:, :5], "transposed": X.T, "nan": NAN, "cube": X.reshape(ROWS, 2, 4), "huge": 1e4 * X,
    "spread": SPREAD, "y": Y, "short": Y[:50], "one": 0 * Y, "floats": Y.astype(float), "column": Y[:, None],
    "onehot": np.eye(CLASSES)[Y], "from1": Y + 1, "negative": Y - 1, "float-images": PIXELS.astype(np.float32),
    "channels-last": PIXELS.transpose(0, 2, 3, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files above, folders of images, a model of features (runs/head) and one of images (run)."""
    folder = tmp_path_factory.mktemp("mistakes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FASTMLP_CACHE_DIR", str(folder / "cache"))
        for name, array in FILES.items():
            np.save(f"{name}.npy", array)
        np.savez("unlabelled.npz", features=X)
        np.save("words.npy", np.array(["a", "b", None], dtype=object))
        np.savetxt("X.csv", X)
        for path in ("pets/cat/1", "pets/cat/2", "pets/dog/1", "flat/1", "half/train/cat/1", "half/train/dog/1"):
            Path(f"{path}.png").parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[0].transpose(1, 2, 0)).save(f"{path}.png")
        Path("empty").mkdir()
        quick = ["--backend", "numpy", "--threads", "1", "--epochs", "2", "--quiet"]
        assert main(["train", "--features", "X.npy", "--labels", "from1.npy", *quick, "--out", "runs"]) == 0
        images = ["--dataset", "synthetic:100", "--extractor", "pixels"]
        assert main(["train", *images, *quick, "--out", "run"]) == 0
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(place / "cache"))
    monkeypatch.setenv("FASTMLP_BACKEND", "numpy")
    monkeypatch.setenv("FASTMLP_THREADS", "1")


FEATURES = "train --epochs 2 --out new --features"
IMAGES = "train --epochs 2 --out new --extractor pixels --dataset"
HEAD, OF_IMAGES = "--model runs/head", "--model run/original"


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (f"{FEATURES} X.npy --labels short.npy", 4, "120 rows of features in X.npy, but 50 labels: give one label per"),
        (f"{FEATURES} transposed.npy --labels y.npy", 4, "but 120 labels: X seems transposed, so save X.T."),
        (f"{FEATURES} X.npy --labels one.npy", 4, "There is one class in 120 labels: give two classes or more"),
        (f"{FEATURES} X.npy --labels floats.npy", 4, "labels of type float64: save them as whole numbers, y.astype"),
        (f"{FEATURES} X.npy --labels column.npy", 4, "has labels (120, 1), not one per row (n,): save y.ravel()."),
        (f"{FEATURES} X.npy --labels onehot.npy", 4, "for one-hot rows, save y.argmax(axis=1)."),
        (f"{FEATURES} X.npy --labels negative.npy", 4, "has label -1, but labels run from 0 to"),
        (f"{FEATURES} X.npy --labels words.npy", 4, "turn words into strings by y.astype(str)"),
        (f"{FEATURES} X.npy --labels gone.npy", 4, "gone.npy does not exist or is not a file: check the path."),
        (f"{FEATURES} X.npy", 4, "X.npy has no labels: pass them with --labels FILE, those of test"),
        (f"{FEATURES} unlabelled.npz", 4, "features with --test-labels FILE, or name their column by"),
        (f"{FEATURES} nan.npy --labels y.npy", 4, "Row 5 of nan.npy has NaN, infinity or a number beyond float32"),
        (f"{FEATURES} cube.npy --labels y.npy", 4, "flatten them by X.reshape(len(X), -1)."),
        (f"{FEATURES} X.csv --labels y.npy", 4, "read it with numpy.loadtxt and save it with numpy.save."),
        (f"{FEATURES} X.npy --labels y.npy --test-features wide.npy --test-labels y.npy", 4, "has 5 features per row"),
        (f"{FEATURES} huge.npy --labels y.npy --epochs 30 --preset paper", 1, "diverged in epoch"),
        ("train --labels y.npy", 2, "go with --features: give that too."),
        ("train --test-features X.npy", 2, "go with --features: give that too."),
        (f"{IMAGES} folder:empty", 4, "empty has 0 folders of images: make one per class, for at least two classes."),
        (f"{IMAGES} folder:flat", 4, "flat has 0 folders of images: make one per class, for at least two classes."),
        (f"{IMAGES} folder:pets", 4, "pets/dog has only one image: add another, because one is held out for testing."),
        (f"{IMAGES} folder:half", 4, "half has a train/ but no test/: add one, or give folder:half/train."),
        (f"{IMAGES} folder:gone", 4, "gone is not a folder: pass one with a sub-folder of images for each class."),
        (f"{IMAGES} pets", 2, "There is no dataset 'pets': use folder:pets for that folder of images."),
        (f"{IMAGES} cifar-10", 2, "There is no dataset 'cifar-10', did you mean cifar10: choose one of cifar10, digi"),
        (f"{IMAGES} Digit", 2, "did you mean digits"),
        (f"{IMAGES} synthetic:10", 2, "synthetic:10 is too small: ask for at least 50 images."),
        ("train --extractor resnet", 2, "There is no extractor 'resnet', did you mean resnet18: choose one of"),
        ("train --extractor resnet50", 2, "There is no extractor 'resnet50', did you mean torchvision:resnet50"),
        ("train --extractor patch", 2, "did you mean patches"),
        (
            "train --preset fats",
            2,
            "There is no preset 'fats', did you mean fast: choose one of paper, fast, best, tabular.",
        ),
        ("train --backend numbda", 2, "There is no backend 'numbda'"),
        ("train --dtype double", 2, "dtype must be one of float32, float64, not 'double'."),
        ("reproduce --learning-rate nan", 2, "--learning-rate must be a positive number"),
        ("predict --model gone X.npy", 4, "There is no model in gone: train one first, or check the path."),
        ("predict --model run X.npy", 4, "There is no model in run: give run/original."),
        ("predict --model run/original/model.safetensors X.npy", 4, "is the file of a model: give its folder, run"),
        ("evaluate --model pets", 4, "There is no model in pets: train one first, or check the path."),
        (f"predict {HEAD} wide.npy", 4, "The model takes numbers (n, 8), 8 features per row, not float32 (1"),
        (f"predict {HEAD} nan.npy", 4, "Row 5 of the features has NaN"),
        (f"predict {HEAD} flat", 2, "takes features made elsewhere, not images: give it 8 features per row"),
        (f"predict {OF_IMAGES} empty", 4, "empty has no images"),
        (f"predict {OF_IMAGES} float-images.npy", 4, "not float32 from 0.0 to 255.0: give np.rint(X).clip(0, 255)"),
        (f"predict {OF_IMAGES} channels-last.npy", 4, "give X.transpose(0, 3, 1, 2)."),
        (f"evaluate {HEAD} --features X.npy --labels y.npy", 4, "label '0', but the classes are 1, 2, 3."),
        (f"evaluate {HEAD}", 2, "The model was trained on features made elsewhere: give --features and --labels."),
    ],
)  # fmt: skip
def test_on_the_command_line(command: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == code
    captured = capsys.readouterr()
    last = captured.err.strip().splitlines()[-1]
    assert captured.out == ""
    assert last.startswith("fastmlp: ")
    assert says in last
    assert is_one_sentence(last)
    assert not list(Path("new").rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("train --epohcs 3", "unrecognized arguments: --epohcs 3, did you mean --epochs"),
        (
            "train --epochs 2 --learningrate=0.1",
            "unrecognized arguments: --learningrate=0.1, did you mean --learn",
        ),
        ("extract --on x", "unrecognized arguments: --on x, did you mean --on-bad-image\n"),
        ("train --ext pixels", "unrecognized arguments: --ext pixels, did you mean --extractor\n"),
        ("train --epoch=3", "unrecognized arguments: --epoch=3, did you mean --epochs\n"),
        ("sweep --learning-r 1", "did you mean --learning-rates\n"),
        ("reproduce --seed=1 --res", "did you mean --resume\n"),
        ("evaluate --model m --label X", "did you mean --labels or --label-column\n"),
        ("backends --chec numpy", "did you mean --check\n"),
        ("bench --smok", "did you mean --smoke\n"),
        ("predict --mode m X.npy", "the following arguments are required: --model"),
        ("predict --model m a.png --zzz", "unrecognized arguments: --zzz\n"),
        ("--quiet train --epochs 2", "--quiet belongs after the command: fastmlp train --quiet"),
        ("trian", "invalid choice: 'trian', did you mean train (choose from reproduce, extract, train"),
        ("evalute --model m", "invalid choice: 'evalute', did you mean evaluate (choose"),
        ("Predict --model m X.npy", "invalid choice: 'Predict', did you mean predict (choose"),
        ("bake", "invalid choice: 'bake' (choose from reproduce"),
        ("train --on orignal", "argument --on: invalid choice: 'orignal', did you mean original (choose from original"),
        ("predict --model m X.npy --format json", "invalid choice: 'json', did you mean jsonl (choose"),
        ("bench --device gpu", "invalid choice: 'gpu' (choose from cpu, cuda, emulated)"),
        ("--completion bsh", "invalid choice: 'bsh', did you mean bash"),
        ("predict --model m X.npy --seed 1", "unrecognized arguments: --seed 1"),
        ("evaluate --model m --extractor pixels", "unrecognized arguments: --extractor pixels"),
    ],
)
def test_options_that_there_are_not(command: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_the_help_of_a_trained_model_has_no_options_of_training(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert "--backend" in shown
    assert "--weights" in shown
    for option in ("--extractor", "--image-size", "--seed", "--epochs", "--preset", "--augment"):
        assert f"{option} " not in shown
    assert ("--dataset " in shown) == ("--limit " in shown) == (command == "evaluate")


def test_labels_from_one_are_names_of_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--model", "runs/head", "--features", "X.npy", "--labels", "from1.npy"]) == 0
    assert "\n1 " in capsys.readouterr().out
    assert set(fastmlp.load_model("runs/head", "numpy").classes) == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "says"), [("huge", "are of the size of"), ("spread", "have spreads as different as"), ("X", None)]
)
def test_features_of_an_odd_scale_are_warned_of(
    name: str, says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*FEATURES.split(), f"{name}.npy", "--labels", "y.npy", "--epochs", "1", "--learning-rate", "1e-9", "-q"]
    assert main([*argv[:4], f"scale-{name}", *argv[5:], "--preset", "paper"]) == 0
    said = capsys.readouterr().err
    assert (f"The features in {name}.npy {says}" in said and "--preset tabular" in said) if says else said == ""


# In Python.


def head(**options: Any) -> MLPClassifier:
    return MLPClassifier(backend="numpy", max_iter=2, **options)


@pytest.fixture(scope="module")
def of_features(place: Path) -> Predictor:
    return fastmlp.load_model(place / "runs/head", "numpy")


@pytest.fixture(scope="module")
def of_images(place: Path) -> Predictor:
    return fastmlp.load_model(place / "run/original", "numpy")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: head().fit(X.T, Y), "X has 8 rows, but y 120 labels: X seems transposed, so pass X.T."),
        (lambda: head().fit(PIXELS, Y[:20]), "put a FeatureExtractor before the classifier"),
        (lambda: head().fit(X, np.eye(3)[Y]), "for one-hot rows, pass y.argmax(axis=1)."),
        (lambda: head().fit(X, 0 * Y), "y has only one class, 0: pass rows of two classes or more."),
        (lambda: head(preset="papre").fit(X, Y), "not 'papre', did you mean paper."),
        (lambda: head(batch_size="big").fit(X, Y), "batch_size must be a whole number from 1 on, or auto, not 'big'."),
        (lambda: head(random_state=-1).fit(X, Y), "random_state must be a whole number from 0 on"),
        (lambda: head(hidden_layer_sizes=64.5).fit(X, Y), "hidden_layer_sizes must be whole numbers"),
        (lambda: FeatureExtractor("patchs").fit(PIXELS), "did you mean patches"),
        (lambda: FeatureExtractor("pixels").fit(PIXELS[0]), "give X[None] for one image."),
        (lambda: FeatureExtractor("pixels").fit(PIXELS[0].transpose(1, 2, 0)), "give X.transpose(2, 0, 1)[None] for"),
        (lambda: FeatureExtractor("pixels").fit(PIXELS[:, 0]), "give X[:, None].repeat(3, axis=1) for grey ones."),
        (lambda: FeatureExtractor("pixels").fit(PIXELS[:, :1]), "give X.repeat(3, axis=1), because they are grey."),
        (lambda: FeatureExtractor("pixels").fit(PIXELS.transpose(0, 2, 3, 1)), "give X.transpose(0, 3, 1, 2)."),
        (lambda: FeatureExtractor("pixels").fit(PIXELS / 255), "give np.rint(255 * X).clip(0, 255).astype('uint8')."),
        (lambda: FeatureExtractor("pixels").fit(PIXELS * 1.0), "give np.rint(X).clip(0, 255).astype('uint8')."),
        (lambda: FeatureExtractor("pixels").fit(PIXELS * np.nan), "fix or remove images with NaN or infinity."),
        (lambda: FeatureExtractor("pixels").fit("pets"), "read files by PIL.Image.open(name).convert('RGB')."),
        (lambda: FeatureExtractor("pixels").fit(["a.png", "b.png"]), "not of shape (2,)"),
        (lambda: FeatureExtractor().fit(PIXELS[..., :4, :4]), "Patches are 6 pixels wide: give larger images"),
        (lambda: Augmenter().fit_transform(PIXELS * 1.0), "give np.rint(X).clip(0, 255).astype('uint8')."),
        (lambda: Augmenter(contrast=1.5).fit_transform(PIXELS), "contrast must be its lowest and highest factor"),  # type: ignore[arg-type]
        (lambda: Augmenter(crop_padding=-1).fit_transform(PIXELS), "crop_padding must be a whole number of pixels"),
        (lambda: fastmlp.augment.hflip(PIXELS.transpose(0, 2, 3, 1), True), "give X.transpose(0, 3, 1, 2)."),
        (lambda: fastmlp.augment.hflip(PIXELS * 1.0, True), "not float64 (20, 3, 32, 32): round and clip them"),
        (lambda: fastmlp.augment.hflip(list(PIXELS), True), "not list (): make them one array."),
        (lambda: fastmlp.load_model("run"), "There is no model in run: give run/original."),
    ],
)  # fmt: skip
def test_in_python(call: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError if "model" not in says else FastMLPError) as raised:
        call()
    assert says in str(raised.value)
    assert is_one_sentence(str(raised.value))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda of_features, _: of_features.predict(X[:, :5]), "8 features per row, not float32 (120, 5)"),
        (lambda of_features, _: of_features.predict(X[0]), "give X[None] for one row."),
        (lambda of_features, _: of_features.predict(NAN), "Row 5 of the features has NaN"),
        (lambda of_features, _: of_features.evaluate(X, Y[:9] + 1), "X has shape (120, 8), the labels (9,)"),
        (lambda of_features, _: of_features.predict(PIXELS), "takes features made elsewhere, not images"),
        (lambda _, of_images: of_images.predict(PIXELS * 1.0), "give np.rint(X).clip(0, 255).astype('uint8')."),
        (lambda _, of_images: of_images.predict(PIXELS / 255), "give np.rint(255 * X).clip(0, 255).astype('uint8')."),
        (lambda _, of_images: of_images.predict(PIXELS.transpose(0, 2, 3, 1)), "give X.transpose(0, 3, 1, 2)."),
        (lambda _, of_images: of_images.predict(PIXELS[0]), "give X[None] for one image."),
        (lambda _, of_images: of_images.predict(PIXELS[..., :16]), "resize them to 32x32 pixels."),
    ],
)  # fmt: skip
def test_of_a_model_in_python(
    call: Callable[[Predictor, Predictor], object], says: str, of_features: Predictor, of_images: Predictor
) -> None:
    with pytest.raises(FastMLPError) as raised:
        call(of_features, of_images)
    assert says in str(raised.value)
    assert is_one_sentence(str(raised.value))


def test_whole_numbers_of_any_type_are_images(of_images: Predictor) -> None:
    for dtype in ("int64", "uint16"):
        np.testing.assert_array_equal(of_images.predict_proba(PIXELS.astype(dtype)), of_images.predict_proba(PIXELS))


def test_lists_are_labels_too(of_features: Predictor) -> None:
    assert of_features.evaluate(X, (Y + 1).tolist()) == of_features.evaluate(X, Y + 1)


@pytest.mark.parametrize(("preset", "warns"), [("tabular", False), ("best", False), ("fast", True), ("paper", True)])
def test_the_estimator_warns_of_odd_scales_where_it_does_not_fix_them(preset: str, warns: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        head(preset=preset, learning_rate_init=1e-9).fit(SPREAD, Y)
    assert [str(one.message).startswith("The features have spreads") for one in caught] == [True] * warns
    assert all(one.filename == __file__ for one in caught), "the caller's line is shown"


def test_what_counts_as_an_odd_scale() -> None:
    assert odd_scale(X) is None
    assert odd_scale(100 + X) is not None
    assert odd_scale(100 + X, centred=True) is None
    assert odd_scale(1e-5 * X) is not None
    assert odd_scale(0 * X) is None, "constants have no scale"
    assert "1e+02 and" in str(odd_scale(X * np.r_[1e4, 100 * np.ones(WIDTH - 1)], centred=True)) or odd_scale(SPREAD)


def test_did_you_mean_keeps_silent_where_nothing_is_near() -> None:
    assert did_you_mean("numbda", ("numpy", "numba")) == ", did you mean numba"
    assert did_you_mean("xyz", ("numpy", "numba")) == ""
