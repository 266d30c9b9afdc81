"""What an extractor is: a frozen function from uint8 images to float32 features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

REDUCED = ("tf32", "bfloat16", "float16")  # in which a backbone may compute on a GPU: fewer bits, more images a second


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
