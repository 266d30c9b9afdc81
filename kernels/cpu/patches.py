"""Patch features: an image's patches as columns of a matrix, and the pooling of their products with the centroids.

Floats are float32 or float64. Patch positions are the last axis, and the inner loops run over them, so that sums
vectorise without reordering.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import inlined, jit

Floats = NDArray[Any]
Images = NDArray[np.uint8]

SIDE = 6
PATCH_NOISE = 10


@inlined
def _cut_columns(image: Images, out: Floats) -> None:
    """out (channels, 6, h * (w - 5)) = the image's columns dx to dx + w - 6, row after row, for dx of 0 to 5."""
    channels, height, width = image.shape
    columns = width - SIDE + 1
    for channel in range(channels):
        for dx in range(SIDE):
            for y in range(height):
                source, target = image[channel, y, dx : dx + columns], out[channel, dx, y * columns : (y + 1) * columns]
                for x in range(columns):
                    target[x] = source[x]


@inlined
def _statistics(cut: Floats, columns: int, total: Floats, squares: Floats, inverses: Floats) -> None:
    """inverses = 1 / sqrt(variance + 10) of the patches, and total = their means; total and squares: (h * (w - 5),).

    Sums of 108 pixels and of their squares are integers below 2**24, hence exact even in float32.
    """
    number, size = total.dtype.type, cut.shape[0] * SIDE * SIDE
    total[:] = 0
    squares[:] = 0
    for channel in range(cut.shape[0]):
        for dx in range(SIDE):
            pixels = cut[channel, dx]
            for p in range(pixels.shape[0]):
                total[p] += pixels[p]
                squares[p] += pixels[p] * pixels[p]
    for p in range(inverses.shape[0]):
        pixel_sum, square_sum = number(0), number(0)
        for dy in range(SIDE):
            pixel_sum += total[p + dy * columns]
            square_sum += squares[p + dy * columns]
        spread = size * np.int64(square_sum) - np.int64(pixel_sum) * np.int64(pixel_sum)
        inverses[p] = number(1) / np.sqrt(number(spread) / number(size * size) + number(PATCH_NOISE))
        total[p] = pixel_sum / number(size)


@jit
def extract_patches(images: Images, mean: Floats, out: Floats) -> None:
    """out (n, channels * 36, positions) = the normalised patches of images (n, channels, h, w), minus the mean."""
    n, channels, height, width = images.shape
    columns, positions = width - SIDE + 1, out.shape[2]
    cut = np.empty((channels, SIDE, height * columns), mean.dtype)
    means, squares = np.empty(height * columns, mean.dtype), np.empty(height * columns, mean.dtype)
    inverses = np.empty(positions, mean.dtype)
    for i in range(n):
        _cut_columns(images[i], cut)
        _statistics(cut, columns, means, squares, inverses)
        for k in range(mean.shape[0]):
            channel, dy, dx = k // (SIDE * SIDE), k // SIDE % SIDE, k % SIDE
            pixels, target = cut[channel, dx, dy * columns :], out[i, k]
            for p in range(positions):
                target[p] = (pixels[p] - means[p]) * inverses[p] - mean[k]


@jit
def add_squares(values: Floats, total: Floats, out: Floats) -> None:
    """out (n, positions) = total + the sum over d of the squares of values (n, d, positions); out may be total."""
    for i in range(values.shape[0]):
        sums, start = out[i], total[i]
        for p in range(sums.shape[0]):
            sums[p] = start[p]
        for j in range(values.shape[1]):
            row = values[i, j]
            for p in range(row.shape[0]):
                sums[p] += row[p] * row[p]


@inlined
def _excesses(products: Floats, squares: Floats, lengths: Floats, out: Floats, average: Floats) -> None:
    """out (k, positions) = the distances to the centroids, minus the one to zero; average (positions,) = their mean."""
    number = out.dtype.type
    length = np.sqrt(squares)
    average[:] = 0
    for j in range(out.shape[0]):
        crossed, excess = products[j], out[j]
        for p in range(average.shape[0]):
            squared = squares[p] - number(2) * crossed[p] + lengths[j]
            excess[p] = np.sqrt(number(0) if squared < 0 else squared) - length[p]
            average[p] += excess[p]
    for p in range(average.shape[0]):
        average[p] /= number(out.shape[0])


@inlined
def _half_means(activations: Floats, columns: int) -> tuple[Any, Any]:
    """The means of the left and the right half of rows of positions (rows * columns,), which are overwritten."""
    number = activations.dtype.type
    rows = left = activations.shape[0] // columns
    while left > 1:  # the lower half of the rows is added to the upper one
        half = left // 2
        below = activations[(left - half) * columns : left * columns]
        for p in range(below.shape[0]):
            activations[p] += below[p]
        left -= half
    middle = (columns + 1) // 2
    first, second = number(0), number(0)
    for x in range(middle):
        first += activations[x]
    for x in range(middle, columns):
        second += activations[x]
    return first / number(rows * middle), second / number(rows * (columns - middle))


@jit
def triangle_pool(products: Floats, squares: Floats, lengths: Floats, columns: int, out: Floats) -> None:
    """out (n, 4 k) = the mean over each quadrant of max(0, mean_k(z) - z_k), z the distances to the k centroids.

    products (n, k, positions): of whitened patches with the centroids; squares (n, positions) and lengths (k,): the
    squared lengths of both; columns: positions per row.
    """
    n, k, positions = products.shape
    number = out.dtype.type
    excesses, average = np.empty((k, positions), out.dtype), np.empty(positions, out.dtype)
    middle = (positions // columns + 1) // 2 * columns
    for i in range(n):
        _excesses(products[i], squares[i], lengths, excesses, average)
        for j in range(k):
            excess = excesses[j]
            for p in range(positions):
                closeness = average[p] - excess[p]
                excess[p] = number(0) if closeness < 0 else closeness
            out[i, j], out[i, k + j] = _half_means(excess[:middle], columns)
            out[i, 2 * k + j], out[i, 3 * k + j] = _half_means(excess[middle:], columns)
