"""A trained model with its extractor: from images to class probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import model
from fastmlp.backends import Backend
from fastmlp.datasets import Split
from fastmlp.errors import DataError
from fastmlp.extractors import Extractor, open_extractor
from fastmlp.files import read_json
from fastmlp.mlp import Network, softmax
from fastmlp.progress import progress

ROWS = 256


class Predictor:
    """The model in a folder that `fastmlp train` or `reproduce` wrote.

    weights replaces the extractor's weights file where that has moved. Raises DataError if the model or the weights
    are missing, damaged, or the weights are not those the model was trained with.
    """

    def __init__(self, folder: Path, backend: Backend, weights: Path | None = None) -> None:
        parameters = model.load(folder / "model.safetensors").parameters
        self.config = _read_config(folder / "config.json", parameters.sizes[-1])
        self.backend = backend
        self.network = Network(parameters, backend, ROWS)
        self.extractor = _open_extractor(self.config, folder, backend, weights)
        if self.extractor.features != self.network.sizes[0]:
            raise DataError(f"The model in {folder} does not fit its extractor: train it again.")

    @property
    def class_names(self) -> list[str]:
        return self.config["class_names"]

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, d) of uint8 images (n, 3, 32, 32)."""
        size, parts = self.extractor.batch_size, []
        with progress(f"extract {self.extractor.name}", len(images), "images") as bar:
            for start in range(0, len(images), size):
                parts.append(self.extractor(images[start : start + size]))
                bar.advance(len(parts[-1]))
        return np.concatenate(parts)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Class probabilities (n, classes) of uint8 images (n, 3, 32, 32)."""
        return softmax(self.network.logits(self._place(self.features(images))))

    def evaluate(self, split: Split) -> dict[str, float]:
        """Mean cross-entropy and accuracy on labelled images."""
        labels = self.backend.asarray(split.labels)
        loss, accuracy = self.network.evaluate(self._place(self.features(split.images)), labels)
        return {"accuracy": accuracy, "loss": loss, "images": len(split)}

    def _place(self, features: NDArray[np.float32]) -> Any:
        return self.backend.asarray(features.astype(self.network.dtype))


def _read_config(path: Path, classes: int) -> dict[str, Any]:
    """config.json of a model with so many classes; DataError unless all that is read of it is of its kind."""
    config = read_json(path)
    try:
        extractor, names = config["extractor"], config["class_names"]
        kinds: list[tuple[Any, Any]] = [(config["dataset"], str), (config["weights"], str | None), (names, list)]
        kinds += [(extractor["name"], str), (extractor.get("image_size"), int | None)]
        kinds += [(name, str) for name in names]
        sound = len(names) == classes and all(isinstance(value, kind) for value, kind in kinds)
    except (KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise DataError(f"{path} is damaged: train the model again.")
    return config


def _open_extractor(config: dict[str, Any], folder: Path, backend: Backend, weights: Path | None) -> Extractor:
    """The extractor that config.json names, with the very weights the model was trained on."""
    expected, recorded = config["extractor"], config["weights"]
    name, size = expected["name"], expected.get("image_size")
    if weights is None and recorded is not None:
        weights = folder / recorded  # an absolute path stays as it is
    extractor = open_extractor(name, backend, weights=weights, image_size=size)
    if extractor.provenance().get("weights") != expected.get("weights"):
        raise DataError(f"The weights of {name} are not those the model was trained with: pass those with --weights.")
    return extractor
