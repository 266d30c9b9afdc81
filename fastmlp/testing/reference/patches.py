"""The ops of patch features, from their equations: patch by patch, quadrant by quadrant. Floats are float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 6  # of a patch
NOISE = 10.0  # added to a patch's variance

Floats = NDArray[np.float64]
Outputs = dict[str, NDArray[Any]]


def patch_features(
    images: NDArray[np.uint8], mean: Floats, triangle: Floats, centroids: Floats, lengths: Floats
) -> Outputs:
    """Those of patches x minus the mean: their squared lengths are |x triangle|^2, their products x centroids."""
    patches = extract_patches(images, mean)["out"].swapaxes(1, 2)
    squares = ((patches @ triangle) ** 2).sum(axis=2)
    products = (patches @ centroids).swapaxes(1, 2)
    return triangle_pool(products, squares, lengths, images.shape[3] - SIDE + 1)


def extract_patches(images: NDArray[np.uint8], mean: Floats) -> Outputs:
    """Each patch minus its own mean, over the root of its variance + 10 (Coates, Ng and Lee 2011), minus `mean`."""
    n, _, height, width = images.shape
    rows, columns = height - SIDE + 1, width - SIDE + 1
    out = np.empty((n, len(mean), rows * columns))
    for i, y, x in np.ndindex(n, rows, columns):
        patch = images[i, :, y : y + SIDE, x : x + SIDE].astype(np.float64).ravel()
        out[i, :, y * columns + x] = (patch - patch.mean()) / np.sqrt(patch.var() + NOISE) - mean
    return {"out": out}


def add_squares(values: Floats, total: Floats) -> Outputs:
    return {"out": total + (values**2).sum(axis=1)}


def cluster_sums(values: Floats, nearest: NDArray[np.int64]) -> Outputs:
    """Of as many clusters as the largest number tells."""
    out = np.zeros((nearest.max(initial=-1) + 1, values.shape[1]))
    for row, cluster in zip(values, nearest, strict=True):
        out[cluster] += row
    return {"out": out}


def triangle_pool(products: Floats, squares: Floats, lengths: Floats, columns: int) -> Outputs:
    """max(0, mean(z) - z) of the distances z to k centroids, averaged over quadrants; the first are the larger ones.

    A squared distance is |patch|^2 - 2 patch . centroid + |centroid|^2, and not below zero.
    """
    n, k, positions = products.shape
    rows = positions // columns
    y, x = (rows + 1) // 2, (columns + 1) // 2
    out = np.empty((n, 4, k))
    for i in range(n):
        distances = np.sqrt(np.maximum(squares[i] - 2 * products[i] + lengths[:, None], 0)) - np.sqrt(squares[i])
        activations = np.maximum(distances.mean(axis=0) - distances, 0).reshape(k, rows, columns)
        quadrants = (np.s_[:y, :x], np.s_[:y, x:], np.s_[y:, :x], np.s_[y:, x:])
        for q, (down, across) in enumerate(quadrants):
            out[i, q] = activations[:, down, across].mean(axis=(1, 2))
    return {"out": out.reshape(n, 4 * k)}
