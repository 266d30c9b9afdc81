"""Augmented copies whose features are stored: not made again, unless something that shapes them has changed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import augment
from fastmlp.backends.base import Availability
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.files import cache_dir
from fastmlp.experiments import known_copies
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.features.store import FeatureStore

DATA: dict[str, Any] = {"dataset": "synthetic:60", "extractor": "pixels", "backend": "numpy", "threads": 1}

pytestmark = pytest.mark.usefixtures("own_folders")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images are augmented, call by call."""
    counts: list[int] = []
    apply = augment.apply

    def counted(backend: Any, images: Any, plan: Any) -> Any:
        counts.append(len(plan))
        return apply(backend, images, plan)

    monkeypatch.setattr(augment, "apply", counted)
    return counts


def copies_of(**options: Any) -> list[FeatureStore]:
    config = Config(**DATA | options)
    return ImageFeatures(config, Machine(config.backend, config.threads)).copies


def files() -> list[Path]:
    return sorted((cache_dir() / "copies").glob("*.json"))


def test_a_copy_whose_features_are_stored_is_not_made_again(made: list[int]) -> None:
    first = copies_of(copies=2)
    assert made == [60, 60]
    again = copies_of(copies=3)
    assert made == [60, 60, 60]
    assert [store.reused for store in again] == [True, True, False]
    assert [store.path for store in again[:2]] == [store.path for store in first]
    for store, other in zip(first, again, strict=False):
        np.testing.assert_array_equal(store.features, other.features)
    assert len(files()) == 3


def test_a_store_that_was_deleted_is_extracted_again_from_the_copy(made: list[int]) -> None:
    (first,) = copies_of()
    features = first.features
    shutil.rmtree(first.path)
    (again,) = copies_of()
    assert made == [60, 60]
    assert (again.path, again.reused) == (first.path, False)
    np.testing.assert_array_equal(again.features, features)


def test_stores_of_earlier_versions_which_left_no_file_are_read(made: list[int]) -> None:
    (first,) = copies_of()
    shutil.rmtree(cache_dir() / "copies")
    (again,) = copies_of()
    assert (again.path, again.reused) == (first.path, True)
    assert made == [60, 60]
    assert files()


@pytest.mark.parametrize("options", [{"seed": 1}, {"augment": "crop=2"}, {"limit": 50}])
def test_another_copy_is_made(options: dict[str, Any], made: list[int]) -> None:
    copies_of()
    made.clear()
    (other,) = copies_of(**options)
    assert made
    assert not other.reused


@pytest.mark.parametrize("shaping", ["fastmlp", "numpy", "backend", "its versions", "processor", "code"])
def test_with_anything_else_that_shapes_a_copy_it_is_made_again_and_its_content_decides(
    shaping: str, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = copies_of()
    changes: dict[str, tuple[Any, str, Any]] = {
        "fastmlp": (known_copies, "__version__", "0"),
        "numpy": (np, "__version__", "0"),
        "backend": (NumpyBackend, "name", "other"),
        "its versions": (NumpyBackend, "probe", lambda *_: Availability(True, details={"numpy": "0"})),
        "processor": (known_copies, "processor", lambda: "other"),
        "code": (known_copies, "SOURCES", ("augment",)),
    }
    monkeypatch.setattr(*changes[shaping])
    (again,) = copies_of()
    assert made == [60, 60]
    assert (again.path, again.reused) == (first.path, True)  # as the images are the same
    assert len(files()) == 2


def test_the_code_that_shapes_a_copy_is_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_bytes = list[Path](), Path.read_bytes

    def noted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    copies_of()
    names = {"/".join(path.parts[-3:]) for path in read}
    assert {"augment/kinds/rotation.py", "cpu/augment/rotate.py", "cuda/augment/rotate.cu"} <= names
    assert {"backends/numpy.py", "common/randomness.py"} <= {"/".join(path.parts[-2:]) for path in read}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"content": 1}', '{"content": "0123"}'])
def test_a_file_that_tells_wrong_costs_a_copy_and_is_written_anew(content: str, made: list[int]) -> None:
    copies_of()
    (path,) = files()
    right = path.read_text()
    path.write_text(content)
    (again,) = copies_of()
    assert made == [60, 60]
    assert again.reused
    assert path.read_text() == right


@pytest.mark.parametrize("unknown", ["whose", "device"])
def test_what_a_backend_of_others_augments_is_made_each_time(
    unknown: str, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if unknown == "whose":
        monkeypatch.setattr(NumpyBackend, "__module__", "another.package")
    else:
        monkeypatch.setattr(NumpyBackend, "device", "tpu")
    copies_of()
    (again,) = copies_of()
    assert made == [60, 60]
    assert again.reused
    assert not files()
