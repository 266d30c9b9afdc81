"""K-means patch features (Coates, Ng and Lee 2011): learned from the training images, no download.

Every 6x6 patch of an image is brightness- and contrast-normalised, whitened (ZCA) and compared with 128 centroids; the
triangle activation max(0, mean(z) - z_k) of its distances z is averaged over the four quadrants: 4 * 128 = 512
features, each standardised by its mean and deviation on training images.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fastmlp.backends import Backend, open_backend
from fastmlp.backends.base import Array
from fastmlp.datasets.base import Split
from fastmlp.errors import DataError
from fastmlp.extractors.base import Extractor
from fastmlp.files import atomic_path
from fastmlp.randomness import Stream, generator

SIDE = 6
CENTROIDS = 128
SAMPLE_PATCHES = 100_000
SAMPLE_IMAGES = 2_000  # for the features' mean and deviation
ROUNDS = 20  # of K-means
PATCH_NOISE = 10.0  # added to a patch's variance, for pixels in 0..255
WHITENING_NOISE = 0.1  # added to the eigenvalues
EPSILON = 1e-8


PATCH = 3 * SIDE * SIDE
FEATURES = 4 * CENTROIDS
PART = 32  # images at a time: few enough that their patches stay in cache
RECIPE = 1  # the version of everything above and of learn_codebook


@dataclass(frozen=True)
class Codebook:
    """What is learned, all float32."""

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
    """The features by a codebook, in array code, on any backend."""

    name = "patches"
    features = FEATURES
    batch_size = 8 * PART

    def __init__(self, codebook: Codebook, backend: Backend) -> None:
        self.backend, self.codebook = backend, codebook
        place = backend.asarray
        self._mean, self._whitening = place(codebook.mean), place(codebook.whitening)
        self._centroids = place(np.ascontiguousarray(codebook.centroids.T))
        self._lengths = place((codebook.centroids**2).sum(axis=1))
        self._shift, self._scale = place(codebook.shift), place(codebook.scale)

    def provenance(self) -> dict[str, Any]:
        namespace = self.backend.xp.__name__.rsplit(".", 1)[-1]
        engine = f"{namespace}:{self.backend.device}"
        return {"name": self.name, "weights": self.codebook.content_hash, "engine": engine}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [images[start : start + PART] for start in range(0, len(images), PART)]
        if self.backend.device != "cpu":
            return np.concatenate([self._features(part) for part in parts])
        # a part a thread: element-wise work is shared out too, and no product waits for a second core
        with self.backend.one_thread(), ThreadPoolExecutor(self.backend.threads) as pool:
            return np.concatenate(list(pool.map(self._features, parts)))

    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        xp = self.backend.xp
        placed = self.backend.asarray(np.ascontiguousarray(images))
        activations = self._triangle(xp, self._patches(xp, placed))
        pooled = _pool_quadrants(xp, activations, images.shape[2] - SIDE + 1, images.shape[3] - SIDE + 1)
        return np.asarray(self.backend.to_numpy((pooled - self._shift) * self._scale))

    def _patches(self, xp: Any, images: Array) -> Array:
        """All patches of uint8 images (n, 3, h, w), normalised: float32 (n, positions, 108)."""
        n, channels, height, width = images.shape
        rows, columns = height - SIDE + 1, width - SIDE + 1
        pixels = xp.astype(images, xp.float32)
        shifted = [
            pixels[:, channel, y : y + rows, x : x + columns]
            for channel in range(channels)
            for y in range(SIDE)
            for x in range(SIDE)
        ]
        stacked = xp.stack(shifted, axis=-1)
        return normalised(xp, xp.reshape(stacked, (n, rows * columns, channels * SIDE * SIDE)))

    def _triangle(self, xp: Any, patches: Array) -> Array:
        """max(0, mean distance - distance) to every centroid: (n, positions, 128)."""
        whitened = xp.matmul(patches - self._mean, self._whitening)
        squared = xp.sum(whitened * whitened, axis=-1, keepdims=True)
        squared = squared - 2 * xp.matmul(whitened, self._centroids) + self._lengths
        distance = xp.sqrt(xp.where(squared < 0, xp.zeros_like(squared), squared))
        closeness = xp.mean(distance, axis=-1, keepdims=True) - distance
        return xp.where(closeness < 0, xp.zeros_like(closeness), closeness)


# Learning, on the host, so that every backend has the same codebook.


def learned_codebook(train: Split, seed: int, folder: Path) -> Path:
    """The file in folder with the codebook of these training images and this seed; learned if it is not there."""
    path = folder / f"patches-{train.content_hash[:16]}-{seed}-v{RECIPE}.safetensors"
    if not path.is_file():
        save_codebook(learn_codebook(train.images, seed), path)
    return path


def learn_codebook(images: NDArray[np.uint8], seed: int) -> Codebook:
    """Whitening and centroids from a sample of patches, then the features' mean and deviation on some images."""
    rng = generator(seed, Stream.PATCHES)
    patches = normalised(np, sample_patches(images, SAMPLE_PATCHES, rng).astype(np.float32))
    mean, whitening = learn_whitening(patches)
    centroids = learn_centroids((patches - mean) @ whitening, CENTROIDS, rng)
    plain = Codebook(mean, whitening, centroids, np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32))
    extractor = Patches(plain, open_backend("numpy"))
    some = images[np.sort(rng.permutation(len(images))[:SAMPLE_IMAGES])]
    size = extractor.batch_size
    features = np.concatenate([extractor(some[start : start + size]) for start in range(0, len(some), size)])
    deviation = features.std(axis=0)
    scale = np.where(deviation > EPSILON, 1 / np.maximum(deviation, EPSILON), 0).astype(np.float32)
    return Codebook(mean, whitening, centroids, features.mean(axis=0), scale)


