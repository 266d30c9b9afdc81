"""Features made elsewhere, of any scale: trained, evaluated, predicted and exported as Python's classifier would."""

import json
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import MLPClassifier
from fastmlp.cli.main import main
from fastmlp.training.held_out import hold_out

MACHINE = ["--backend", "numpy", "--threads", "1"]
RNG = np.random.default_rng(0)
SIGNAL, Y = RNG.normal(size=400), RNG.integers(0, 3, 400)
TIMES = np.stack([1.7e9 + 30 * (Y + 0.1 * SIGNAL), RNG.normal(size=400)], 1)
UNIT = 0.5 * np.eye(3, 64)[Y] + RNG.normal(size=(400, 64)) / 16
FILES = {
    "float64": TIMES,
    "int64": TIMES.astype(np.int64),
    "unit": (UNIT / np.linalg.norm(UNIT, axis=1, keepdims=True)).astype(np.float16),
    "mixed": (UNIT * 10.0 ** RNG.integers(-4, 5, 64)).astype(np.float32),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("y.npy", Y)
    for name, X in FILES.items():
        np.save(f"{name}.npy", X)


def train(name: str, *options: str) -> dict[str, float]:
    argv = ["train", "--features", f"{name}.npy", "--labels", "y.npy", "--out", "o", "--epochs", "15", "--json", "-q"]
    assert main([*argv, *MACHINE, *options]) == 0
    return fastmlp.load_model("o/head", "numpy").evaluate(FILES[name], Y)


@pytest.mark.parametrize("name", FILES)
def test_the_default_suits_any_scale(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(name)["accuracy"] > 0.9
    assert capsys.readouterr().err == ""
    assert json.loads(Path("o/head/config.json").read_text())["recipe"]["standardize"] == "each"
    assert main(["predict", "--model", "o/head", f"{name}.npy", "--format", "jsonl", *MACHINE]) == 0
    answers = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert np.mean(answers == Y) > 0.9


def test_it_is_the_classifier_of_python_to_the_last_bit() -> None:
    train("float64")
    kept, _ = hold_out(Y.astype(np.int64), 0)
    model = MLPClassifier(backend="numpy", max_iter=15).fit(TIMES[kept], Y[kept])
    head = fastmlp.load_model("o/head", "numpy")
    np.testing.assert_array_equal(head.predict_proba(TIMES), model.predict_proba(TIMES))


def test_a_tensor_of_bfloat16_is_read_as_float32() -> None:
    torch = pytest.importorskip("torch")
    train("unit")
    head, X = fastmlp.load_model("o/head", "numpy"), torch.asarray(FILES["unit"]).bfloat16()
    np.testing.assert_array_equal(
        head.predict_proba(X.requires_grad_()), head.predict_proba(X.detach().float().numpy())
    )


def test_fast_takes_off_an_offset_too() -> None:
    np.save("float64.npy", TIMES[:, :1])
    argv = ["train", "--features", "float64.npy", "--labels", "y.npy", "--out", "o", "--preset", "fast", "-q"]
    assert main([*argv, *MACHINE]) == 0
    assert fastmlp.load_model("o/head", "numpy").evaluate(TIMES[:, :1], Y)["accuracy"] > 0.9


@pytest.mark.parametrize(("name", "dtype"), [("float64", "tensor(double)"), ("unit", "tensor(float)")])
def test_an_exported_head_takes_what_it_needs(name: str, dtype: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    train(name)
    assert main(["export", "--model", "o/head", "--out", "head.onnx", "-q"]) == 0
    session = onnxruntime.InferenceSession("head.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.type == dtype
    X = FILES[name].astype(np.float64 if dtype == "tensor(double)" else np.float32)
    (probabilities,) = session.run(["probabilities"], {given.name: X})
    np.testing.assert_allclose(probabilities, fastmlp.load_model("o/head", "numpy").predict_proba(X), rtol=0, atol=1e-5)


def test_images_can_be_standardised_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    dataset = ["--dataset", "digits", "--extractor", "pixels", "--limit", "200", "--out", "images"]
    assert main(["train", *dataset, "--preset", "tabular", "--on", "augmented", "--epochs", "10", "-q", *MACHINE]) == 0
    figures = fastmlp.load_model("images/augmented", "numpy")
    assert figures.parameters.scaling is not None
    assert main(["evaluate", "--model", "images/augmented", "--limit", "200", "-q", *MACHINE]) == 0


def test_a_sweep_of_standardised_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    dataset = ["--dataset", "digits", "--extractor", "pixels", "--limit", "200", "--out", "swept"]
    grid = ["--learning-rates", "0.01", "--seeds", "1", "--epochs", "10", "--preset", "tabular", "--json", "-q"]
    assert main(["sweep", *dataset, *grid, *MACHINE]) == 0
    results = json.loads(Path("swept/sweep.json").read_text())
    assert results["chosen"]["test_accuracy"] > 0.7
