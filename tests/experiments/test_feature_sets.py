"""What models train on: placed on the device once, as many augmented copies as asked for, by the ranges asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.augment import Policy
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.cli.main import main
from fastmlp.common.errors import UsageError
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import ImageFeatures, joined, training_rows
from fastmlp.experiments.machine import Machine

DATA: dict[str, Any] = {"dataset": "synthetic:60", "extractor": "pixels", "backend": "numpy", "threads": 1}
COMMAND = [
    "--dataset",
    "synthetic:60",
    "--extractor",
    "pixels",
    "--backend",
    "numpy",
    "--threads",
    "1",
    "--epochs",
    "2",
]
WIDTH = 3 * 32 * 32  # pixels' features
ROWS = 60 + 60 + 12  # original, augmented, test


pytestmark = pytest.mark.usefixtures("own_folders")


def features_of(**options: Any) -> ImageFeatures:
    config = Config(**DATA | options)
    return ImageFeatures(config, Machine(config.backend, config.threads))


# Placed once.


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each array of rows of features that goes to the device."""
    sizes: list[int] = []
    asarray = NumpyBackend.asarray

    def counted(backend: NumpyBackend, array: np.ndarray) -> np.ndarray:
        if array.dtype.kind == "f" and array.shape[1:] == (WIDTH,):
            sizes.append(array.nbytes)
        return asarray(backend, array)

    monkeypatch.setattr(NumpyBackend, "asarray", counted)
    return sizes


@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_a_reproduction_uploads_its_features_once(preset: str, uploaded: list[int]) -> None:
    """Both models, two seeds of each, and every evaluation; extracting, which uploads images, is done before."""
    assert main(["extract", *COMMAND]) == 0
    uploaded.clear()
    assert main(["reproduce", *COMMAND, "--seeds", "2", "--preset", preset, "--hidden-layer-sizes", "8"]) == 0
    features = 4 * ROWS * WIDTH
    assert features <= sum(uploaded) <= 1.1 * features


def test_a_model_on_its_own_uploads_no_more_than_it_needs(uploaded: list[int]) -> None:
    assert main(["train", *COMMAND]) == 0
    assert 4 * (60 + 12) * WIDTH <= sum(uploaded) < 4 * ROWS * WIDTH
    assert not list(Path("cache/features").glob("*augmented*"))


# Copies.


def test_each_copy_is_drawn_and_stored_by_itself() -> None:
    one, three = (features_of(copies=copies) for copies in (1, 3))
    paths = [store.path.name for store in one.stores()]
    stores = three.stores()
    assert [store.path.name for store in (stores[0], stores[1], stores[-1])] == paths
    assert [store.reused for store in stores] == [True, True, False, False, True]
    assert len({store.features.tobytes() for store in stores}) == 5
    for store in stores[1:4]:
        np.testing.assert_array_equal(store.labels, stores[0].labels)


def test_the_augmented_model_trains_on_the_images_and_all_copies() -> None:
    features = features_of(copies=3)
    original, augmented = features.by_model().values()
    assert (training_rows(original), training_rows(augmented)) == (60, 240)
    assert original.images == augmented.images == 60
    rows = joined(augmented.parts)
    np.testing.assert_array_equal(rows.features[:60], joined(original.parts).features)
    assert original.sources == [features.train.path.name, features.test.path.name]
    assert len(augmented.sources) == 5


def test_copies_and_ranges_stand_in_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    augment = ["--augment", "crop=2,contrast=0.8:1.2,flip=0", "--copies", "2", "--out", "run"]
    assert main(["reproduce", *COMMAND, *augment, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["config"]["copies"] == 2
    assert results["config"]["augmentation"] == Policy.parse("crop=2,contrast=0.8:1.2,flip=0").as_dict()
    assert results["data"]["augmented_images"] == 180
    assert "180 with augmented copies" in Path("run/report.html").read_text()
    assert "copies 2, not 1" in Path("run/report.md").read_text()
    config = json.loads(Path("run/augmented/config.json").read_text())
    assert len(config["features"]) == 4


def test_a_sweep_holds_out_every_copy_of_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["sweep", *COMMAND, "--on", "augmented", "--copies", "2", "--learning-rates", "0.01", "--seeds", "1"]
    assert main([*sweep, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["rows_trained_on"], data["held_out_rows"]) == (3 * 54, 6)


# Ranges.


def test_other_ranges_are_other_features_and_the_papers_are_the_default() -> None:
    stores = {
        text: features_of(augment=text).copies[0]
        for text in (None, "crop=4,rotation=15,cutout=8,contrast=0.5:1.5", "crop=2")
    }
    default, spelled, other = (store.path.name for store in stores.values())
    assert default == spelled != other
    assert not np.array_equal(stores[None].features, stores["crop=2"].features)


def test_a_dataset_whose_mirror_images_differ_is_not_flipped() -> None:
    features = features_of(dataset="digits", augment="contrast=1:1,flip=1", limit=20)
    np.testing.assert_array_equal(features.images.copy(0).images, features.images.dataset.train.images)


def test_the_sheet_has_a_row_per_kind() -> None:
    rows = features_of(augment="cutout=8,crop=4").images.sheet().rows
    assert [label for label, _ in rows] == ["original", "crop", "cutout"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"copies": 0}, "--copies must be 1 or more"), ({"augment": "crap=2"}, "did you mean crop")],
)
def test_impossible_augmentations(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Config(**options)


def test_features_made_elsewhere_are_not_augmented(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--augment", "crop=4"), ("--copies", "2")):
        assert main(["train", "--features", "x.npy", option, value]) == 2
        assert f"{option} is for images: leave it out" in capsys.readouterr().err
