"""A classifier's model folder and ONNX file answer as it does, for every kind of label that a folder holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import MLPClassifier
from fastmlp.backends import open_backend, probe
from fastmlp.cli.main import main
from fastmlp.common.environment import available_cores
from fastmlp.common.errors import UsageError

RNG = np.random.default_rng(0)
PLACES = RNG.integers(0, 3, 200)
X = 4 * np.eye(3, 6)[PLACES] + RNG.normal(size=(200, 6)) + 1e6
LABELS: dict[str, Any] = {
    "int64": np.array([0, 7, 300]),
    "negative": np.array([-5, 0, 2**40]),
    "uint8": np.array([1, 2, 255], np.uint8),
    "words": np.array(["ant", "Bär", "c d"]),
    "objects": np.array(["ant", "bee", "cat"], object),
}
UNFIT = {
    "floats": np.array([0.0, 1.0, 2.0]),
    "bools": np.array([False, True, True]),
    "beyond int64": np.array([1, 2, 2**64 - 1], np.uint64),
}


def fitted(labels: np.ndarray, **options: Any) -> MLPClassifier:
    return MLPClassifier(**{"backend": "numpy", "max_iter": 5, **options}).fit(X, labels[PLACES])


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_the_loaded_model_is_the_classifier(labels: np.ndarray, tmp_path: Path) -> None:
    model = fitted(labels)
    model.save(tmp_path / "new" / "folder")
    loaded = fastmlp.load_model(tmp_path / "new" / "folder", "numpy")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
    assert loaded.evaluate(X, loaded.predict(X))["accuracy"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "paper"},
        {"preset": "fast"},
        {"dtype": "float64"},
        {"hidden_layer_sizes": ()},
        {"early_stopping": True},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_the_options(options: dict[str, Any], tmp_path: Path) -> None:
    model = fitted(LABELS["words"], **options)
    model.save(str(tmp_path / "m"))
    model.save(tmp_path / "m")  # again
    np.testing.assert_array_equal(fastmlp.load_model(tmp_path / "m", "numpy").predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("labels", UNFIT.values(), ids=UNFIT)
def test_other_labels_are_refused_before_anything_is_written(labels: np.ndarray, tmp_path: Path) -> None:
    model = fitted(labels)
    for write in (lambda: model.save(tmp_path / "m"), lambda: model.to_onnx(tmp_path / "m.onnx")):
        with pytest.raises(UsageError, match=r"strings or whole numbers, not .*: convert y and fit again\.$"):
            write()
    assert not list(tmp_path.iterdir())


def test_a_file_in_its_place_stays(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(UsageError, match="m is a file: give a folder"):
        fitted(LABELS["words"]).save(tmp_path / "m")
    assert (tmp_path / "m").read_text() == "mine"


def test_the_command_line_opens_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitted(LABELS["words"]).save(tmp_path / "m")
    np.savez(tmp_path / "x.npz", X=X, y=LABELS["words"][PLACES])
    table, machine = str(tmp_path / "x.npz"), ["--model", str(tmp_path / "m"), "--backend", "numpy", "--json", "-q"]
    assert main(["evaluate", "--features", table, *machine]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9
    assert main(["predict", table, *machine]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 200
    assert "arrays in Python" in (tmp_path / "m" / "README.md").read_text()


def test_names_of_features_go_with_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    model = MLPClassifier(backend="numpy", max_iter=5).fit(frame, PLACES)
    model.save(tmp_path / "m")
    loaded = fastmlp.load_model(tmp_path / "m", "numpy")
    assert loaded.feature_names == tuple("abcdef")
    np.testing.assert_array_equal(loaded.predict(frame[list("fedcba")]), model.predict(frame))


def test_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = fitted(LABELS["words"])
    assert model.to_onnx(tmp_path / "m.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (labels,) = session.run(["label"], {"features": X})
    np.testing.assert_array_equal(model.classes_[labels], model.predict(X))


@pytest.mark.parametrize("backend", [name for name in ("numpy", "numba", "torch") if probe(name).usable])
def test_threads(backend: str) -> None:
    one = fitted(LABELS["words"], backend=backend, threads=1)
    assert fastmlp.estimators.arrays.backend_for(backend, X, 1).threads == 1
    rest = fitted(LABELS["words"], backend=backend)
    assert fastmlp.estimators.arrays.backend_for(backend, X).threads == available_cores()
    np.testing.assert_allclose(one.predict_proba(X), rest.predict_proba(X), atol=1e-3)
    assert open_backend(backend).threads == available_cores()
