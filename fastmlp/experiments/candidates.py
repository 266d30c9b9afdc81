"""Candidates: heads that are trained together to find the best setting, their ranking, and the training of the best.

What `fastmlp sweep` and `fastmlp probe` share.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.common import environment
from fastmlp.common.errors import UsageError
from fastmlp.common.progress import progress, say, warn
from fastmlp.common.statistics import summarize
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import FeatureSet, Labelled, Trial, joined, scaling_of
from fastmlp.experiments.models import Models
from fastmlp.experiments.results import described, judge
from fastmlp.features.streamed import StreamedRows
from fastmlp.models.folder import MODEL
from fastmlp.training.checkpoint import ModelFolders
from fastmlp.training.logistic import LogisticFit, fit_logistic
from fastmlp.training.loop import DivergedError, train_together
from fastmlp.training.member import Blueprint, Member
from fastmlp.training.run import Run
from fastmlp.training.samples import Samples
from fastmlp.training.windowed import placed

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
BEST = "best"  # the folder of the chosen model


class Setting(NamedTuple):
    """What candidates differ in, but for the seed; width: hidden units, 0 for a linear head.

    strength: C of a logistic regression, which has neither of the first two; None of any other head.
    """

    learning_rate: float | None
    weight_decay: float | None
    width: int
    strength: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Setting:
        """The one that a row of results is about."""
        return cls(row.get("learning_rate"), row.get("weight_decay"), row["width"], row.get("strength"))

    def as_dict(self) -> dict[str, Any]:
        """What it has of these."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    @classmethod
    def combined(
        cls, widths: Iterable[int], weight_decays: Iterable[float], learning_rates: Iterable[float]
    ) -> list[Setting]:
        """Every combination, width by width, as candidates of one shape train together."""
        each = itertools.product(widths, weight_decays, learning_rates)
        return [cls(rate, decay, width) for width, decay, rate in each]

    def options(self) -> dict[str, Any]:
        """As a configuration has them."""
        return {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "strength": self.strength,
            "hidden_layer_sizes": (self.width,) if self.width else (),
        }


def check_settings(settings: Iterable[Setting], config: Config) -> None:
    """Raise UsageError, before any work, for a value that no recipe takes."""
    for setting in settings:
        _ = replace(config, **setting.options()).recipe


class Head(NamedTuple):
    """A candidate that is to be trained."""

    setting: Setting
    blueprint: Blueprint


@dataclass
class Candidate:
    """One network: its setting, its training, (loss, accuracy) on the held-out rows, and the fold that these are.

    fit: how it was found, of a logistic regression.
    """

    setting: Setting
    member: Member
    validation: tuple[float, float] = (math.nan, math.nan)
    fold: int | None = None
    fit: LogisticFit | None = None

    @classmethod
    def new(cls, head: Head, backend: Backend, fold: int | None = None) -> Candidate:
        return cls(head.setting, Member.new(head.blueprint, backend), fold=fold)

    @property
    def tier(self) -> dict[str, Any]:
        return self.member.network.tier.as_dict()

    @property
    def diverged_in_epoch(self) -> int | None:
        """The first epoch without a finite loss; the one after the last where only the held-out rows have none."""
        losses = [*self.member.history.train_loss, self.validation[0]]
        return next((epoch for epoch, loss in enumerate(losses, start=1) if not math.isfinite(loss)), None)

    def as_dict(self) -> dict[str, Any]:
        epoch, (loss, accuracy) = self.diverged_in_epoch, self.validation
        figures: dict[str, Any] = {"validation_accuracy": accuracy, "validation_loss": loss}
        if epoch is None:
            figures["train_loss"] = self.member.history.train_loss[-1]
        if self.fit is not None:
            figures |= {"rounds": self.fit.rounds, "converged": self.fit.converged}
        fold = {} if self.fold is None else {"fold": self.fold}
        seed = {"seed": self.member.blueprint.seed, **fold}
        return {**seed, "diverged_in_epoch": epoch, **(figures if epoch is None else {})}


