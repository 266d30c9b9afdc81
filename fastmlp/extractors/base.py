"""What an extractor is: a frozen function from uint8 images to float32 features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

REDUCED = ("tf32", "bfloat16", "float16")  # in which a backbone may compute on a GPU: fewer bits, more images a second

# By how much of their largest number a backbone's features may be off: in float32 by another order of operations in
# some twenty layers; bfloat16 keeps 8 bits, with errors of 0.004 at each layer, added up like noise; float16 and TF32
# keep 11 bits, and are off by an eighth of that.
ROUNDING = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.05 / 8, "tf32": 0.05 / 8}


def kind_of_device(device: str) -> str:
    """ "cuda" of "cuda:1": features are the same on whichever of a machine's GPUs they are computed."""
    return device.partition(":")[0]


class Extractor(ABC):
    """Turns uint8 images (n, 3, 32, 32) into float32 features (n, features), up to batch_size images at a time."""

    name: str
    features: int
    batch_size: int

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Everything that determines the features besides the images: weights hash, sizes, engine."""

    @abstractmethod
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features of up to batch_size images."""

    def batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """The features of any number of images, batch by batch; later batches may already be in progress."""
        for start in range(0, len(images), self.batch_size):
            yield self(images[start : start + self.batch_size])
