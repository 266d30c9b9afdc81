"""A sweep: many heads over the same features, trained together; the setting that does best on held-out images.

A tenth of the training images, and their augmented copies with them, is held out of all training. Of each setting
(learning rate, weight decay, width) a head is trained from every seed; the mean of their accuracies on the held-out
images chooses. The chosen setting is then trained on all training images, as `fastmlp train` would: that model is kept,
and it alone is tested on the test images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fastmlp.common import environment
from fastmlp.common.errors import UsageError
from fastmlp.common.files import claimed, write_json
from fastmlp.common.progress import Progress, progress, say, warn
from fastmlp.common.randomness import Purpose, generator
from fastmlp.common.statistics import summarize
from fastmlp.experiments.config import Config
from fastmlp.experiments.experiment import Experiment, described
from fastmlp.network.trainer import Trainer
from fastmlp.report.style import save
from fastmlp.report.sweep import draw_sweep
from fastmlp.training.loop import DivergedError, History, Recipe, train, train_together
from fastmlp.training.samples import Samples

SCHEMA = 1
HELD_OUT = 10  # one training image in so many
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the preset's learning rate, where no learning rates are given
BEST = "best"  # the folder of the chosen model


class Setting(NamedTuple):
    """What the heads of a sweep differ in, but for the seed."""

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
    """The values that a sweep combines, each once. Raises UsageError where there is none of a kind."""

    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, values in asdict(self).items():
            if not values or len(set(values)) < len(values):
                raise UsageError(f"--{name.replace('_', '-')} must be one or more different numbers: a,b,c.")

    @classmethod
    def around(
        cls,
        recipe: Recipe,
        learning_rates: Sequence[float] | None = None,
        weight_decays: Sequence[float] | None = None,
        widths: Sequence[int] | None = None,
    ) -> Grid:
        """Those values; where None, some around the recipe's: its weight decay and none, and the paper's width."""
        rates = [float(f"{factor * recipe.learning_rate:.3g}") for factor in FACTORS]
        decays = sorted({0.0, recipe.weight_decay})
        return cls(
            tuple(rates if learning_rates is None else learning_rates),
            tuple(decays if weight_decays is None else weight_decays),
            tuple((64,) if widths is None else widths),
        )

    def settings(self) -> list[Setting]:
        """Width by width, for heads of one shape are trained together."""
        combined = itertools.product(self.widths, self.weight_decays, self.learning_rates)
        return [Setting(rate, decay, width) for width, decay, rate in combined]

    def check(self, config: Config) -> None:
        """UsageError, before any work, for a value that no recipe takes."""
        for setting in self.settings():
            _ = replace(config, **setting.options()).recipe


@dataclass
class Head:
    """One head and what came of it: its history, and loss and accuracy on the held-out images."""

    setting: Setting
    seed: int
    recipe: Recipe
    network: Trainer
    history: History = field(default_factory=History)
    validation: tuple[float, float] = (math.nan, math.nan)

    @property
    def diverged_in_epoch(self) -> int | None:
        """The first epoch without a finite loss; the one after the last where only the held-out images have none."""
        losses = [*self.history.train_loss, self.validation[0]]
        return next((epoch for epoch, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)

    def as_dict(self) -> dict[str, Any]:
        epoch, (loss, accuracy) = self.diverged_in_epoch, self.validation
        figures = {"validation_accuracy": accuracy, "validation_loss": loss}
        if epoch is None:
            figures["train_loss"] = self.history.train_loss[-1]
        return {"seed": self.seed, "diverged_in_epoch": epoch, **(figures if epoch is None else {})}


def sweep(config: Config, on: str, grid: Grid) -> dict[str, Any]:
    """Train all heads of the grid, choose, train the chosen setting on all training images, and test that model.

    Writes config.folder/best/, sweep.png and, last, sweep.json. Raises DivergedError if no setting is left.
    """
    grid.check(config)
    experiment = Experiment(config)
    with claimed(config.folder):
        return _sweep(experiment, on, grid)


def _sweep(experiment: Experiment, on: str, grid: Grid) -> dict[str, Any]:
    config = experiment.config
    kept, held_out = hold_out(experiment, on)
    with experiment.timed("sweep"):
        heads = train_heads(experiment, grid.settings(), kept, held_out)
    settings = ranked(heads)
    if settings[0]["diverged"]:
        raise DivergedError("Of every setting a head diverged: lower the --learning-rates.")
    chosen = Setting(*(settings[0][name] for name in Setting._fields))
    (config.folder / "sweep.json").unlink(missing_ok=True)  # so that it never stands beside another sweep's model
    figures = train_chosen(experiment, on, chosen)
    results = {
        "schema": SCHEMA,
        "on": on,
        "grid": asdict(grid),
        "settings": settings,
        "chosen": {**chosen._asdict(), "seed": config.seed, **figures, "model": BEST},
        **_describe(experiment, heads, len(kept), len(held_out)),
    }
    save(draw_sweep(results), config.folder / "sweep.png")
    write_json(config.folder / "sweep.json", results)
    return results


# Data.


def hold_out(experiment: Experiment, on: str) -> tuple[Samples, Samples]:
    """The training set of a model of MODELS without a tenth of the images, and that tenth as they are, not augmented.

    Raises UsageError if there are too few.
    """
    stores = experiment.stores_of(on)
    count = len(stores[0].labels)
    if count < HELD_OUT:
        raise UsageError(f"A sweep holds out a tenth of the training images: {count} are too few, give {HELD_OUT}.")
    order = generator(experiment.config.seed, Purpose.VALIDATION).permutation(count)
    held, kept = np.sort(order[: count // HELD_OUT]), np.sort(order[count // HELD_OUT :])
    features = np.concatenate([store.features[kept] for store in stores])
    labels = np.concatenate([store.labels[kept] for store in stores])
    backend, dtype = experiment.backend, experiment.config.dtype
    held_out = Samples.place(backend, stores[0].features[held], stores[0].labels[held], dtype)
    return Samples.place(backend, features, labels, dtype), held_out


# Heads.


def train_heads(experiment: Experiment, settings: Sequence[Setting], kept: Samples, held_out: Samples) -> list[Head]:
    """A head of every setting from every seed, trained and then judged on the held-out images."""
    heads = []
    seeds, epochs = experiment.config.all_seeds, experiment.recipe.epochs
    total = len(settings) * len(seeds)
    with progress(f"sweep of {total} heads", total * epochs, "epochs of heads") as bar:
        for width, alike in itertools.groupby(settings, key=lambda setting: setting.width):
            wide = experiment.changed(hidden_layer_sizes=(width,))
            group = [_new_head(wide, setting, seed) for setting in alike for seed in seeds]
            tier = group[0].network.tier
            say(f"{len(group)} heads with {width} hidden units. {tier}")
            _train_group(group, kept, held_out, bar)
            heads += group
    return heads


def _new_head(wide: Experiment, setting: Setting, seed: int) -> Head:
    of_setting = wide.changed(**setting.options())
    return Head(setting, seed, of_setting.recipe, of_setting.new_network(seed))


def _train_group(group: Sequence[Head], kept: Samples, held_out: Samples, bar: Progress) -> None:
    """All heads of one shape, trained and judged. Where every one diverges, training stops there."""
    histories = [head.history for head in group]
    networks, recipes, seeds = zip(*((head.network, head.recipe, head.seed) for head in group), strict=True)
    try:
        train_together(networks, kept, recipes, seeds, histories=histories, on_epoch=lambda _: bar.advance(len(group)))
    except DivergedError as error:
        warn(str(error))
        return
    with np.errstate(over="ignore", invalid="ignore"):  # one that diverged
        for head in group:
            head.validation = held_out.evaluate(head.network)


# The choice.


def ranked(heads: Sequence[Head]) -> list[dict[str, Any]]:
    """What came of each setting, by its mean accuracy on the held-out images, then its mean loss on them.

    Each a dict: the setting; how many of its heads `diverged`; if none did, validation_accuracy, validation_loss and
    train_loss over its seeds, as `intervals.summarize` has them; and its heads. Settings with diverged heads come last.
    """
    groups: dict[Setting, list[Head]] = {}
    for head in heads:
        groups.setdefault(head.setting, []).append(head)
    rows = [_row(setting, [head.as_dict() for head in group]) for setting, group in groups.items()]
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


def train_chosen(experiment: Experiment, on: str, setting: Setting) -> dict[str, float]:
    """Train the setting on all training images from the first seed, write the model, and return Table 1's four figures.

    The model is the one that `fastmlp train` writes for these options; it is tested once, after its last epoch.
    """
    chosen = experiment.changed(**setting.options())
    folder = chosen.config.folder / BEST
    (folder / "model.safetensors").unlink(missing_ok=True)  # so that it never stands beside another model's config
    network, samples, recipe = chosen.new_network(chosen.config.seed), chosen.samples(on), chosen.recipe
    with experiment.timed("train_best"), progress("train the best", recipe.epochs, "epochs") as bar:
        history = train(network, samples, recipe, chosen.config.seed, on_epoch=lambda _: bar.advance(1))
    chosen.finish(network, history, chosen.fingerprint(on), folder)
    return chosen.table_rows(on, [network])[0]


def _describe(experiment: Experiment, heads: Sequence[Head], trained_on: int, held_out: int) -> dict[str, Any]:
    """Data, recipe, machine, tiers and times as sweep.json holds them."""
    config, dataset, seconds = experiment.config, experiment.dataset, experiment.seconds
    return {
        "config": {
            "dataset": config.dataset,
            "extractor": experiment.extractor.provenance(),
            "backend": str(experiment.backend),
            "preset": config.preset,
            **described(experiment.recipe),
            "seeds": config.all_seeds,
            "dtype": config.dtype,
            "threads": experiment.threads,
            "limit": config.limit,
        },
        "data": {
            "name": dataset.name,
            "class_names": list(dataset.class_names),
            "rows_trained_on": trained_on,
            "held_out_images": held_out,
            "test_images": len(dataset.test),
        },
        "tiers": {str(head.setting.width): head.network.tier.as_dict() for head in heads},
        "environment": environment.describe(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "heads": len(heads),
        "heads_per_second": round(len(heads) / seconds["sweep"], 4),
    }
