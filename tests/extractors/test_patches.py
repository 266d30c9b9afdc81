"""Patch features: each part against a plain formula, on every backend; a codebook is whole or refused."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastmlp.backends import open_backend, probe
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.common.errors import DataError
from fastmlp.datasets.base import Split
from fastmlp.extractors import open_extractor, patches
from fastmlp.extractors.patches import Codebook, Patches
from fastmlp.ops.patches import SIDE, normalised
from fastmlp.testing.compare import assert_close
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.testing.tolerances import STEP

ENGINES = ("numpy", "numba", "torch")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (40, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    return np.clip(smooth + rng.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def codebook(images: np.ndarray) -> Codebook:
    return patches.learn_codebook(images, 0, open_backend("numpy"))


def plain_features(image: np.ndarray, codebook: Codebook) -> np.ndarray:
    """One image's features, one patch at a time, in float64, as Coates, Ng and Lee (2011) describe them."""
    height, width = image.shape[1] - SIDE + 1, image.shape[2] - SIDE + 1
    activations = np.empty((height, width, patches.CENTROIDS))
    for y in range(height):
        for x in range(width):
            patch = image[:, y : y + 6, x : x + 6].astype(np.float64).ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
            white = (patch - codebook.mean) @ codebook.whitening
            distance = np.sqrt(((white - codebook.centroids) ** 2).sum(axis=1))
            activations[y, x] = np.maximum(0, distance.mean() - distance)
    rows, columns = ((slice(None, (n + 1) // 2), slice((n + 1) // 2, None)) for n in (height, width))
    quadrants = itertools.product(rows, columns)
    pooled = np.concatenate([activations[quadrant].mean(axis=(0, 1)) for quadrant in quadrants])
    return (pooled - codebook.shift) * codebook.scale


@pytest.mark.parametrize("width", [32, 21])
@pytest.mark.parametrize("name", ENGINES)
def test_features_follow_the_formulas_on_every_backend(
    name: str, images: np.ndarray, codebook: Codebook, width: int
) -> None:
    if not probe(name).usable:
        pytest.skip(probe(name).reason)
    images = images[:5, ..., :width]
    features = Patches(codebook, open_backend(name))(images)
    assert features.shape == (5, 512)
    assert features.dtype == np.float32
    for image, got in zip(images, features, strict=True):
        expected = plain_features(image, codebook)
        # float32 sums of 108 squares, and a difference of near distances
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_stores_features_are_known_on_every_gpu_of_a_machine(codebook: Codebook) -> None:
    """The one that a run names by its number is not part of what features come from."""
    engines = set()
    for device in ("cuda", "cuda:0", "cuda:1"):
        backend = open_backend("numpy")
        backend.device = device
        engines.add(Patches(codebook, backend).provenance()["engine"])
    assert engines == {"numpy:cuda"}


def test_a_kernel_computes_whole_images(
    emulated: EmulatedBackend, images: np.ndarray, codebook: Codebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[int] = []
    ops = type(emulated.patch_ops)
    compute = ops.patch_features

    def counted(own: Any, images: np.ndarray, *arrays: Any) -> None:
        launched.append(len(images))
        compute(own, images, *arrays)

    monkeypatch.setattr(ops, "patch_features", counted)
    images = images[:5, :, :8, :9]
    extractor = Patches(codebook, emulated)
    features = extractor(images)
    assert launched == [5]
    assert extractor.provenance()["engine"].endswith("patches.cu")
    assert extractor.batch_size > Patches(codebook, open_backend("numpy")).batch_size
    expected = np.array([plain_features(image, codebook) for image in images])
    assert np.abs(features - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ENGINES)
def test_threads_change_nothing(name: str, images: np.ndarray, codebook: Codebook) -> None:
    if not probe(name).usable:
        pytest.skip(probe(name).reason)
    with threadpool_limits():
        one, three = (Patches(codebook, open_backend(name, threads))(images) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("name", ENGINES)
def test_an_images_features_do_not_depend_on_its_neighbours(name: str, images: np.ndarray, codebook: Codebook) -> None:
    if not probe(name).usable:
        pytest.skip(probe(name).reason)
    extractor = Patches(codebook, open_backend(name))
    one_by_one = np.concatenate([extractor(image[None]) for image in images[:7]])
    assert_close(name, extractor(images[:7]), one_by_one, STEP["float32"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_whitening_that_loses_dimensions(images: np.ndarray, codebook: Codebook, rank: int) -> None:
    """A user's codebook need not preserve all of a patch."""
    whitening = np.zeros_like(codebook.whitening)
    whitening[:, :rank] = codebook.whitening[:, :rank]
    changed = Codebook(**{**vars(codebook), "whitening": whitening})
    features = Patches(changed, open_backend("numpy"))(images[:1])
    expected = plain_features(images[0], changed)
    assert np.abs(features[0] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_features_are_standardised_on_the_training_images(images: np.ndarray, codebook: Codebook) -> None:
    extractor = Patches(codebook, open_backend("numpy"))
    features = np.concatenate([extractor(images[:32]), extractor(images[32:])])
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(features.std(axis=0), 1, atol=1e-3)


def test_whitened_patches_have_nearly_unit_covariance(images: np.ndarray) -> None:
    sample = patches.sample_patches(images, 20_000, np.random.default_rng(1)).astype(np.float32)
    sample = normalised(np, sample, axis=-1)
    mean, whitening = patches.learn_whitening(sample)
    spectrum = np.linalg.eigvalsh(np.cov(((sample - mean) @ whitening).T))
    before = np.linalg.eigvalsh(np.cov((sample - mean).T))
    np.testing.assert_allclose(spectrum, np.sort(before / (before + patches.WHITENING_NOISE)), atol=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_centroids_are_means_of_their_patches(name: str) -> None:
    """Three far clusters and three centroids: K-means finds the clusters' means, on every backend."""
    if not probe(name).usable:
        pytest.skip(probe(name).reason)
    rng = np.random.default_rng(4)
    centres = np.array([[0, 0], [50, 0], [0, 50]], np.float32)
    points = (np.repeat(centres, 200, axis=0) + rng.standard_normal((600, 2))).astype(np.float32)
    found = patches.learn_centroids(points, 3, np.random.default_rng(1), open_backend(name))
    expected = points.reshape(3, 200, 2).mean(axis=1)
    order = np.lexsort(found.T)
    np.testing.assert_allclose(found[order], expected[np.lexsort(expected.T)], atol=1e-3)


def test_centroids_do_not_depend_on_how_patches_are_shared_out() -> None:
    """Of many more patches than are taken at once, some of them alike, so that centroids coincide and one is empty."""
    rng = np.random.default_rng(5)
    points = rng.standard_normal((2 * patches.PATCHES_AT_ONCE + 3, 12)).astype(np.float32)
    points[: len(points) // 2] = points[0]
    found = patches.learn_centroids(points, 9, np.random.default_rng(1), open_backend("numpy"))
    np.testing.assert_array_equal(found, plain_centroids(points, 9, np.random.default_rng(1)))


def plain_centroids(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Lloyd's algorithm on all points at once."""
    centroids = points[rng.permutation(len(points))[:count]].copy()
    for _ in range(patches.ROUNDS):
        distance = (centroids**2).sum(axis=1) - 2 * points @ centroids.T
        nearest = distance.argmin(axis=1)
        empty = np.setdiff1d(np.arange(count), nearest)
        for k in np.setdiff1d(np.arange(count), empty):
            own = points[nearest == k]
            centroids[k] = np.add.reduceat(own, [0], axis=0)[0] / len(own)
        centroids[empty] = points[rng.integers(0, len(points), len(empty))]
    return centroids


def test_a_device_learns_a_codebook_of_its_own(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its sums have another order; backends on the CPU share NumPy's."""

    class Device(NumpyBackend):
        name = "device"
        device = "cuda"

    monkeypatch.setattr(patches, "SAMPLE_PATCHES", 2_000)
    split = Split(images[:9], np.zeros(9, np.int64))
    host, numba, device = (
        patches.learned_codebook(split, 0, tmp_path, on)
        for on in (open_backend("numpy"), open_backend("numba"), Device())
    )
    assert host == numba != device
    learned = [vars(patches.load_codebook(path)) for path in (host, device)]
    for name, array in learned[0].items():
        assert_close(name, learned[1][name], array.astype(np.float64), STEP["float32"])


@pytest.mark.slow
def test_learning_is_deterministic_and_kept(images: np.ndarray, codebook: Codebook, tmp_path: Path) -> None:
    split = Split(images, np.zeros(len(images), np.int64))
    on = open_backend("numpy")
    path = patches.learned_codebook(split, 0, tmp_path, on)
    assert patches.load_codebook(path).content_hash == codebook.content_hash
    written = path.stat().st_mtime_ns
    assert patches.learned_codebook(split, 0, tmp_path, on).stat().st_mtime_ns == written
    assert patches.learned_codebook(split, 1, tmp_path, on) != path


def test_a_damaged_codebook_is_refused(codebook: Codebook, tmp_path: Path) -> None:
    path = tmp_path / "codebook.safetensors"
    with pytest.raises(DataError, match="does not exist"):
        open_extractor("patches", open_backend("numpy"), weights=path)
    patches.save_codebook(codebook, path)
    content = path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(DataError, match="damaged"):
        open_extractor("patches", open_backend("numpy"), weights=path)
    changed = {**vars(codebook), "shift": np.full(512, np.nan, np.float32)}
    patches.save_codebook(Codebook(**changed), path)
    with pytest.raises(DataError, match="not a codebook"):
        open_extractor("patches", open_backend("numpy"), weights=path)
