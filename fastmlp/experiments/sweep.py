"""A sweep: many candidates over the same features, trained together; the setting that does best on held-out rows.

A tenth of the training rows, and their augmented copies with them, is held out of all training. For each setting
(learning rate, weight decay, width), one candidate is trained per seed; the mean of their accuracies on the held-out
rows decides. The chosen setting is then trained on all training rows, as `fastmlp train` would: that model is kept,
and it alone is tested on the test rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastmlp.common.errors import UsageError
from fastmlp.common.files import claimed, write_json
from fastmlp.experiments.bad_images import list_bad_images_of
from fastmlp.experiments.candidates import (
    BEST,
    Candidate,
    Known,
    Setting,
    check_settings,
    describe,
    ranked,
    train_candidates,
    train_chosen,
)
from fastmlp.experiments.config import Config
from fastmlp.experiments.engine_options import EngineOptions
from fastmlp.experiments.feature_sets import FeatureSet, Trial, tenth
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.experiments.parts import OnDevices, forget_parts, train_in_parts
from fastmlp.experiments.results import SCHEMA
from fastmlp.report.style import save
from fastmlp.report.sweep import draw_sweep
from fastmlp.training.loop import DivergedError
from fastmlp.training.recipe import Recipe

HERE = EngineOptions()
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the preset's learning rate, where no learning rates are given


@dataclass(frozen=True)
class Grid:
    """The values that a sweep combines, each once. Raises UsageError for an empty list, or one with duplicates."""

    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            if not values or len(set(values)) < len(values):
                raise UsageError(f"--{name.replace('_', '-')} must be one or more different numbers: a,b,c.")
        _check_numbers("--learning-rates must be positive numbers", self.learning_rates, lambda rate: rate > 0)
        _check_numbers("--weight-decays must be numbers from 0 on", self.weight_decays, lambda decay: decay >= 0)

    @classmethod
    def around(
        cls,
        recipe: Recipe,
        learning_rates: Sequence[float] | None = None,
        weight_decays: Sequence[float] | None = None,
        widths: Sequence[int] | None = None,
    ) -> Grid:
        """Those values; where None: rates around the recipe's, its weight decay and none, and its width."""
        rates = [float(f"{factor * recipe.learning_rate:.3g}") for factor in FACTORS]
        decays = sorted({0.0, float(f"{recipe.weight_decay:.3g}")})
        return cls(
            tuple(rates if learning_rates is None else learning_rates),
            tuple(decays if weight_decays is None else weight_decays),
            tuple(recipe.hidden_layer_sizes if widths is None else widths),
        )

    def settings(self) -> list[Setting]:
        return Setting.combined(self.widths, self.weight_decays, self.learning_rates)


def _check_numbers(rule: str, values: Sequence[float], allows: Callable[[float], bool]) -> None:
    for value in values:
        if not (math.isfinite(value) and allows(value)):
            raise UsageError(f"{rule}, not {value:g}.")


def sweep(
    config: Config,
    machine: Machine,
    name: str,
    features: FeatureSet,
    grid: Grid,
    options: EngineOptions = HERE,
) -> dict[str, Any]:
    """Train all candidates of the grid, choose, train the chosen setting on all training rows, and test that model.

    Writes config.folder/best/, the model that `train_one` would write for the chosen setting, sweep.png and, last,
    sweep.json. On Ray or several devices, candidates train in parts, of which an interrupted sweep keeps those that are
    done; the chosen setting trains here. Raises DivergedError if no setting is left.
    """
    check_settings(grid.settings(), config)
    with claimed(config.folder):
        results = _sweep(Models(config, machine, {name: features}), grid, options)
        forget_parts(config.folder)
    return results


def _sweep(models: Models, grid: Grid, options: EngineOptions) -> dict[str, Any]:
    config, machine = models.config, models.machine
    [(name, features)] = models.feature_sets.items()
    split = tenth(features, config.seed)
    with machine.timed("sweep"):
        candidates = _candidates(models, grid.settings(), Trial.of(features, *split), options)
    settings = ranked(candidates)
    if settings[0]["diverged"]:
        raise DivergedError("Of every setting a candidate diverged: lower the --learning-rates.")
    chosen = Setting.of(settings[0])
    (config.folder / "sweep.json").unlink(missing_ok=True)  # so that it never lies beside another sweep's model
    figures = train_chosen(models, name, chosen)["figures"]
    results = {
        "schema": SCHEMA,
        "on": name,
        "grid": asdict(grid),
        "settings": settings,
        "chosen": {**chosen.as_dict(), "seed": config.seed, **figures, "model": BEST},
        **describe(models, features, [split], candidates),
        "heads_per_second": round(len(candidates) / machine.seconds["sweep"], 4),
    }
    list_bad_images_of(features, config.folder)
    save(draw_sweep(results), config.folder / "sweep.png")
    write_json(config.folder / "sweep.json", results)
    return results


def _candidates(
    models: Models, settings: Sequence[Setting], trial: Trial, options: EngineOptions
) -> Sequence[Candidate | Known]:
    devices = models.machine.backend.devices
    if len(devices) > 1 and not options.on_ray:
        each = -(-len(settings) * models.config.seeds // len(devices))
        return train_in_parts(models, settings, trial, OnDevices(devices, models.machine.threads), each)
    if not options.on_ray:
        return train_candidates(models, settings, trial)
    with options.cluster(models.config, models.machine) as cluster:
        return train_in_parts(models, settings, trial, cluster)
