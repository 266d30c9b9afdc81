"""Loading datasets by name, what all datasets have in common, and the two datasets that need no files."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp.common.errors import DataError, UsageError
from fastmlp.datasets import NAMES, Dataset, Split, load
from fastmlp.datasets.base import stratified_split
from fastmlp.datasets.upsample import upsample


def split_of(labels):
    """A split of random images with these labels."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    return Split(images, np.array(labels, np.int64))


@pytest.mark.parametrize("name", ["", "mnist", "CIFAR10", "cifar10:5", "digits:", "folders:x"])
def test_an_unknown_name_is_a_usage_error_that_lists_the_known_ones(name):
    with pytest.raises(UsageError, match=", ".join(NAMES)):
        load(name)


@pytest.mark.parametrize("size", ["", "many", "-5", "1e3", "²", "49"])
def test_a_size_that_makes_no_sense_is_a_usage_error(size):
    with pytest.raises(UsageError, match=f"synthetic:{size}"):
        load(f"synthetic:{size}")


def test_the_import_brings_in_no_heavy_library():
    code = "import sys, fastmlp.datasets; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "fastmlp.datasets" in modules
    assert not {"sklearn", "PIL", "requests", "torch"} & set(modules)


class TestDataset:
    def test_limited_takes_the_first_images_of_both_splits_and_keeps_the_rest(self):
        whole = Dataset("d", split_of([0, 1, 1]), split_of([1, 0]), ("a", "b"), mirror_keeps_class=False, note="n")
        few = whole.limited(2)
        assert few.train.labels.tolist() == [0, 1]
        assert np.array_equal(few.train.images, whole.train.images[:2])
        assert len(few.test) == 2
        assert (few.name, few.class_names, few.mirror_keeps_class, few.note) == ("d", ("a", "b"), False, "n")

    @pytest.mark.parametrize("label", [-1, 2])
    def test_a_label_that_names_no_class_is_refused(self, label):
        with pytest.raises(DataError, match=f"record 1 has label {label}"):
            Dataset("d", split_of([0, label]), split_of([1]), ("a", "b"))

    def test_wrong_images_are_refused(self):
        good = split_of([0, 1])
        for images in (good.images / 255, good.images[:, :, :31], good.images[:1], good.images[0]):
            with pytest.raises(DataError):
                Dataset("d", replace(good, images=images), good, ("a", "b"))

    def test_an_empty_split_is_refused(self):
        with pytest.raises(DataError, match="d test holds no images"):
            Dataset("d", split_of([0]), split_of([]), ("a",))

    def test_the_content_hash_sees_every_pixel_and_label(self):
        split = split_of([0, 1])
        digest = split.content_hash
        assert digest == split_of([0, 1]).content_hash
        assert digest != split_of([0, 0]).content_hash
        split.images[1, 2, 31, 31] ^= 1
        assert digest != Split(split.images, split.labels).content_hash

    def test_the_content_hash_does_not_depend_on_the_layout_in_memory(self):
        split = split_of([0, 1, 0])
        assert Split(np.asfortranarray(split.images), split.labels).content_hash == split.content_hash


class TestStratifiedSplit:
    @given(st.lists(st.integers(2, 12), min_size=1, max_size=4), st.integers(0, 3))
    def test_it_parts_every_class_four_to_one_and_loses_no_image(self, sizes, seed):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        serial = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 3, 32, 32))
        train, test = stratified_split(Split(serial, labels), seed)
        places = np.concatenate([train.images[:, 0, 0, 0], test.images[:, 0, 0, 0]])
        assert sorted(places) == list(range(len(labels)))
        assert np.array_equal(labels[places], np.concatenate([train.labels, test.labels]))
        assert np.bincount(test.labels).tolist() == [max(1, round(size / 5)) for size in sizes]

    def test_the_classes_are_mixed_and_the_seed_decides(self):
        whole = split_of([0] * 50 + [1] * 50)
        train, test = stratified_split(whole, 0)
        assert set(train.labels[:20]) == set(test.labels[:15]) == {0, 1}
        assert train.content_hash == stratified_split(whole, 0)[0].content_hash
        assert train.content_hash != stratified_split(whole, 1)[0].content_hash


