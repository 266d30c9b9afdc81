"""FeatureExtractor and Augmenter: from images through patches to classes in one Pipeline."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks

from fastmlp import Augmenter, FeatureExtractor, MLPClassifier, augment
from fastmlp.augment import Policy
from fastmlp.backends import open_backend
from fastmlp.common.errors import UsageError
from fastmlp.common.randomness import Purpose, generator
from fastmlp.datasets import load
from fastmlp.extractors import patches

Arrays = tuple[np.ndarray, np.ndarray]
ALL = [FeatureExtractor("pixels", backend="numpy"), Augmenter(backend="numpy")]


@pytest.fixture(scope="module")
def digits() -> Arrays:
    train = load("digits").train
    return train.images[:400], train.labels[:400]


@pytest.fixture
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the patches, so that learning them takes a second."""
    monkeypatch.setattr(patches, "SAMPLE_PATCHES", 5000)
    monkeypatch.setattr(patches, "SAMPLE_IMAGES", 100)
    monkeypatch.setattr(patches, "ROUNDS", 3)


def pipeline(**augmentation: Any) -> Pipeline:
    return make_pipeline(
        Augmenter(flip_probability=0, backend="numba", **augmentation),
        FeatureExtractor("patches", backend="numba"),
        MLPClassifier(backend="numba", max_iter=20),
    )


# Together.


@pytest.mark.usefixtures("few_patches")
@pytest.mark.parametrize("flat", [False, True], ids=["images", "rows"])
def test_images_to_classes_in_one_pipeline(flat: bool, digits: Arrays) -> None:
    X, y = digits[0].reshape(len(digits[0]), -1) if flat else digits[0], digits[1]
    model = pipeline().fit(X[:300], y[:300])
    assert model.score(X[300:], y[300:]) > 0.85
    thawed = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(thawed.predict_proba(X[:20]), model.predict_proba(X[:20]))


@pytest.mark.usefixtures("few_patches")
def test_the_whole_pipeline_is_searched_and_validated(digits: Arrays) -> None:
    X, y = digits[0][:120], digits[1][:120]
    search = GridSearchCV(pipeline(), {"augmenter__probability": [0.0, 0.5]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_score(pipeline(), X, y, cv=2).shape == (2,)


# Features.


@pytest.mark.usefixtures("few_patches")
def test_patches_are_learned_in_fit_and_are_the_extractors(digits: Arrays) -> None:
    images = digits[0][:60]
    extractor = FeatureExtractor("patches", backend="numpy", random_state=3).fit(images)
    reference = patches.Patches(patches.learn_codebook(images, 3, open_backend("numpy")), open_backend("numpy"))
    np.testing.assert_array_equal(extractor.transform(images), reference(images))
    assert extractor.provenance_ == reference.provenance()
    assert (extractor.image_shape_, extractor.n_features_in_) == ((3, 32, 32), 3072)


@pytest.mark.usefixtures("few_patches")
def test_a_codebook_from_a_file(digits: Arrays, tmp_path: Path) -> None:
    images = digits[0][:60]
    learned = FeatureExtractor("patches", backend="numpy").fit(images)
    assert learned.codebook_ is not None
    patches.save_codebook(learned.codebook_, tmp_path / "codebook.safetensors")
    loaded = FeatureExtractor("patches", weights=str(tmp_path / "codebook.safetensors"), backend="numpy")
    np.testing.assert_array_equal(loaded.fit(images[:1]).transform(images), learned.transform(images))


def test_a_backbone_from_a_file(tmp_path: Path) -> None:
    torch, models = pytest.importorskip("torch"), pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    path = tmp_path / "squeezed.pth"
    torch.save(models.resnet18(num_classes=1000).state_dict(), path)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    extractor = FeatureExtractor("resnet18", weights=path, image_size=32, backend="numpy").fit(images)
    features = extractor.transform(images)
    assert features.shape == (3, 512)
    assert features.dtype == np.float32
    thawed = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_array_equal(thawed.transform(images), features)
    other = models.resnet18(num_classes=1000).state_dict()
    torch.save(other, path)
    with pytest.raises(Exception, match="not those it was fitted with: fit it again"):
        pickle.loads(pickle.dumps(extractor)).transform(images)


def test_features_have_names_and_become_frames(digits: Arrays) -> None:
    pandas = pytest.importorskip("pandas")
    extractor = FeatureExtractor("pixels", backend="numpy").set_output(transform="pandas")
    frame = extractor.fit_transform(digits[0][:5])
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns[:2]) == ["featureextractor0", "featureextractor1"]
    assert frame.shape == (5, 3072)
    whole = make_pipeline(Augmenter(backend="numpy"), clone(extractor)).set_output(transform="pandas")
    assert isinstance(whole.fit_transform(digits[0][:5]), pandas.DataFrame)


# Augmentation.


@pytest.mark.parametrize("flat", [False, True], ids=["images", "rows"])
def test_training_sees_changed_images_and_answering_the_images(flat: bool, digits: Arrays) -> None:
    X = digits[0].reshape(len(digits[0]), -1) if flat else digits[0]
    augmenter = Augmenter(backend="numpy", random_state=5)
    before = X.copy()
    changed = augmenter.fit_transform(X)
    assert changed.shape == X.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(augmenter.transform(X), X)
    different = (changed != X).reshape(len(X), -1).any(axis=1).mean()
    assert 0.35 < different < 0.55  # half are drawn; some draws change nothing
    np.testing.assert_array_equal(clone(augmenter).fit_transform(X), changed)


def test_all_augmented_are_the_command_lines_copies(digits: Arrays) -> None:
    images = digits[0][:50]
    plan = augment.draw(generator(7, Purpose.AUGMENTATION), len(images))
    expected = augment.apply(open_backend("numpy"), images, plan)
    got = Augmenter(probability=1, backend="numpy", random_state=7).fit_transform(images)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(Augmenter(probability=0, backend="numpy").fit_transform(images), images)


@pytest.mark.parametrize("given", ["jitter=0.8:1.2,crop=2", Policy.parse("jitter=0.8:1.2,crop=2")], ids=type)
def test_kinds_and_ranges_may_be_text_or_a_policy(given: str | Policy, digits: Arrays) -> None:
    images = digits[0][:50]
    plan = augment.draw(generator(0, Purpose.AUGMENTATION), len(images), Policy.parse("jitter=0.8:1.2,crop=2"))
    expected = augment.apply(open_backend("numpy"), images, plan)
    augmenter = clone(Augmenter(probability=1, augment=given, backend="numpy"))
    np.testing.assert_array_equal(augmenter.fit_transform(images), expected)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"augment": "corp=4"}, "augment corp=4: there is no augmentation 'corp', did you mean crop"),
        (
            {"augment": "crop=4", "flip_probability": 0},
            "Give the ranges either by augment or by",
        ),
        ({"augment": 4}, "augment must be text such as 'crop=4,rotation=15', or a Policy, not 4"),
        ({"contrast": 1.5}, "contrast must be its lowest and highest factor"),
    ],
)
def test_mistaken_ranges(parameters: dict[str, Any], sentence: str, digits: Arrays) -> None:
    with pytest.raises(UsageError, match=sentence):
        Augmenter(backend="numpy", **parameters).fit_transform(digits[0][:5])


