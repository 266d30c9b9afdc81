"""ONNX graphs: ONNX Runtime's answers are ours, for heads, for every extractor, for any number of rows."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.backends import open_backend
from fastmlp.cli.main import main
from fastmlp.common.errors import BackendError, FastMLPError, UsageError
from fastmlp.datasets import digits
from fastmlp.extractors import open_extractor, patches
from fastmlp.models import export, storage
from fastmlp.models.export import export_onnx
from fastmlp.models.predictor import Predictor, load_model
from fastmlp.network.parameters import initial_parameters

onnxruntime = pytest.importorskip("onnxruntime")

IMAGES = digits.load().train.images[:60]
NAMES = [f"class {i}" for i in range(7)]


def write_model(
    folder: Path,
    extractor: dict[str, Any] | None,
    weights: str | None,
    inputs: int,
    scale: float,
    dtype: str = "float32",
    mean: Any = 0.0,
) -> Predictor:
    """A head with random weights, whose answers differ where features, less mean, are about 1 / scale."""
    parameters = initial_parameters((inputs, 64, len(NAMES)), "he", seed=1, dtype=dtype)
    parameters.weights[0][...] *= 2 * scale
    parameters.biases[0][...] = -np.broadcast_to(mean, inputs) @ parameters.weights[0]
    config = {"dataset": "synthetic", "class_names": NAMES, "extractor": extractor, "weights": weights}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    storage.save(parameters, {}, folder / "model.safetensors")
    return load_model(folder, "numpy")


def assert_same_answers(path: Path, predictor: Predictor, X: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    ours = predictor.predict_proba(X)
    assert len(set(ours.argmax(axis=1))) > 1, "the test's model should know classes apart"
    assert ours.max(axis=1).std() > 0.02
    for rows in (len(X), 1):
        probabilities, labels = session.run(["probabilities", "label"], {given.name: X[:rows]})
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, ours[:rows], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(labels, ours[:rows].argmax(axis=1))
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    assert [names[label] for label in labels] == predictor.predict(X[:1]).tolist()


def test_names_of_features_go_along(tmp_path: Path) -> None:
    predictor = write_model(tmp_path, None, None, 3, 1)
    for names in (None, ["b", "é", "a"]):
        predictor.config["feature_names"] = names
        export_onnx(predictor, tmp_path / "m.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map.get("feature_names")
        assert found == (None if names is None else json.dumps(names))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_head(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    predictor = write_model(tmp_path, None, None, 20, 1, dtype)
    assert export_onnx(predictor, tmp_path / "m.onnx") < 1e-6
    assert_same_answers(tmp_path / "m.onnx", predictor, rng.normal(size=(50, 20)).astype(np.float32))


def test_pixels(tmp_path: Path) -> None:
    predictor = write_model(tmp_path, {"name": "pixels"}, None, 3072, 2)
    export_onnx(predictor, tmp_path / "m.onnx", with_extractor=True)
    assert_same_answers(tmp_path / "m.onnx", predictor, IMAGES)


def test_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "SAMPLE_PATCHES", 5_000)
    path = tmp_path / "codebook.safetensors"
    patches.save_codebook(patches.learn_codebook(IMAGES, 0, open_backend("numpy")), path)
    provenance = open_extractor("patches", open_backend("numpy"), weights=path).provenance()
    predictor = write_model(tmp_path, provenance, path.name, 512, 1)
    export_onnx(predictor, tmp_path / "m.onnx", with_extractor=True)
    flat = np.full((1, 3, 32, 32), 200, np.uint8)  # a patch without any contrast
    assert_same_answers(tmp_path / "m.onnx", predictor, np.concatenate([IMAGES, flat]))


def test_resnet18(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision.models")
    pytest.importorskip("onnxscript")
    from tests.extractors.test_vision import randomise

    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(randomise(models.resnet18()).state_dict(), path)
    extractor = open_extractor("resnet18", open_backend("numpy"), weights=path, image_size=40)
    mean = extractor(IMAGES[:16]).mean(axis=0)  # much larger than what tells these images apart
    predictor = write_model(tmp_path, extractor.provenance(), str(path), 512, 2, mean=mean)
    capfd.readouterr()
    export_onnx(predictor, tmp_path / "m.onnx", with_extractor=True)
    assert capfd.readouterr() == ("", "")
    assert_same_answers(tmp_path / "m.onnx", predictor, IMAGES)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path, {"name": "pixels"}, None, 3072, 2)
    assert main(["export", "--model", str(tmp_path), "--to", "onnx", "--with-extractor"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model.onnx")
    assert main(["export", "--model", str(tmp_path), "--out", str(tmp_path / "head.onnx"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bytes"] == (tmp_path / "head.onnx").stat().st_size
    assert figures["largest_difference"] < 1e-5


def test_features_made_elsewhere_have_no_extractor(tmp_path: Path) -> None:
    predictor = write_model(tmp_path, None, None, 20, 1)
    with pytest.raises(UsageError, match="takes features made elsewhere"):
        export_onnx(predictor, tmp_path / "m.onnx", with_extractor=True)
    assert not (tmp_path / "m.onnx").exists()


def test_a_wrong_graph_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = write_model(tmp_path, None, None, 20, 1)
    exact = predictor.parameters
    exact.weights[0][3] += 1  # the network that answers has a copy
    with pytest.raises(FastMLPError, match="differ from ours"):
        export_onnx(predictor, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(UsageError, match="2 GB"):
        export_onnx(predictor, tmp_path / "m.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    predictor = write_model(tmp_path, None, None, 20, 1)
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ImportError(f"No module named {name!r}")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BackendError, match=r"pip install 'fastmlp\[onnx\]'"):
        export_onnx(predictor, tmp_path / "m.onnx")
