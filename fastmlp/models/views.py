"""Views of images, over which a model's answers are averaged: each image alone, or beside its mirror image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment import hflip
from fastmlp.common.errors import DataError, UsageError, did_you_mean
from fastmlp.datasets.images import as_images
from fastmlp.network.evaluation import log_softmax

ONE, _ = VIEWS = ("one", "mirror")


def check_views(views: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Raise UsageError unless the model in a folder, which has that config.json, can answer to these views."""
    if views not in VIEWS:
        near = did_you_mean(str(views), VIEWS)
        raise UsageError(f"There are no views {views!r}{near}: choose one of {', '.join(VIEWS)}.")
    if views == ONE:
        return
    if config["extractor"] is None:
        raise UsageError(f"The model in {folder} takes features, which have no mirror image: leave views at {ONE}.")
    keeps_class = config.get("mirror_keeps_class")
    if keeps_class is None:
        raise UsageError(f"The model in {folder} does not tell whether a mirror image keeps its class: train it again.")
    if not keeps_class:
        raise UsageError(
            f"The model in {folder} was trained on {config['dataset']}, where a mirror image does not keep its class: "
            f"leave views at {ONE}."
        )


def views_of(images: NDArray[Any], views: str) -> list[NDArray[Any]]:
    """The images (n, 3, h, w), of views mirror their mirror images too. DataError for a mirror image of no images."""
    if views == ONE:
        return [images]
    images = as_images(images, DataError)
    return [images, hflip(images, True)]


def mean_answer(*logits: NDArray[Any]) -> NDArray[Any]:
    """Logits (n, c) of the mean of the probabilities of each view's logits (n, c); those of one view as they are."""
    if len(logits) == 1:
        return logits[0]
    logarithms = [log_softmax(one.astype(np.float64)) for one in logits]
    return (np.logaddexp.reduce(logarithms, axis=0) - np.log(len(logits))).astype(logits[0].dtype)