class Known(NamedTuple):
    """A candidate that an earlier run, or another process, trained: what it wrote of it."""

    setting: Setting
    figures: dict[str, Any]
    tier: dict[str, Any]

    @classmethod
    def of(cls, candidate: Candidate) -> Known:
        return cls(candidate.setting, candidate.as_dict(), candidate.tier)

    def as_dict(self) -> dict[str, Any]:
        return self.figures


# Training.


def train_candidates(
    models: Models, settings: Sequence[Setting], trial: Trial, title: str = "sweep", fold: int | None = None
) -> list[Candidate]:
    """A candidate of every setting from every seed, trained and then judged on the held-out rows, which are a fold."""
    backend, config = models.machine.backend, models.config
    scaling = scaling_of(next(iter(models.feature_sets.values())), trial.parts[0].features, config.recipe)
    kept, held_out = (placed(backend, *rows, config.dtype, scaling) for rows in (trial.kept, trial.held_out))
    candidates = []
    total, epochs = len(settings) * config.seeds, models.blueprint().recipe.epochs
    with progress(f"{title} of {total} heads", total * epochs, "epochs of heads") as bar:
        for width, alike in itertools.groupby(settings, key=lambda setting: setting.width):
            group = [Candidate.new(one, backend, fold) for one in heads_of(models, alike)]
            count = f"{len(group)} {'head' if len(group) == 1 else 'heads'}"
            kind = f"{count} with {width} hidden units" if width else f"{count} without a hidden layer"
            say(f"{kind}. {group[0].member.network.tier}")
            if group[0].setting.strength is None:
                train_group(group, kept, held_out, partial(bar.advance, len(group)))
            else:
                fits = fit_members([candidate.member for candidate in group], trial.kept, kept)
                for candidate, fit in zip(group, fits, strict=True):
                    candidate.fit = fit
                bar.advance(total * epochs)
                _judge(group, held_out)
            candidates += group
    return candidates


def heads_of(models: Models, settings: Iterable[Setting]) -> list[Head]:
    """What is to be trained: of every setting, from every seed. Those of one width train together, however spread."""
    each = list(itertools.product(settings, models.config.all_seeds))
    together = Counter(setting.width for setting, _ in each)
    return [
        Head(setting, models.changed(**setting.options()).blueprint(seed, together[setting.width]))
        for setting, seed in each
    ]


def train_group(group: Sequence[Candidate], kept: Samples, held_out: Samples, on_epoch: Callable[[], None]) -> None:
    """Train candidates of one shape together, and judge them on the held-out rows.

    Where every one diverges, training stops there, and none is judged: so what is told of each is the same whichever
    others it trains with.
    """
    members = [candidate.member for candidate in group]
    networks, histories = zip(*((member.network, member.history) for member in members), strict=True)
    recipes, seeds = zip(*((member.blueprint.recipe, member.blueprint.seed) for member in members), strict=True)
    try:
        train_together(networks, kept, recipes, seeds, histories=histories, on_epoch=lambda _: on_epoch())
    except DivergedError as error:
        warn(str(error))
    else:
        _judge(group, held_out)


def _judge(group: Sequence[Candidate], held_out: Samples) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # one that diverged
        for candidate in group:
            candidate.validation = held_out.evaluate(candidate.member.network)


def fit_members(members: Sequence[Member], rows: Labelled, samples: Samples) -> list[LogisticFit]:
    """Fit linear heads, each at its recipe's strength, by logistic regression on rows that are placed as samples.

    Their histories have one epoch: loss and accuracy on those rows.
    """
    if isinstance(rows.features, StreamedRows):
        raise UsageError("A logistic regression needs all rows in memory: leave --memory out, or choose another.")
    blueprint, backend, scaling = members[0].blueprint, members[0].network.backend, samples.scaling
    features = rows.features if scaling is None else scaling.applied(rows.features, "float64")
    strengths = [member.blueprint.recipe.strength for member in members]
    known = [strength for strength in strengths if strength is not None]
    fits = fit_logistic(backend, features, rows.labels, known, dtype=blueprint.dtype)
    for member, fit in zip(members, fits, strict=True):
        member.network = member.blueprint.network(backend, fit.parameters)
        member.history.add(0.0, samples.evaluate(member.network), None)
    return fits


