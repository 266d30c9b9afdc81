"""What results.json holds, of an experiment and of each model: figures on the test set, and how it was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp.common import environment
from fastmlp.common.files import write_json
from fastmlp.common.progress import progress, quietly
from fastmlp.common.statistics import summarize
from fastmlp.experiments.devices import spread
from fastmlp.experiments.feature_sets import ImageFeatures
from fastmlp.experiments.models import Models
from fastmlp.experiments.node import node_at_work
from fastmlp.models import metrics
from fastmlp.network.tiers import TierChoice
from fastmlp.network.trainer import Trainer
from fastmlp.training.member import Member
from fastmlp.training.recipe import Recipe

SCHEMA = 1


class Validated(NamedTuple):
    """What a cross-validation finds: figures as results.json has them, and each row's answer out of its fold."""

    figures: dict[str, Any]
    answers: metrics.Answers


def over_seeds(models: Models, table1: Mapping[str, dict[str, float]]) -> dict[str, Any]:
    """Every cell of Table 1 over all seeds; table1 has the rows of the first."""
    further, table = _further_rows(models, list(table1)), {}
    for name, first in table1.items():
        rows = [first, *further[name]]
        table[name] = {cell: summarize([row[cell] for row in rows]) for cell in first}
    return {"seeds": models.config.all_seeds, "table1": table}


def _further_rows(models: Models, names: Sequence[str]) -> dict[str, list[dict[str, float]]]:
    """Of each model its rows of Table 1 from the seeds after the first; on several devices, the models side by side."""
    devices = models.machine.backend.devices[: len(names)]
    if len(devices) < 2:
        return {name: _rows_of_seeds(models, name) for name in names}
    title = f"train {models.config.seeds - 1} more seeds of each on {len(devices)} devices"
    with models.machine.timed("seeds"), progress(title, len(names), "models") as bar, quietly():
        rows = {}
        for name, own in spread(devices, models.on, names, _rows_of_seeds):
            rows[name] = own
            bar.advance(1)
        return rows


def _rows_of_seeds(models: Models, name: str) -> list[dict[str, float]]:
    return models.table_rows(name, models.train_further_seeds(name))


def on_test_images(models: Models, networks: Mapping[str, Trainer]) -> dict[str, Any]:
    """Every model's answers on the test images, judged.

    evaluation: all figures of each, as `fastmlp.models.metrics.evaluate` has them;
    only_right: how many images this model got right and no other did.
    """
    answers, class_names = answers_of(models, networks), next(iter(models.feature_sets.values())).class_names
    hits = np.array([own.hits for own in answers.values()])
    alone = (hits & (hits.sum(axis=0) == 1)).sum(axis=1).tolist()
    return {
        "evaluation": {name: metrics.evaluate(own, class_names) for name, own in answers.items()},
        "only_right": dict(zip(answers, alone, strict=True)),
    }


def answers_of(models: Models, networks: Mapping[str, Trainer]) -> dict[str, metrics.Answers]:
    """Every model's answers on the test rows."""
    test, labels = models.placed.test, next(iter(models.feature_sets.values())).test.labels
    if test is None:
        raise ValueError("Training rows are answered out of their folds.")
    return {name: metrics.Answers.of(test.logit_batches(network), labels) for name, network in networks.items()}


def judge(
    models: Models, name: str, member: Member, folder: Path, validated: Validated | None = None
) -> dict[str, Any]:
    """Judge a trained model, and write the results.json of its folder.

    validated: what its cross-validation found, whose answers judge it where its training rows are its test rows.
    """
    with models.machine.timed("evaluate"):
        [row] = models.table_rows(name, [member.network])
        features = models.feature_sets[name]
        if validated is not None and features.out_of_fold:
            answers = validated.answers
            row |= {"test_accuracy": answers.accuracy, "test_loss": answers.loss}
        else:
            answers = answers_of(models, {name: member.network})[name]
        evaluation = metrics.evaluate(answers, features.class_names)
    return write(models, name, member, row, evaluation, folder, validated)


