"""Every backend reproduces ten steps that a plain NumPy script, which has none of our code, once wrote to a file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp.backends import Backend
from fastmlp.network.parameters import DTYPES, Parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.compare import assert_close, assert_equal, assert_same_kind
from fastmlp.testing.problems import tiers
from fastmlp.testing.tolerances import EPOCH, STEP

FOLDER = Path(__file__).parent / "golden"
SIZES = (12, 8, 5)

Golden = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def golden() -> Golden:
    return dict(np.load(FOLDER / "golden.npz"))


def parameters(golden: Golden, dtype: str, prefix: str = "") -> Parameters:
    weights = (golden[f"{prefix}W1"], golden[f"{prefix}W2"])
    return Parameters(weights, (golden[f"{prefix}B1"], golden[f"{prefix}B2"])).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ten_steps(backend: Backend, golden: Golden, dtype: str) -> None:
    for tier in tiers(backend, SIZES, dtype):
        what = f"{backend} tier {tier} {dtype}"
        trainer, features, labels = bind(backend, golden, dtype, tier)
        losses = []
        for batch in np.split(golden["order"], range(trainer.batch_size, len(labels), trainer.batch_size)):
            loss, hits = backend.empty((1,), dtype), backend.empty((1,), "int64")
            trainer.gradients((features, labels, None), backend.asarray(batch), loss, hits)
            losses.append(backend.to_numpy(loss)[0] / len(batch))
            if len(losses) == 1:
                compare_first_gradients(what, backend, trainer, golden, dtype)
            trainer.network.update((1.0, float(golden["learning_rate"])))
        assert_close(f"{what}: losses", np.array(losses), golden["losses"], STEP[dtype])
        compare_last_parameters(what, trainer, golden, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_epoch(backend: Backend, golden: Golden, dtype: str) -> None:
    for tier in tiers(backend, SIZES, dtype):
        what = f"{backend} tier {tier} {dtype}"
        trainer, features, labels = bind(backend, golden, dtype, tier)
        rates = np.full(10, golden["learning_rate"])
        loss, _ = trainer.train_epoch(features, labels, golden["order"], rates)
        batch_sizes = [trainer.batch_size] * 9 + [len(labels) - 9 * trainer.batch_size]
        mean = np.average(golden["losses"], weights=batch_sizes)
        assert_close(f"{what}: loss", np.array([loss]), np.array([mean]), STEP[dtype])
        compare_last_parameters(what, trainer, golden, dtype)


def bind(backend: Backend, golden: Golden, dtype: str, tier: Tier | None) -> tuple[Trainer, Any, Any]:
    trainer = Trainer(parameters(golden, dtype), backend, int(golden["batch_size"]), tier)
    return trainer, backend.asarray(golden["features"].astype(dtype)), backend.asarray(golden["labels"].copy())


def compare_first_gradients(what: str, backend: Backend, trainer: Trainer, golden: Golden, dtype: str) -> None:
    gradients = (*trainer.network.weights.gradients, *trainer.network.biases.gradients)
    for name, gradient in zip(("dW1", "dW2", "dB1", "dB2"), gradients, strict=True):
        assert_close(f"{what}: {name}", backend.to_numpy(gradient), golden[name], STEP[dtype])


def compare_last_parameters(what: str, trainer: Trainer, golden: Golden, dtype: str) -> None:
    got, last = trainer.parameters, parameters(golden, "float64", "last_")
    for array, reference in zip(got.weights + got.biases, last.weights + last.biases, strict=True):
        assert_same_kind(f"{what}: last parameters", array, reference.shape, dtype)
        assert_close(f"{what}: last parameters", array, reference, EPOCH[dtype])


def test_training_learns_in_the_golden_file(golden: Golden) -> None:
    """Else ten equal losses would prove little."""
    assert golden["losses"][-5:].mean() < 0.7 * golden["losses"][0]
    assert all(np.abs(golden[name]).max() > 0.01 for name in ("dW1", "dW2", "dB1", "dB2"))


def test_the_script_still_writes_these_numbers(golden: Golden, tmp_path: Path) -> None:
    subprocess.run([sys.executable, FOLDER / "make.py", tmp_path / "again.npz"], check=True)
    again = dict(np.load(tmp_path / "again.npz"))
    assert again.keys() == golden.keys()
    for name, reference in golden.items():
        assert again[name].dtype == reference.dtype
        if reference.dtype.kind == "f":
            assert_close(name, again[name], reference, STEP["float64"])
        else:
            assert_equal(name, again[name], reference)


def test_the_golden_file_is_small() -> None:
    assert (FOLDER / "golden.npz").stat().st_size < 100_000
