"""The cases of the ops of patch features."""

from __future__ import annotations

import numpy as np

from fastmlp.ops.patches import SIDE, PatchOps
from fastmlp.testing.op_case import Inputs, OpCase, Rng, Shape, like, method, size
from fastmlp.testing.reference import patches

PATCH = SIDE**2  # pixels in one channel
DIMENSIONS = 8  # of the patches and centroids whose distances are taken


def draw_patch_features(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (n, channels, height, width, centroids)."""
    *size, count = shape
    pixels = size[1] * PATCH
    whitening, centroids = rng.standard_normal((pixels, pixels)), rng.standard_normal((count, pixels))
    numbers = {
        "mean": rng.normal(0, 0.1, pixels),
        "triangle": np.linalg.qr(whitening).R.T,
        "centroids": (centroids @ whitening).T,
        "lengths": (centroids**2).sum(axis=1),
    }
    images = rng.integers(0, 256, size, dtype=np.uint8)
    return {"images": images, **{name: np.ascontiguousarray(array, dtype) for name, array in numbers.items()}}


def draw_features_of_nan(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Not anywhere: what lies above the triangle's diagonal may be left out or not."""
    inputs = draw_patch_features(rng, shape, dtype)
    inputs["centroids"].flat[rng.integers(inputs["centroids"].size)] = np.nan
    return inputs


def draw_features_that_coincide(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """As in `draw_coinciding`."""
    inputs = draw_patch_features(rng, shape, dtype)
    inputs["lengths"][::2] = -1e6
    return inputs


def draw_extract_patches(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    mean = rng.standard_normal(shape[1] * PATCH).astype(dtype)
    return {"images": rng.integers(0, 256, shape, dtype=np.uint8), "mean": mean}


def draw_flat_images(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Bright images of one level, whose patches have no variance, and some of two neighbouring levels."""
    inputs = draw_extract_patches(rng, shape, dtype)
    inputs["images"] = 250 + (inputs["images"] % 2) * (rng.integers(0, 2, (shape[0], 1, 1, 1), dtype=np.uint8))
    return inputs


def draw_add_squares(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    n, _, positions = shape
    return {
        "values": rng.standard_normal(shape).astype(dtype),
        "total": rng.uniform(0, 9, (n, positions)).astype(dtype),
    }


def draw_triangle_pool(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (n, k, rows, columns)."""
    n, k, rows, columns = shape
    patches, centroids = rng.standard_normal((n, DIMENSIONS, rows * columns)), rng.standard_normal((k, DIMENSIONS))
    return {
        "products": (centroids @ patches).astype(dtype),
        "squares": (patches**2).sum(axis=1).astype(dtype),
        "lengths": (centroids**2).sum(axis=1).astype(dtype),
        "columns": columns,
    }


def draw_coinciding(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Every second centroid lies so near to all patches that rounding, here a lot of it, makes squares negative."""
    inputs = draw_triangle_pool(rng, shape, dtype)
    inputs["lengths"][::2] = -100
    return inputs


def draw_cluster_sums(rng: Rng, shape: Shape, dtype: str) -> Inputs:
    """Shape (n, d, clusters): every third cluster has no rows, the last has one."""
    n, width, clusters = shape
    nearest = rng.integers(0, clusters, n) // 3 * 3
    nearest[: min(n, 1)] = clusters - 1
    return {"values": rng.standard_normal((n, width)).astype(dtype), "nearest": nearest}


def _flops_of_features(shape: Shape) -> int:
    """Of the products."""
    *images, count = shape
    n, pixels, positions = _columns_of_patches(tuple(images))
    return n * positions * pixels * (pixels + 2 * count)


def _columns_of_patches(images: Shape) -> Shape:
    """(n, pixels of a patch, positions) for images (n, channels, height, width)."""
    n, channels, height, width = images
    return n, channels * PATCH, (height - SIDE + 1) * (width - SIDE + 1)


PATCH_CASES = (
    OpCase(
        "patch_features",
        method(PatchOps, "patch_features"),
        draw_patch_features,
        lambda inputs: {
            "out": ((len(inputs["images"]), 4 * len(inputs["lengths"])), inputs["mean"].dtype.name),
        },
        shapes=(
            (0, 3, 8, 8, 5),
            (1, 3, 7, 7, 4),
            (2, 1, 8, 19, 33),
            (1, 3, 13, 12, 128),
        ),
        draws={"a centroid of NaN": draw_features_of_nan, "coinciding": draw_features_that_coincide},
        layouts=("contiguous", "misaligned"),
        truth=patches.patch_features,
        family="patches",
        flops=_flops_of_features,
        bytes=lambda shape, itemsize: size(shape[:4]) + itemsize * 4 * shape[0] * shape[4],
    ),
    OpCase(
        "extract_patches",
        method(PatchOps, "extract_patches"),
        draw_extract_patches,
        lambda inputs: {
            "out": (_columns_of_patches(inputs["images"].shape), inputs["mean"].dtype.name),
        },
        shapes=((0, 3, 8, 8), (1, 3, 6, 6), (2, 1, 7, 9), (5, 2, 13, 6), (1, 3, 9, 70), (3, 3, 32, 32)),
        draws={"flat": draw_flat_images},
        planted=("nan", "inf"),
        truth=patches.extract_patches,
        family="patches",
        flops=lambda shape: 3 * size(_columns_of_patches(shape)),
        bytes=lambda shape, itemsize: size(shape) + itemsize * (size(_columns_of_patches(shape)) + shape[1] * PATCH),
    ),
    OpCase(
        "add_squares",
        method(PatchOps, "add_squares"),
        draw_add_squares,
        like("total"),
        shapes=((0, 3, 4), (1, 1, 1), (3, 5, 33), (2, 130, 7), (5, 1, 65), (2, 36, 729)),
        planted=("nan", "inf"),
        aliases={"out": "total"},
        truth=patches.add_squares,
        family="patches",
        flops=lambda shape: 2 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (size(shape) + 2 * shape[0] * shape[2]),
    ),
    OpCase(
        "triangle_pool",
        method(PatchOps, "triangle_pool"),
        draw_triangle_pool,
        lambda inputs: {
            "out": ((len(inputs["products"]), 4 * len(inputs["lengths"])), inputs["products"].dtype.name),
        },
        shapes=(
            (0, 4, 3, 3),
            (1, 2, 2, 2),
            (3, 7, 4, 3),
            (2, 33, 5, 16),
            (5, 3, 33, 2),
            (1, 200, 2, 9),
            (2, 128, 27, 27),
        ),
        draws={"coinciding": draw_coinciding},
        planted=("nan", "inf"),
        truth=patches.triangle_pool,
        family="patches",
        flops=lambda shape: 8 * size(shape),
        bytes=lambda shape, itemsize: itemsize * (size(shape) + 5 * shape[0] * shape[1]),
    ),
    OpCase(
        "cluster_sums",
        method(PatchOps, "cluster_sums"),
        draw_cluster_sums,
        lambda inputs: {
            "out": (
                (inputs["nearest"].max(initial=-1) + 1, inputs["values"].shape[1]),
                inputs["values"].dtype.name,
            ),
        },
        shapes=((0, 3, 4), (1, 1, 1), (37, 5, 8), (300, 108, 12)),
        truth=patches.cluster_sums,
        family="patches",
        flops=lambda shape: size(shape[:2]),
        bytes=lambda shape, itemsize: itemsize * size(shape[:2]) + 8 * shape[0] + itemsize * shape[1] * shape[2],
    ),
)
