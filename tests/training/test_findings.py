"""A training that has learned nothing says so, and what to try; others say nothing."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from fastmlp import MLPClassifier
from fastmlp.cli.main import main
from fastmlp.training.findings import LEAST_STEPS, no_better_than_guessing
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe

LABELS = np.repeat([0, 1, 3], [60, 30, 10])
ENTROPY = -(0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1))


def finding(
    loss: float, epochs: int = LEAST_STEPS, weights: np.ndarray | None = None, smoothing: float = 0.0
) -> str | None:
    history = History()
    for _ in range(epochs):
        history.add(0.1, (loss, 0.5), None)
    return no_better_than_guessing(history, LABELS, Recipe(batch_size=100, label_smoothing=smoothing), weights)


@pytest.mark.parametrize("factor", [0.96, 1, 1.1, 30])
def test_a_loss_near_that_of_a_guess(factor: float) -> None:
    assert finding(factor * ENTROPY) is not None
    assert finding(factor * np.log(3), weights=1 / np.r_[60, 30, 0, 10][LABELS]) is not None
    assert finding(factor * ENTROPY, epochs=LEAST_STEPS - 1) is None, "too short to tell"


@pytest.mark.parametrize("factor", [0, 0.5, 0.94])
def test_a_loss_below_that_of_a_guess(factor: float) -> None:
    assert finding(factor * ENTROPY) is None


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_a_guess_at_smoothed_labels(smoothing: float) -> None:
    shares = (1 - smoothing) * np.array([0.6, 0.3, 0, 0.1]) + smoothing / 4
    one_label = (1 - smoothing) * np.array([1, 0, 0, 0]) + smoothing / 4
    guess, least = (-(targets * np.log(targets)).sum() for targets in (shares, one_label))
    assert finding(guess, smoothing=smoothing) is not None
    assert finding(0.96 * guess + 0.04 * least, smoothing=smoothing) is not None
    assert finding(0.94 * guess + 0.06 * least, smoothing=smoothing) is None


def test_on_the_command_line_and_in_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("noise.npz", X=rng.normal(size=(200, 4)) / 50, y=np.arange(200) % 12)
    for preset, epochs, learned in (("paper", "20", False), ("paper", "2", True)):
        argv = ["train", "--features", "noise.npz", "--preset", preset, "--epochs", epochs, "--out", "o", "-q"]
        assert main([*argv, "--backend", "numpy"]) == 0
        said = capsys.readouterr().err
        notices = json.loads(Path("o/head/config.json").read_text())["notices"]
        assert ("no better than guessing by how frequent each class is (2.48): try --preset tabular" in said) != learned
        assert said.count("guessing") == sum("guessing" in notice for notice in notices) == (not learned)


def test_in_python() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=r"^The training loss ended at 1\.1, no better .* try preset=.tabular"):
        MLPClassifier(backend="numpy", preset="paper", max_iter=20).fit((X - X.mean(axis=0)) / 10, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epochs in (1, 2, 10):
            MLPClassifier(backend="numpy", max_iter=epochs).fit(X, y)
