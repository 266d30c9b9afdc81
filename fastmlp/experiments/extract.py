"""The extraction of a dataset's features, on the engine that was asked for."""

from __future__ import annotations

import json

from fastmlp.common.files import write_text
from fastmlp.common.progress import say
from fastmlp.experiments.config import Config
from fastmlp.experiments.engine_options import EngineOptions
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.features.store import FeatureStore

BAD_IMAGES = "bad-images.jsonl"


def extract(config: Config, options: EngineOptions) -> dict[str, FeatureStore]:
    """The stores of all features by the names of their splits; images left out are listed in the output folder."""
    machine = Machine(config.backend, config.threads)
    with options.opened(config, machine) as engine:
        features = ImageFeatures(config, machine, engine)
        stores = {store.provenance["split"]: store for store in features.stores()}
    _list_bad_images(features.images.dataset.left_out.images, config)
    return stores


def _list_bad_images(reasons: dict[str, str], config: Config) -> None:
    """A line of JSON for each; no list where there are none."""
    path = config.folder / BAD_IMAGES
    if reasons:
        lines = [json.dumps({"path": image, "reason": reason}) for image, reason in reasons.items()]
        write_text(path, "\n".join(lines) + "\n")
        say(f"Bad images: {path}")
    else:
        path.unlink(missing_ok=True)