def write(
    models: Models,
    name: str,
    member: Member,
    row: Mapping[str, float],
    evaluation: dict[str, Any],
    folder: Path,
    validated: Validated | None = None,
) -> dict[str, Any]:
    """Write the results.json of a model's folder, and return what it holds; row: its row of Table 1."""
    tier = member.network.tier
    results = {
        "schema": SCHEMA,
        "model": name,
        "figures": dict(row),
        "config": {"sizes": list(member.blueprint.sizes), **_training(models)},
        "data": models.describe(name),
        "tier": tier.as_dict(),
        "environment": environment.describe(),
        "history": {name: member.history.as_dict()},
        "evaluation": {name: {**evaluation, "test_set": models.feature_sets[name].test_set}},
        "seconds": models.machine.seconds_so_far(),
    }
    if validated is not None:
        results["over_folds"] = validated.figures
    write_json(folder / "results.json", results)
    return results


def node(models: Models, network: Trainer) -> dict[str, Any] | None:
    """One of the network's nodes at work on a test image; None without a hidden layer."""
    features = next(iter(models.feature_sets.values()))
    return node_at_work(network.parameters, *features.test, features.class_names)


def describe(models: Models, features: ImageFeatures, tier: TierChoice) -> dict[str, Any]:
    """config, data, environment, and the tier that the models were trained in."""
    return {
        "config": _config(models, features),
        "data": {**_data(features), "window_rows": models.window},
        "tier": tier.as_dict(),
        "environment": environment.describe(),
    }


def before_training(models: Models, features: ImageFeatures) -> dict[str, Any]:
    """Of what results.json will hold, what figures of the data and of the network show."""
    dataset = features.images.dataset
    data = {"features": features.extractor.features, "class_names": list(dataset.class_names)}
    return {"config": _config(models, features), "data": data}


def _config(models: Models, features: ImageFeatures) -> dict[str, Any]:
    config, extractor = models.config, features.extractor.provenance()
    return {
        "dataset": config.dataset,
        "extractor": config.extractor,
        "weights": extractor.get("weights"),
        "image_size": extractor.get("image_size"),
        **{name: extractor[name] for name in ("convolutions",) if name in extractor},
        **_training(models),
        "seeds": config.seeds,
        "augmentation": features.images.policy.as_dict(),
        "copies": config.copies,
    }


def _training(models: Models) -> dict[str, Any]:
    config = models.config
    return {
        "backend": str(models.machine.backend),
        "preset": config.recipe_name,
        "hidden_layer_sizes": list(config.recipe.hidden_layer_sizes),
        **described(models.blueprint().recipe),
        "early_stopping": config.early_stopping,
        "class_weight": config.class_weight,
        "seed": config.seed,
        "dtype": config.dtype,
        "threads": models.machine.threads,
        "limit": config.limit,
        "memory": config.memory,
    }


def _data(features: ImageFeatures) -> dict[str, Any]:
    dataset = features.images.dataset
    images = len(dataset.train)
    return {
        "name": dataset.name,
        "note": dataset.note,
        "left_out": asdict(dataset.left_out),
        "class_names": list(dataset.class_names),
        "train_images": images,
        "augmented_images": (1 + features.config.copies) * images,
        "test_images": len(dataset.test),
        "features": features.extractor.features,
        "reused_features": [store.path.name for store in features.stores() if store.reused],
    }


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe as results.json's config has it: the drop in one entry, None where there is none.

    What belongs to another optimizer or schedule is left out.
    """
    values = recipe.as_dict()
    if recipe.strength is not None:
        return values
    for owner, names in (("momentum", ("momentum", "nesterov")), ("cosine", ("warm_up",))):
        if owner not in (recipe.optimizer, recipe.schedule):
            values = {name: value for name, value in values.items() if name not in names}
    drop = {"every": values.pop("drop_every"), "factor": values.pop("drop_factor")}
    return {**values, "learning_rate_drop": drop if recipe.schedule == "step" else None}
