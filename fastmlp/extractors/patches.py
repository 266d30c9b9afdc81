"""K-means patch features (Coates, Ng and Lee 2011), learned from the training images without a download.

Each 6x6 patch of an image is normalised in brightness and contrast, whitened (ZCA) and compared with 128 centroids; the
triangle activation max(0, mean(z) - z_k) of its distances z is averaged over each of the four quadrants. That gives
4 * 128 = 512 features, each standardised by its mean and deviation on training images.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as to_bytes

from fastmlp.backends import Backend, open_backend
from fastmlp.backends.base import Array
from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import read_safetensors, write_bytes
from fastmlp.common.randomness import Purpose, generator
from fastmlp.datasets.base import Split
from fastmlp.extractors.base import Extractor, kind_of_device
from fastmlp.ops import overridden
from fastmlp.ops.patches import SIDE, PatchOps, normalised

CENTROIDS = 128
SAMPLE_PATCHES = 100_000
SAMPLE_IMAGES = 2_000  # for the features' mean and deviation
ROUNDS = 20  # of K-means
PATCHES_AT_ONCE = 2**12  # whose distances stay in a core's cache
WHITENING_NOISE = 0.1  # added to the eigenvalues
EPSILON = 1e-8

PATCH = 3 * SIDE * SIDE
FEATURES = 4 * CENTROIDS
BATCH, BATCH_OF_KERNEL = 256, 4096  # a kernel that computes whole images needs some thousands to fill a GPU
PART_ON_CPU, PART_ON_GPU = 4, 32  # images at a time; few enough on a CPU for their patches to stay in cache
RECIPE = 1  # the version of all constants above and of learn_codebook


@dataclass(frozen=True)
class Codebook:
    """What is learned; all float32."""

    mean: NDArray[np.float32]  # of patches (108,)
    whitening: NDArray[np.float32]  # (108, 108)
    centroids: NDArray[np.float32]  # (128, 108)
    shift: NDArray[np.float32]  # of features (512,)
    scale: NDArray[np.float32]  # (512,)

    @property
    def content_hash(self) -> str:
        digest = hashlib.sha256()
        for array in vars(self).values():
            digest.update(array.tobytes())
        return f"sha256:{digest.hexdigest()}"


SHAPES = {
    "mean": (PATCH,),
    "whitening": (PATCH, PATCH),
    "centroids": (CENTROIDS, PATCH),
    "shift": (FEATURES,),
    "scale": (FEATURES,),
}


class Patches(Extractor):
    """Features computed with a codebook, on any backend.

    A patch x becomes w = W (x - mean), and its squared distance to the centroid c is |w|^2 - 2 c'w + |c|^2. So w itself
    is not needed: c'w is a product with C W, and |w| is |R (x - mean)| for the triangular R of W = Q R, whose zeros are
    skipped block by block.
    """

    name = "patches"
    features = FEATURES

    def __init__(self, codebook: Codebook, backend: Backend) -> None:
        self.backend, self.codebook = backend, codebook
        self._ops = backend.patch_ops
        self._whole = "patch_features" in overridden(self._ops, PatchOps)
        self._part = PART_ON_CPU if backend.device == "cpu" else PART_ON_GPU
        self.batch_size = BATCH_OF_KERNEL if self._whole else BATCH
        whitening, centroids = codebook.whitening.T.astype(np.float64), codebook.centroids.astype(np.float64)
        with backend.one_thread():  # a second one would only be waited for
            triangle = np.linalg.qr(whitening).R
        self._mean = self._placed(codebook.mean)
        self._triangle = self._placed(triangle.T)
        self._centroids = self._placed((centroids @ whitening).T)
        self._lengths = self._placed((centroids**2).sum(axis=1))
        self._shift, self._scale = self._placed(codebook.shift), self._placed(codebook.scale)

    def _placed(self, array: NDArray[Any]) -> Array:
        return self.backend.asarray(np.ascontiguousarray(array, np.float32))

    def provenance(self) -> dict[str, Any]:
        namespace = self.backend.xp.__name__.rsplit(".", 1)[-1]
        engine = f"{namespace}:{kind_of_device(self.backend.device)}" + (", patches.cu" if self._whole else "")
        return {"name": self.name, "weights": self.codebook.content_hash, "engine": engine}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._whole:
            return self._features(images)
        parts = [images[start : start + self._part] for start in range(0, len(images), self._part)]
        if self.backend.device != "cpu":
            return np.concatenate([self._features(part) for part in parts])
        # one part per thread: element-wise work is parallel too, and no product waits for a second core
        with self.backend.one_thread(), ThreadPoolExecutor(self.backend.threads) as pool:
            return np.concatenate(list(pool.map(self._features, parts)))

    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        placed = self.backend.asarray(np.ascontiguousarray(images))
        pooled = self.backend.empty((len(images), FEATURES), "float32")
        self._ops.patch_features(placed, self._mean, self._triangle, self._centroids, self._lengths, pooled)
        return np.asarray(self.backend.to_numpy((pooled - self._shift) * self._scale))


# Learning. Backends on the CPU leave it to NumPy, so that all of them get the same codebook.


def learned_codebook(train: Split, seed: int, folder: Path, backend: Backend) -> Path:
    """The file in folder with the codebook for these training images and this seed, learned if it is missing."""
    learner = _learner(backend)
    where = "" if learner.device == "cpu" else f"-{learner.name}"
    path = folder / f"patches-{train.content_hash[:16]}-{seed}-v{RECIPE}{where}.safetensors"
    if not path.is_file():
        save_codebook(learn_codebook(train.images, seed, learner), path)
    return path


def _learner(backend: Backend) -> Backend:
    return open_backend("numpy") if backend.device == "cpu" else backend


def learn_codebook(images: NDArray[np.uint8], seed: int, backend: Backend) -> Codebook:
    """Whitening and centroids from a sample of patches, then the features' mean and scale from some images."""
    backend = _learner(backend)
    if min(images.shape[2:]) < SIDE:
        raise UsageError(f"Patches are {SIDE} pixels wide: give larger images than {images.shape[2:]}.")
    rng = generator(seed, Purpose.PATCHES)
    patches = normalised(np, sample_patches(images, SAMPLE_PATCHES, rng).astype(np.float32), axis=-1)
    mean, whitening = learn_whitening(patches)
    centroids = learn_centroids((patches - mean) @ whitening, CENTROIDS, rng, backend)
    plain = Codebook(mean, whitening, centroids, np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32))
    extractor = Patches(plain, backend)
    some = images[np.sort(rng.permutation(len(images))[:SAMPLE_IMAGES])]
    features = np.concatenate(list(extractor.batches(some)))
    deviation = features.std(axis=0)
    scale = np.where(deviation > EPSILON, 1 / np.maximum(deviation, EPSILON), 0).astype(np.float32)
    return Codebook(mean, whitening, centroids, features.mean(axis=0), scale)