# The choice.


def ranked(candidates: Sequence[Candidate | Known]) -> list[dict[str, Any]]:
    """What came of each setting, by its mean accuracy on the held-out rows, then its mean loss on them.

    Each is a dict: the setting; how many of its candidates `diverged`; if none did, validation_accuracy,
    validation_loss and train_loss over its seeds, as `statistics.summarize` has them; and its candidates as `heads`.
    Settings of which a candidate diverged come last.
    """
    groups: dict[Setting, list[Candidate | Known]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.setting, []).append(candidate)
    rows = [_row(setting, [candidate.as_dict() for candidate in group]) for setting, group in groups.items()]
    return sorted(rows, key=_rank)


def _row(setting: Setting, heads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    diverged = sum(head["diverged_in_epoch"] is not None for head in heads)
    figures = () if diverged else ("validation_accuracy", "validation_loss", "train_loss")
    over_seeds = {figure: summarize(_by_seed(heads, figure)) for figure in figures}
    return {**setting.as_dict(), "diverged": diverged, **over_seeds, "heads": list(heads)}


def _by_seed(heads: Sequence[dict[str, Any]], figure: str) -> list[float]:
    """The figure of each seed, a mean over its folds where there are some."""
    values: dict[int, list[float]] = {}
    for head in heads:
        values.setdefault(head["seed"], []).append(head[figure])
    return [float(np.mean(own)) if len(own) > 1 else own[0] for own in values.values()]


def _rank(row: Mapping[str, Any]) -> tuple[float, ...]:
    if row["diverged"]:
        return (1, row["diverged"], 0)
    return (0, -row["validation_accuracy"]["mean"], row["validation_loss"]["mean"])


# The best.


def train_chosen(models: Models, name: str, setting: Setting) -> dict[str, Any]:
    """Train the setting on all training rows from the first seed, write the model, and return its results.json.

    The model is the one that `fastmlp train` writes for these options; it is tested once, after its last epoch. With
    config.resume, its training goes on where an earlier run left it.
    """
    chosen = models.changed(**setting.options())
    config, folder = chosen.config, chosen.config.folder / BEST
    if not config.resume:
        (folder / MODEL).unlink(missing_ok=True)  # so that it never lies beside another model's config
    checkpoint = ModelFolders({folder: chosen.fingerprint(name)})
    [member] = checkpoint.begin([chosen.blueprint()], chosen.machine.backend, config.resume)
    with chosen.machine.timed("train_best"):
        if setting.strength is None:
            Run([member], checkpoint).train(chosen.placed.train(name), "train the best")
        elif not member.history.epochs:
            fit_members([member], joined(chosen.feature_sets[name].parts), chosen.placed.train(name))
    chosen.write(name, member, folder)
    checkpoint.remove()
    return judge(chosen, name, member, folder)


def describe(
    models: Models, features: FeatureSet, splits: Sequence[Split], candidates: Sequence[Candidate | Known]
) -> dict[str, Any]:
    """Data, recipe, machine, tiers and times, for sweep.json and probe.json; splits: rows kept and held out."""
    data = features.describe()
    made_of = {"dataset": data.pop("dataset"), "extractor": data.pop("extractor")}
    return {
        "config": {**made_of, **_options(models)},
        "data": {
            **data,
            "sources": features.sources,
            "rows_trained_on": len(features.parts) * len(splits[0][0]),
            "held_out_rows": sum(len(held_out) for _, held_out in splits),
            "test_rows": data.pop("rows")["test"],
        },
        "tiers": {str(candidate.setting.width): candidate.tier for candidate in candidates},
        "environment": environment.describe(),
        "seconds": models.machine.seconds_so_far(),
        "heads": len(candidates),
    }


def _options(models: Models) -> dict[str, Any]:
    """What the candidates have in common."""
    config, machine = models.config, models.machine
    return {
        "backend": str(machine.backend),
        "preset": config.recipe_name,
        **described(models.blueprint().recipe),
        "seeds": config.all_seeds,
        "dtype": config.dtype,
        "threads": machine.threads,
        "limit": config.limit,
    }
