"""One model in one call: trained, judged, and written with its figures and a report."""

from __future__ import annotations

from typing import Any

from fastmlp.common.files import claimed
from fastmlp.experiments.bad_images import list_bad_images_of
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import FeatureSet
from fastmlp.experiments.folds import cross_validate
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.experiments.results import judge
from fastmlp.report import head


def train_one(config: Config, machine: Machine, name: str, features: FeatureSet) -> dict[str, Any]:
    """Train one model and return what its results.json holds; with the report, it lies in the model's folder.

    With config.folds it is cross-validated first.
    """
    models = Models(config, machine, {name: features})
    with claimed(config.folder):
        validated = None if config.folds is None else cross_validate(models, name, config.folds)
        member = models.train()[name]
        list_bad_images_of(features, config.folder)
        results = judge(models, name, member, config.folder / name, validated)
        head.write(results, config.folder / name)
        return results
