"""The ops of patch features, in array code.

The last axis of arrays is the positions of an image's patches, row by row, so that every sum is over whole vectors of
positions.
"""

from __future__ import annotations

from typing import Any

import array_api_compat as api

from fastmlp.ops import Array

SIDE = 6  # of a patch
PATCH_NOISE = 10.0  # added to a patch's variance, for pixels in 0..255
BLOCK = 36  # rows of a triangle at a time: smaller blocks skip more zeros, but make narrow products


class PatchOps:
    """The ops on one array namespace."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def patch_features(
        self, images: Array, mean: Array, triangle: Array, centroids: Array, lengths: Array, out: Array
    ) -> None:
        """The triangle activations, averaged over quadrants, of every patch x of uint8 images (n, channels, h, w).

        x is normalised, minus the mean (d,), d = channels * 36. triangle (d, d), which is 0 above its diagonal, and
        centroids (d, k) have a row for each pixel of a patch: the squared length of x is that of x times the triangle,
        its products with whitened centroids, of squared lengths (k,), are x times the centroids. out (n, 4 k), of the
        mean's dtype: see `triangle_pool`.
        """
        xp, (n, _, height, width) = self.xp, images.shape
        columns, positions = width - SIDE + 1, (height - SIDE + 1) * (width - SIDE + 1)
        patches = xp.empty((n, mean.shape[0], positions), dtype=mean.dtype, device=api.device(mean))
        self.extract_patches(images, mean, patches)
        squares = xp.zeros_like(patches[:, 0, :])
        for first in range(0, mean.shape[0], BLOCK):
            rows = triangle[first:, first : first + BLOCK].T
            self.add_squares(xp.matmul(rows, patches[:, first:, :]), squares, squares)
        self.triangle_pool(xp.matmul(centroids.T, patches), squares, lengths, columns, out)

    def extract_patches(self, images: Array, mean: Array, out: Array) -> None:
        """Every 6x6 patch of uint8 images (n, channels, h, w), normalised, minus the mean (channels * 36,).

        out (n, channels * 36, (h - 5) * (w - 5)), of the mean's dtype.
        """
        xp, (n, channels, height, width) = self.xp, images.shape
        columns, positions = width - SIDE + 1, (height - SIDE + 1) * (width - SIDE + 1)
        pixels = xp.astype(images, mean.dtype)
        cut = [  # only the columns that a patch's column dx can take, so that a row of patches is as long as its pixels
            xp.reshape(pixels[:, channel, :, dx : dx + columns], (n, height * columns))
            for channel in range(channels)
            for dx in range(SIDE)
        ]
        shifted = [
            cut[channel * SIDE + dx][:, dy * columns : dy * columns + positions]
            for channel in range(channels)
            for dy in range(SIDE)
            for dx in range(SIDE)
        ]
        out[...] = normalised(xp, xp.stack(shifted, axis=1), axis=1) - mean[:, None]

    def add_squares(self, values: Array, total: Array, out: Array) -> None:
        """out (n, positions) = total + the sum over d of the squares of values (n, d, positions); out may be total."""
        out[...] = total + self.xp.sum(values * values, axis=1)

    def triangle_pool(self, products: Array, squares: Array, lengths: Array, columns: int, out: Array) -> None:
        """The triangle activation max(0, mean_k(z) - z_k) of the distances z to k centroids, averaged over quadrants.

        products (n, k, positions): of whitened patches with the centroids; squares (n, positions) and lengths (k,): the
        squared lengths of both; columns: positions per row. out (n, 4 k): quadrant by quadrant; the upper and left
        ones are larger if a side is odd.
        """
        xp, (n, k, positions) = self.xp, products.shape
        squared = squares[:, None, :] - 2 * products + lengths[:, None]
        distance = xp.sqrt(xp.where(squared < 0, xp.zeros_like(squared), squared))
        excess = distance - xp.sqrt(squares)[:, None, :]  # relative to the one to zero: small numbers sum accurately
        closeness = xp.mean(excess, axis=1, keepdims=True) - excess
        activations = xp.where(closeness < 0, xp.zeros_like(closeness), closeness)
        grid = xp.reshape(activations, (n, k, positions // columns, columns))
        out[...] = xp.concat([xp.mean(xp.mean(q, axis=2), axis=2) for q in _quadrants(grid)], axis=1)

    def cluster_sums(self, values: Array, nearest: Array, out: Array) -> None:
        """out (k, d) = the sum of the rows of values (n, d) whose number in nearest int64 (n,) is 0, 1, ..., k - 1."""
        xp = self.xp
        clusters = xp.arange(out.shape[0], dtype=nearest.dtype, device=api.device(nearest))
        out[...] = xp.matmul(xp.astype(nearest == clusters[:, None], values.dtype), values)


def normalised(xp: Any, patches: Array, axis: int) -> Array:
    """Each patch, along that axis, minus its mean, divided by the root of its variance + 10.

    Coates, Ng and Lee (2011), section 3.1.
    """
    centred = patches - xp.mean(patches, axis=axis, keepdims=True)
    variance = xp.mean(centred * centred, axis=axis, keepdims=True)
    return centred / xp.sqrt(variance + PATCH_NOISE)


def _quadrants(grid: Array) -> tuple[Array, ...]:
    y, x = (grid.shape[2] + 1) // 2, (grid.shape[3] + 1) // 2
    return grid[:, :, :y, :x], grid[:, :, :y, x:], grid[:, :, y:, :x], grid[:, :, y:, x:]
