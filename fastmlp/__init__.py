"""fastmlp: one MLP, every array engine.

    from fastmlp import MLPClassifier, MLPRegressor, FeatureExtractor, Augmenter, augment

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastmlp._version import __version__

if TYPE_CHECKING:
    from fastmlp import augment
    from fastmlp.estimators.classifier import MLPClassifier
    from fastmlp.estimators.regressor import MLPRegressor
    from fastmlp.estimators.transformers import Augmenter, FeatureExtractor
    from fastmlp.experiments.probe import probe
    from fastmlp.models.predictor import load_model

__all__ = [
    "Augmenter",
    "FeatureExtractor",
    "MLPClassifier",
    "MLPRegressor",
    "__version__",
    "augment",
    "load_model",
    "probe",
]

HOMES = {
    "MLPClassifier": "estimators.classifier",
    "MLPRegressor": "estimators.regressor",
    "FeatureExtractor": "estimators.transformers",
    "Augmenter": "estimators.transformers",
    "load_model": "models.predictor",
    "probe": "experiments.probe",
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f"fastmlp.{HOMES[name]}"), name)
    if name == "augment":
        return import_module("fastmlp.augment")
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