class TestUpsample:
    def test_it_equals_pillows_bilinear_resize(self):
        from PIL import Image

        small = np.random.default_rng(0).integers(0, 17, (8, 8)).astype(np.float32)
        expected = np.asarray(Image.fromarray(small).resize((32, 32), Image.Resampling.BILINEAR))
        assert np.allclose(upsample(small), expected, rtol=0, atol=1e-5)

    def test_height_and_width_keep_their_places(self):
        rows = np.repeat(np.array([[[0.0], [1.0]]], np.float32), 3, axis=2)  # dark above, bright below
        large = upsample(rows)
        assert large.shape == (1, 32, 32)
        assert np.array_equal(large[0, 0], np.zeros(32))
        assert np.array_equal(large[0, -1], np.ones(32))


@pytest.fixture(scope="module")
def digits():
    return load("digits")


class TestDigits:
    def test_it_is_all_of_scikit_learns_digits_split_four_to_one(self, digits):
        from sklearn.datasets import load_digits

        counts = np.bincount(load_digits().target)
        assert np.array_equal(np.bincount(digits.test.labels), np.rint(counts / 5))
        assert np.array_equal(np.bincount(digits.train.labels) + np.bincount(digits.test.labels), counts)
        assert digits.class_names == tuple("0123456789")
        assert not digits.mirror_keeps_class

    def test_the_images_are_the_originals_enlarged(self, digits):
        """Averages of 4x4 pixels restore the 8x8 originals, up to bilinear smoothing."""
        from sklearn.datasets import load_digits

        shrunk = digits.test.images.reshape(-1, 3, 8, 4, 8, 4).mean(axis=(3, 5)) * 16 / 255
        assert np.array_equal(shrunk[:, 0], shrunk[:, 2])
        originals, targets = load_digits().images, load_digits().target
        for image, label in zip(shrunk[:30, 0], digits.test.labels[:30], strict=True):
            nearest = np.abs(originals - image).mean(axis=(1, 2)).argmin()
            assert targets[nearest] == label
            assert np.abs(originals[nearest] - image).mean() < 1.5

    def test_it_is_the_same_dataset_on_every_machine(self, digits):
        hashes = (digits.train.content_hash + digits.test.content_hash).encode()
        assert hashlib.sha256(hashes).hexdigest()[:16] == "dff998fb9085609e"


class TestSynthetic:
    def test_sizes_and_balance(self):
        dataset = load("synthetic:503")
        assert (len(dataset.train), len(dataset.test), dataset.name) == (503, 100, "synthetic:503")
        assert set(np.bincount(dataset.train.labels)) == {50, 51}
        assert set(np.bincount(dataset.test.labels)) == {10}
        assert (len(load("synthetic").train), len(load("synthetic").test)) == (5000, 1000)

    def test_it_is_the_same_dataset_on_every_machine(self):
        dataset = load("synthetic:1500")  # two chunks, the second a part of one
        hashes = (dataset.train.content_hash + dataset.test.content_hash).encode()
        assert hashlib.sha256(hashes).hexdigest()[:16] == "686b01c6c10613fb"

    def test_no_image_is_in_both_splits(self):
        dataset = load("synthetic:500")
        train = {image.tobytes() for image in dataset.train.images}
        assert len(train) == 500
        assert not train & {image.tobytes() for image in dataset.test.images}

    def test_its_classes_can_be_learned_but_not_without_mistakes(self):
        accuracy = accuracy_of_class_means(load("synthetic"), mirrored=False)
        assert 0.85 < accuracy < 0.99

    def test_a_mirrored_image_keeps_its_class(self):
        dataset = load("synthetic")
        assert dataset.mirror_keeps_class
        plain, mirrored = (accuracy_of_class_means(dataset, mirrored) for mirrored in (False, True))
        assert abs(plain - mirrored) < 0.02


def accuracy_of_class_means(dataset, mirrored):
    """The test accuracy of the nearest class mean of the training images."""
    flat = dataset.train.images.reshape(len(dataset.train), -1)
    means = np.stack([flat[dataset.train.labels == k].mean(axis=0) for k in range(10)])
    images = dataset.test.images[..., ::-1] if mirrored else dataset.test.images
    distances = (means**2).sum(axis=1) - 2 * (images.reshape(len(images), -1) @ means.T)
    return (distances.argmin(axis=1) == dataset.test.labels).mean()
