"""The extraction of a dataset's features, on the engine that was asked for."""

from __future__ import annotations

from fastmlp.experiments.bad_images import list_bad_images
from fastmlp.experiments.config import Config
from fastmlp.experiments.engine_options import EngineOptions
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.machine import Machine
from fastmlp.features.store import FeatureStore


def extract(config: Config, options: EngineOptions) -> dict[str, FeatureStore]:
    """The stores of all features by the names of their splits; images left out are listed in the output folder."""
    machine = Machine(config.backend, config.threads)
    with options.opened(config, machine) as engine:
        features = ImageFeatures(config, machine, engine)
        stores = {store.provenance["split"]: store for store in features.stores()}
    list_bad_images(features.images.dataset.left_out.images, config.folder)
    return stores
