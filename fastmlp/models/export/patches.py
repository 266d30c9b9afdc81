"""The built-in extractors as parts of an ONNX graph, by the equations of `fastmlp.extractors`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from fastmlp.extractors.patches import PATCH, Codebook
from fastmlp.models.export.graph import Graph
from fastmlp.ops.patches import PATCH_NOISE, SIDE

CHANNELS = np.array([1])
SIDES = np.array([2, 3])
POSITIONS = 32 - SIDE + 1  # of a patch on one side of an image
HALF = (POSITIONS + 1) // 2


def add_pixels(graph: Graph) -> str:
    """Features (n, 3072) of the input `images` uint8 (n, 3, 32, 32)."""
    flat = graph.add("Flatten", graph.add("Cast", "images", to=TensorProto.FLOAT))
    return graph.add("Sub", graph.add("Div", flat, 255.0), 0.5)


def add_patches(graph: Graph, codebook: Codebook) -> str:
    """Features (n, 512) of the input `images` uint8 (n, 3, 32, 32): a patch's values are a position's channels."""
    patches = _normalised(graph, _cut(graph, graph.add("Cast", "images", to=TensorProto.FLOAT)))
    whitened = _product(graph, graph.add("Sub", patches, _channel(codebook.mean)), codebook.whitening.T)
    activations = _triangle(graph, whitened, codebook.centroids)
    pooled = graph.add("Concat", *(_pooled(graph, activations, *corner) for corner in _quadrants()), axis=1)
    return graph.add("Mul", graph.add("Sub", pooled, codebook.shift[None]), codebook.scale[None])


def _cut(graph: Graph, pixels: str) -> str:
    """Every 6x6 patch: a convolution by kernels of a single one."""
    return graph.add("Conv", pixels, np.eye(PATCH, dtype=np.float32).reshape(PATCH, 3, SIDE, SIDE))


def _normalised(graph: Graph, patches: str) -> str:
    centred = graph.add("Sub", patches, graph.add("ReduceMean", patches, CHANNELS))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), CHANNELS)
    return graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", variance, PATCH_NOISE)))


def _triangle(graph: Graph, whitened: str, centroids: NDArray[np.float32]) -> str:
    """max(0, mean_k(z) - z_k) of the distances z; less the distance to zero, which leaves small numbers to sum."""
    squares = graph.add("ReduceSumSquare", whitened, CHANNELS)
    lengths = (centroids.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    apart = graph.add("Sub", squares, graph.add("Mul", _product(graph, whitened, centroids), 2.0))
    squared = graph.add("Relu", graph.add("Add", apart, _channel(lengths)))
    excess = graph.add("Sub", graph.add("Sqrt", squared), graph.add("Sqrt", squares))
    return graph.add("Relu", graph.add("Sub", graph.add("ReduceMean", excess, CHANNELS), excess))


def _pooled(graph: Graph, activations: str, start: NDArray[np.int64], end: NDArray[np.int64]) -> str:
    return graph.add("ReduceMean", graph.add("Slice", activations, start, end, SIDES), SIDES, keepdims=0)


def _quadrants() -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The first position, and the one after the last, of each quadrant, in the order of the features."""
    parts = ((0, HALF), (HALF, POSITIONS))
    return [(np.array([y[0], x[0]]), np.array([y[1], x[1]])) for y in parts for x in parts]


def _product(graph: Graph, values: str, matrix: NDArray[np.float32]) -> str:
    """matrix (k, c) times the values (n, c, y, x) of each position."""
    return graph.add("Conv", values, matrix[:, :, None, None])


def _channel(values: NDArray[np.float32]) -> NDArray[Any]:
    return values[None, :, None, None]