# Contract. Its checks feed matrices of floats, so those that feed nothing are run by name.


@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize(
    "check",
    ["no_attributes_set_in_init", "parameters_default_constructible", "estimator_repr", "get_params_invariance",
     "set_params", "mixin_order", "valid_tag_types", "estimator_tags_renamed", "estimator_cloneable",
     "do_not_raise_errors_in_init_or_set_params"],
)  # fmt: skip
def test_sklearn_check(estimator: BaseEstimator, check: str) -> None:
    getattr(estimator_checks, f"check_{check}")(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_tags_say_that_matrices_will_not_do(estimator: BaseEstimator) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        left = list(estimator_checks.estimator_checks_generator(estimator))
    assert [warning.category for warning in caught] == [SkipTestWarning]
    assert len(left) <= 1  # whether it can be cloned


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_mistakes_are_named_with_their_fix(estimator: Any, digits: Arrays) -> None:
    images = digits[0][:4]
    with pytest.raises(NotFittedError):
        clone(estimator).transform(images)
    with pytest.raises(UsageError, match=r"float64 from 0.0 to 1.0: give np.rint\(255 \* X\)"):
        clone(estimator).fit(images / images.max())
    with pytest.raises(UsageError, match=r"int64 from .* to 1020: give np.rint\(X\).clip"):
        clone(estimator).fit(4 * images.astype(np.int64))
    with pytest.raises(UsageError, match=r"give X.transpose\(0, 3, 1, 2\)"):
        clone(estimator).fit(images.transpose(0, 2, 3, 1))
    with pytest.raises(UsageError, match="Rows of 100 numbers are not square images"):
        clone(estimator).fit(images.reshape(4, -1)[:, :100])
    with pytest.raises(UsageError, match=r"There are no images, found array with 0 sample\(s\)"):
        clone(estimator).fit(images[:0])
    with pytest.raises(UsageError, match=r"fitted on images of shape \(3, 32, 32\), not \(3, 16, 16\)"):
        clone(estimator).fit(images).transform(images[:, :, ::2, ::2])
    np.testing.assert_array_equal(
        clone(estimator).fit(images.astype(np.int64)).transform(images.astype(np.int64)),
        clone(estimator).fit(images).transform(images),
    )
