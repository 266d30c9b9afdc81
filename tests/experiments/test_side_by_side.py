"""The paper's two models trained at the same time, where a GPU has room for both: each as if it were alone."""

from pathlib import Path
from typing import Any

import pytest

from fastmlp.experiments import machine
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.paper import MODELS
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.training.recipe import PRESETS

FILES = ("model.safetensors", "history.json")


@pytest.fixture(autouse=True)
def opened(emulated, few_pixels, monkeypatch, tmp_path):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "open_backend", lambda *_: emulated)


def models(folder: Path, preset: str, **options) -> Models:
    data: dict[str, Any] = {"dataset": "digits", "extractor": "pixels", "hidden_layer_sizes": (8,), "limit": 40}
    config = Config(**data, backend="emulated", preset=preset, epochs=3, batch_size=32, out=folder, **options)
    on = Machine("emulated", 1)
    return Models(config, on, ImageFeatures(config, on).by_model())


def contents(folder: Path) -> dict[str, bytes]:
    return {f"{name}/{file}": (folder / name / file).read_bytes() for name in MODELS for file in FILES}


@pytest.mark.parametrize("preset", PRESETS)
def test_both_models_at_once_are_as_if_alone_emulated(emulated, monkeypatch, tmp_path, preset):
    launched = []
    train = emulated._fused.train

    def counted(heads, *data):
        launched.append(len(heads))
        return train(heads, *data)

    monkeypatch.setattr(emulated._fused, "train", counted)
    models(tmp_path / "together", preset).train()
    assert launched == [2, 2, 2]
    monkeypatch.setattr(EmulatedBackend, "beside_host", False)
    models(tmp_path / "in turns", preset).train()
    assert launched[3:] == [1] * 6
    assert contents(tmp_path / "together") == contents(tmp_path / "in turns")


def test_both_resume_where_they_were_interrupted_emulated(emulated, monkeypatch, tmp_path):
    models(tmp_path / "unbroken", "paper").train()
    broken = models(tmp_path / "broken", "paper")
    train, epochs = emulated._fused.train, []

    def interrupted(heads, *data):
        epochs.append(len(heads))
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return train(heads, *data)

    with monkeypatch.context() as patch:
        patch.setattr(emulated._fused, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            broken.train()
    resumed = models(tmp_path / "broken", "paper", resume=True).train()
    assert [member.history.epochs for member in resumed.values()] == [3, 3]
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")