def save_codebook(codebook: Codebook, path: Path) -> None:
    write_bytes(path, to_bytes({name: np.ascontiguousarray(array) for name, array in vars(codebook).items()}))


def load_codebook(path: Path) -> Codebook:
    """The codebook in a file. Raises DataError if it is missing, damaged or something else."""
    if not path.is_file():
        raise DataError(f"The codebook {path} does not exist: leave --weights out to learn one.")
    try:
        _, arrays = read_safetensors(path)
    except ValueError as error:
        raise DataError(f"The codebook {path} is damaged ({error}): delete it to learn it again.") from None
    found = {name: array.shape for name, array in arrays.items()}
    if found != SHAPES or any(a.dtype != np.float32 or not np.isfinite(a).all() for a in arrays.values()):
        raise DataError(f"{path} is not a codebook of patch features: delete it to learn it again.")
    return Codebook(**arrays)


def sample_patches(images: NDArray[np.uint8], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`count` patches at random positions in random images: uint8 (count, 3 * 6 * 6)."""
    n, channels, height, width = images.shape
    which = rng.integers(0, n, count)[:, None, None, None]
    top = rng.integers(0, height - SIDE + 1, count)[:, None, None, None]
    left = rng.integers(0, width - SIDE + 1, count)[:, None, None, None]
    channel = np.arange(channels)[None, :, None, None]
    y, x = np.arange(SIDE)[None, None, :, None], np.arange(SIDE)[None, None, None, :]
    return images[which, channel, top + y, left + x].reshape(count, -1)


def learn_whitening(patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean (108,) and ZCA matrix (108, 108) of patches (n, 108): V (D + 0.1)^-1/2 V'."""
    mean = patches.mean(axis=0, dtype=np.float64)
    centred = patches - mean
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(patches))
    whitening = vectors / np.sqrt(eigenvalues + WHITENING_NOISE) @ vectors.T
    return mean.astype(np.float32), whitening.astype(np.float32)


def learn_centroids(
    patches: NDArray[np.float32], count: int, rng: np.random.Generator, backend: Backend
) -> NDArray[np.float32]:
    """K-means (Lloyd's algorithm) from random patches; a centroid that loses all its patches moves to a random one."""
    centroids = patches[rng.permutation(len(patches))[:count]].copy()
    placed, sums = backend.asarray(patches), backend.empty(centroids.shape, "float32")
    for _ in range(ROUNDS):
        nearest = _nearest(backend, placed, backend.asarray(centroids))
        backend.patch_ops.cluster_sums(placed, nearest, sums)
        sizes = np.bincount(backend.to_numpy(nearest), minlength=count)
        empty = sizes == 0
        centroids = np.asarray(backend.to_numpy(sums) / np.maximum(sizes, 1)[:, None], np.float32)
        centroids[empty] = patches[rng.integers(0, len(patches), empty.sum())]
    return centroids


def _nearest(backend: Backend, patches: Array, centroids: Array) -> Array:
    """The number of the centroid (k, d) that is nearest to each patch (n, d): int64 (n,)."""
    xp = backend.xp
    lengths, doubled = xp.sum(centroids * centroids, axis=1), 2 * centroids.T
    parts = backend.split(patches, PATCHES_AT_ONCE)
    return xp.concat([xp.argmin(lengths - xp.matmul(part, doubled), axis=1) for part in parts])