def save_codebook(codebook: Codebook, path: Path) -> None:
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in vars(codebook).items()}, temporary)


def load_codebook(path: Path) -> Codebook:
    """The codebook in a file; DataError if it is missing, damaged or something else."""
    if not path.is_file():
        raise DataError(f"The codebook {path} does not exist: leave --weights out to learn one.")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"The codebook {path} is damaged ({error}): delete it, and it is learned again.") from None
    found = {name: array.shape for name, array in arrays.items()}
    if found != SHAPES or any(a.dtype != np.float32 or not np.isfinite(a).all() for a in arrays.values()):
        raise DataError(f"{path} is not a codebook of patch features: delete it, and it is learned again.")
    return Codebook(**arrays)


def sample_patches(images: NDArray[np.uint8], count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """`count` patches at random places of random images: uint8 (count, 3 * 6 * 6)."""
    n, channels, height, width = images.shape
    which = rng.integers(0, n, count)[:, None, None, None]
    top = rng.integers(0, height - SIDE + 1, count)[:, None, None, None]
    left = rng.integers(0, width - SIDE + 1, count)[:, None, None, None]
    channel = np.arange(channels)[None, :, None, None]
    y, x = np.arange(SIDE)[None, None, :, None], np.arange(SIDE)[None, None, None, :]
    return images[which, channel, top + y, left + x].reshape(count, -1)


def normalised(xp: Any, patches: Array) -> Array:
    """Each patch (..., 108) less its mean, over the root of its variance + 10 (the paper's section 3.1)."""
    centred = patches - xp.mean(patches, axis=-1, keepdims=True)
    variance = xp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / xp.sqrt(variance + PATCH_NOISE)


def learn_whitening(patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean (108,) and ZCA matrix (108, 108) of patches (n, 108): V (D + 0.1)^-1/2 V'."""
    mean = patches.mean(axis=0, dtype=np.float64)
    centred = patches - mean
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(patches))
    whitening = vectors / np.sqrt(eigenvalues + WHITENING_NOISE) @ vectors.T
    return mean.astype(np.float32), whitening.astype(np.float32)


def learn_centroids(patches: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """K-means by Lloyd's rounds from random patches; a centroid that loses all its patches takes a random one."""
    centroids = patches[rng.permutation(len(patches))[:count]].copy()
    for _ in range(ROUNDS):
        distance = (centroids**2).sum(axis=1) - 2 * patches @ centroids.T
        nearest = distance.argmin(axis=1)
        order = np.argsort(nearest, kind="stable")
        sizes = np.bincount(nearest, minlength=count)
        taken = np.flatnonzero(sizes)
        starts = np.concatenate([[0], np.cumsum(sizes[taken])[:-1]])
        centroids[taken] = np.add.reduceat(patches[order], starts, axis=0) / sizes[taken, None]
        empty = np.flatnonzero(sizes == 0)
        centroids[empty] = patches[rng.integers(0, len(patches), len(empty))]
    return centroids


def _pool_quadrants(xp: Any, activations: Array, rows: int, columns: int) -> Array:
    """The mean of each quadrant: (n, rows * columns, k) -> (n, 4 k)."""
    n, _, k = activations.shape
    grid = xp.reshape(activations, (n, rows, columns, k))
    y, x = (rows + 1) // 2, (columns + 1) // 2
    quadrants = (grid[:, :y, :x], grid[:, :y, x:], grid[:, y:, :x], grid[:, y:, x:])
    return xp.concat([xp.mean(xp.mean(q, axis=1), axis=1) for q in quadrants], axis=1)
