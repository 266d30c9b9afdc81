"""What an extractor is: frozen, from uint8 images to float32 features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Extractor(ABC):
    """Turns uint8 images (n, 3, 32, 32) into float32 features (n, features), in batches of batch_size."""

    name: str
    features: int
    batch_size: int

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Everything besides the images that shapes the features: weights hash, sizes, engine."""

    @abstractmethod
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features of up to batch_size images."""

    def batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """The features of any number of images, batch after batch; later ones may be under way already."""
        for start in range(0, len(images), self.batch_size):
            yield self(images[start : start + self.batch_size])
