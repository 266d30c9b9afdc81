"""A sweep: many candidates over the same features, trained together; the setting that does best on held-out rows.

A tenth of the training rows, and their augmented copies with them, is held out of all training. For each setting
(learning rate, weight decay, width), one candidate is trained per seed; the mean of their accuracies on the held-out
rows decides. The chosen setting is then trained on all training rows, as `fastmlp train` would: that model is kept,
and it alone is tested on the test rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastmlp.common import environment
from fastmlp.common.errors import UsageError
from fastmlp.common.files import claimed, write_json
from fastmlp.common.progress import Progress, progress, say, warn
from fastmlp.common.statistics import summarize
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import FeatureSet, Trial, hold_out_tenth, scaling_of
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.models import Models
from fastmlp.experiments.results import SCHEMA, described, judge
from fastmlp.models.folder import MODEL
from fastmlp.report.style import save
from fastmlp.report.sweep import draw_sweep
from fastmlp.training.loop import DivergedError, train, train_together
from fastmlp.training.member import Member
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the preset's learning rate, where no learning rates are given
BEST = "best"  # the folder of the chosen model


class Setting(NamedTuple):
    """What the candidates of a sweep differ in, but for the seed."""

    learning_rate: float
    weight_decay: float
    width: int

    def options(self) -> dict[str, Any]:
        """As a configuration has them."""
        return {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "hidden_layer_sizes": (self.width,),
        }


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
        """Those values; where None: rates around the recipe's, its weight decay and none, and the paper's width."""
        rates = [float(f"{factor * recipe.learning_rate:.3g}") for factor in FACTORS]
        decays = sorted({0.0, recipe.weight_decay})
        return cls(
            tuple(rates if learning_rates is None else learning_rates),
            tuple(decays if weight_decays is None else weight_decays),
            tuple((64,) if widths is None else widths),
        )

    def settings(self) -> list[Setting]:
        """Width by width, as candidates of one shape train together."""
        combined = itertools.product(self.widths, self.weight_decays, self.learning_rates)
        return [Setting(rate, decay, width) for width, decay, rate in combined]

    def check(self, config: Config) -> None:
        """Raise UsageError, before any work, for a value that no recipe takes."""
        for setting in self.settings():
            _ = replace(config, **setting.options()).recipe


def _check_numbers(rule: str, values: Sequence[float], allows: Callable[[float], bool]) -> None:
    for value in values:
        if not (math.isfinite(value) and allows(value)):
            raise UsageError(f"{rule}, not {value:g}.")


@dataclass
class Candidate:
    """One network of a sweep: its setting, its training, and (loss, accuracy) on the held-out rows."""

    setting: Setting
    member: Member
    validation: tuple[float, float] = (math.nan, math.nan)

    @property
    def diverged_in_epoch(self) -> int | None:
        """The first epoch without a finite loss; the one after the last where only the held-out rows have none."""
        losses = [*self.member.history.train_loss, self.validation[0]]
        return next((epoch for epoch, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)

    def as_dict(self) -> dict[str, Any]:
        epoch, (loss, accuracy) = self.diverged_in_epoch, self.validation
        figures = {"validation_accuracy": accuracy, "validation_loss": loss}
        if epoch is None:
            figures["train_loss"] = self.member.history.train_loss[-1]
        return {"seed": self.member.blueprint.seed, "diverged_in_epoch": epoch, **(figures if epoch is None else {})}


def sweep(config: Config, machine: Machine, name: str, features: FeatureSet, grid: Grid) -> dict[str, Any]:
    """Train all candidates of the grid, choose, train the chosen setting on all training rows, and test that model.

    Writes config.folder/best/, the model that `train_one` would write for the chosen setting, sweep.png and, last,
    sweep.json. Raises DivergedError if no setting is left.
    """
    grid.check(config)
    with claimed(config.folder):
        return _sweep(Models(config, machine, {name: features}), grid)


def _sweep(models: Models, grid: Grid) -> dict[str, Any]:
    config, machine = models.config, models.machine
    [(name, features)] = models.feature_sets.items()
    trial = hold_out_tenth(features, config.seed)
    with machine.timed("sweep"):
        candidates = train_candidates(models, grid.settings(), trial)
    settings = ranked(candidates)
    if settings[0]["diverged"]:
        raise DivergedError("Of every setting a candidate diverged: lower the --learning-rates.")
    chosen = Setting(*(settings[0][name] for name in Setting._fields))
    (config.folder / "sweep.json").unlink(missing_ok=True)  # so that it never lies beside another sweep's model
    figures = train_chosen(models, name, chosen)
    results = {
        "schema": SCHEMA,
        "on": name,
        "grid": asdict(grid),
        "settings": settings,
        "chosen": {**chosen._asdict(), "seed": config.seed, **figures, "model": BEST},
        **_describe(models, features, trial, candidates),
    }
    save(draw_sweep(results), config.folder / "sweep.png")
    write_json(config.folder / "sweep.json", results)
    return results


# Candidates.


def train_candidates(models: Models, settings: Sequence[Setting], trial: Trial) -> list[Candidate]:
    """A candidate of every setting from every seed, trained and then judged on the held-out rows."""
    backend, config = models.machine.backend, models.config
    scaling = scaling_of(next(iter(models.feature_sets.values())), trial.parts[0].features, config.recipe)
    kept, held_out = (Samples.place(backend, *rows, config.dtype, scaling) for rows in (trial.kept, trial.held_out))
    candidates = []
    total, epochs = len(settings) * config.seeds, models.blueprint().recipe.epochs
    with progress(f"sweep of {total} heads", total * epochs, "epochs of heads") as bar:
        for width, alike in itertools.groupby(settings, key=lambda setting: setting.width):
            group = [_new(models, setting, seed) for setting in alike for seed in config.all_seeds]
            tier = group[0].member.network.tier
            say(f"{len(group)} heads with {width} hidden units. {tier}")
            _train_group(group, kept, held_out, bar)
            candidates += group
    return candidates


def _new(models: Models, setting: Setting, seed: int) -> Candidate:
    return Candidate(setting, Member.new(models.changed(**setting.options()).blueprint(seed), models.machine.backend))


def _train_group(group: Sequence[Candidate], kept: Samples, held_out: Samples, bar: Progress) -> None:
    """Train and judge all candidates of one shape. Where every one diverges, training stops there."""
    members = [candidate.member for candidate in group]
    networks, histories = zip(*((member.network, member.history) for member in members), strict=True)
    recipes, seeds = zip(*((member.blueprint.recipe, member.blueprint.seed) for member in members), strict=True)
    try:
        train_together(networks, kept, recipes, seeds, histories=histories, on_epoch=lambda _: bar.advance(len(group)))
    except DivergedError as error:
        warn(str(error))
        return
    with np.errstate(over="ignore", invalid="ignore"):  # one that diverged
        for candidate in group:
            candidate.validation = held_out.evaluate(candidate.member.network)


# The choice.


def ranked(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """What came of each setting, by its mean accuracy on the held-out rows, then its mean loss on them.

    Each is a dict: the setting; how many of its candidates `diverged`; if none did, validation_accuracy,
    validation_loss and train_loss over its seeds, as `statistics.summarize` has them; and its candidates as `heads`.
    Settings of which a candidate diverged come last.
    """
    groups: dict[Setting, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.setting, []).append(candidate)
    rows = [_row(setting, [candidate.as_dict() for candidate in group]) for setting, group in groups.items()]
    return sorted(rows, key=_rank)


def _row(setting: Setting, heads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    diverged = sum(head["diverged_in_epoch"] is not None for head in heads)
    figures = () if diverged else ("validation_accuracy", "validation_loss", "train_loss")
    over_seeds = {figure: summarize([head[figure] for head in heads]) for figure in figures}
    return {**setting._asdict(), "diverged": diverged, **over_seeds, "heads": list(heads)}


def _rank(row: Mapping[str, Any]) -> tuple[float, ...]:
    if row["diverged"]:
        return (1, row["diverged"], 0)
    return (0, -row["validation_accuracy"]["mean"], row["validation_loss"]["mean"])


def train_chosen(models: Models, name: str, setting: Setting) -> dict[str, float]:
    """Train the setting on all training rows from the first seed, write the model, and return Table 1's four figures.

    The model is the one that `fastmlp train` writes for these options; it is tested once, after its last epoch.
    """
    chosen = models.changed(**setting.options())
    folder = chosen.config.folder / BEST
    (folder / MODEL).unlink(missing_ok=True)  # so that it never lies beside another model's config
    member, samples = Member.new(chosen.blueprint(), chosen.machine.backend), chosen.placed.train(name)
    recipe, seed = member.blueprint.recipe, member.blueprint.seed
    with chosen.machine.timed("train_best"), progress("train the best", recipe.epochs, "epochs") as bar:
        train(member.network, samples, recipe, seed, history=member.history, on_epoch=lambda _: bar.advance(1))
    chosen.write(name, member, folder)
    return judge(chosen, name, member, folder)["figures"]


def _describe(models: Models, features: FeatureSet, trial: Trial, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Data, recipe, machine, tiers and times as sweep.json holds them."""
    config, machine, data = models.config, models.machine, features.describe()
    tiers = {candidate.setting.width: candidate.member.network.tier for candidate in candidates}
    return {
        "config": {
            "dataset": data.pop("dataset"),
            "extractor": data.pop("extractor"),
            "backend": str(machine.backend),
            "preset": config.preset,
            **described(models.blueprint().recipe),
            "seeds": config.all_seeds,
            "dtype": config.dtype,
            "threads": machine.threads,
            "limit": config.limit,
        },
        "data": {
            **data,
            "sources": features.sources,
            "rows_trained_on": sum(len(part.labels) for part in trial.parts),
            "held_out_rows": len(trial.held_out.labels),
            "test_rows": data.pop("rows")["test"],
        },
        "tiers": {str(width): tier.as_dict() for width, tier in tiers.items()},
        "environment": environment.describe(),
        "seconds": machine.seconds_so_far(),
        "heads": len(candidates),
        "heads_per_second": round(len(candidates) / machine.seconds["sweep"], 4),
    }
