"""The raw pixels, scaled to -0.5 .. 0.5: the simplest features, for tests and as a baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.extractors.base import Extractor


class Pixels(Extractor):
    name = "pixels"
    features = 3 * 32 * 32
    batch_size = 1000

    def provenance(self) -> dict[str, Any]:
        return {"name": self.name}

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255) - np.float32(0.5)
