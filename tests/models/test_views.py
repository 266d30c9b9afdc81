"""Views: an answer to an image and its mirror image is the mean of both, in every figure; and where there is none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastmlp.common.errors import DataError, UsageError
from fastmlp.models import storage
from fastmlp.models.predictor import Predictor, load_model
from fastmlp.models.views import mean_answer
from fastmlp.network.evaluation import softmax
from fastmlp.network.parameters import initial_parameters

PIXELS, IMAGES = 3 * 32 * 32, 40
NAMES = ["ant", "bee", "cat"]
OF_IMAGES = {"extractor": {"name": "pixels"}, "mirror_keeps_class": True}
OF_FEATURES = {"extractor": None}
Model = Callable[..., Predictor]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Opens a model with random weights, whose answers to an image and its mirror image differ."""

    def opened(config: dict[str, Any], backend: str = "numpy") -> Predictor:
        parameters = initial_parameters((PIXELS, 8, len(NAMES)), "he", seed=1)
        about = {"dataset": "synthetic", "class_names": NAMES, "weights": None, **config}
        (tmp_path / "config.json").write_text(json.dumps(about))
        storage.save(parameters, {}, tmp_path / "model.safetensors")
        return load_model(tmp_path, backend)

    return opened


@pytest.fixture
def images(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def labels(rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(0, len(NAMES), IMAGES)


def mean_of(model: Predictor, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean by hand."""
    of_views = [model.predict_proba(np.ascontiguousarray(view)) for view in (images, images[..., ::-1])]
    return np.mean(of_views, axis=0, dtype=np.float64)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 30, 2000])
def test_the_mean_is_of_probabilities(count: int, size: float, rng: np.random.Generator) -> None:
    of_views = [rng.normal(0, size, (50, 4)) for _ in range(count)]
    answer = mean_answer(*of_views)
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(softmax(answer), np.mean([softmax(one) for one in of_views], axis=0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "numba", "torch"])
def test_probabilities_and_classes(backend: str, model: Model, images: NDArray[np.uint8]) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    opened = model(OF_IMAGES, backend)
    expected, got = mean_of(opened, images), opened.predict_proba(images, views="mirror")
    assert got.dtype == np.float32
    assert np.abs(expected - opened.predict_proba(images)).max() > 0.1, "the test's views should differ"
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
    classes = np.array(NAMES)[expected.argmax(axis=1)]
    np.testing.assert_array_equal(opened.predict(images, views="mirror"), classes)
    assert (classes != opened.predict(images)).any()


def test_one_view_is_the_default(model: Model, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    opened = model(OF_IMAGES)
    np.testing.assert_array_equal(opened.predict_proba(images, views="one"), opened.predict_proba(images))
    assert opened.evaluate(images, labels, views="one") == opened.evaluate(images, labels)
    assert opened.evaluate(images, labels)["views"] == "one"


@pytest.mark.parametrize("rows", [7, IMAGES])
def test_every_figure_is_of_the_mean(
    rows: int, model: Model, images: NDArray[np.uint8], labels: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmlp.network.evaluation.ROWS", rows)
    opened = model(OF_IMAGES)
    figures, expected = opened.evaluate(images, labels, views="mirror"), mean_of(opened, images)
    hits, confidence = expected.argmax(axis=1) == labels, expected.max(axis=1)
    assert figures["views"] == "mirror"
    assert figures["accuracy"] == hits.mean()
    assert figures["loss"] == pytest.approx(-np.log(expected[np.arange(IMAGES), labels]).mean(), rel=1e-5)
    assert [one["recall"] for one in figures["classes"]] == [hits[labels == label].mean() for label in range(3)]
    bins = [(one["rows"], one["confidence"]) for one in figures["calibration"] if one["rows"]]
    assert sum(count * mean for count, mean in bins) == pytest.approx(confidence.sum(), rel=1e-5)
    # Symmetric, but for which rows were tested.
    mirrored = opened.evaluate(np.ascontiguousarray(images[..., ::-1]), labels, views="mirror")
    for name in figures.keys() - {"test_set"}:
        assert mirrored[name] == figures[name]


def test_whole_numbers_of_any_type_are_images(model: Model, images: NDArray[np.uint8]) -> None:
    opened = model(OF_IMAGES)
    got = opened.predict_proba(images.astype(np.int64), views="mirror")
    np.testing.assert_array_equal(got, opened.predict_proba(images, views="mirror"))


FEATURES = np.zeros((2, PIXELS), np.float32)
UINT8 = np.zeros((2, 3, 32, 32), np.uint8)


@pytest.mark.parametrize(
    ("config", "X", "views", "says"),
    [
        (OF_FEATURES, FEATURES, "mirror", "takes features, which have no mirror image: leave views at one."),
        (OF_FEATURES, UINT8, "mirror", "takes features, which have no mirror image: leave views at one."),
        (OF_IMAGES, FEATURES, "mirror", "give images (n, 3, 32, 32), or leave views at one."),
        (
            OF_IMAGES | {"dataset": "digits", "mirror_keeps_class": False},
            UINT8,
            "mirror",
            "was trained on digits, where a mirror image does not keep its class: leave views at one.",
        ),
        ({"extractor": {"name": "pixels"}}, UINT8, "mirror", "does not tell whether a mirror image keeps its class"),
        (OF_IMAGES, UINT8, "miror", "There are no views 'miror', did you mean mirror: choose one of one, mirror."),
        (OF_IMAGES, UINT8, None, "There are no views None"),
        (OF_IMAGES, UINT8, ["mirror"], "There are no views ['mirror']"),
    ],
)
def test_views_that_there_are_not(config: dict[str, Any], X: NDArray[Any], views: Any, says: str, model: Model) -> None:
    opened = model(config)
    for call in (opened.predict, opened.predict_proba, opened.logits):
        with pytest.raises(UsageError) as raised:
            call(X, views)
        assert says in str(raised.value)
    with pytest.raises(UsageError) as raised:
        opened.evaluate(X, np.array([0, 1]), views)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (UINT8[..., :16], "resize them to 32x32 pixels."),
        (UINT8.transpose(0, 2, 3, 1), "give X.transpose(0, 3, 1, 2)."),
        (UINT8[0], "give X[None] for one image."),
        (UINT8 / 255, "give np."),
    ],
)
def test_what_is_wrong_with_images_is_told_as_of_one_view(X: NDArray[Any], says: str, model: Model) -> None:
    opened, told = model(OF_IMAGES), []
    for views in ("one", "mirror"):
        with pytest.raises(DataError) as raised:
            opened.predict(X, views)
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert says in told[0]


@pytest.mark.parametrize("value", ["yes", 1.0, []])
def test_a_damaged_config(value: Any, model: Model) -> None:
    with pytest.raises(DataError, match="is damaged: train the model again"):
        model(OF_IMAGES | {"mirror_keeps_class": value})
