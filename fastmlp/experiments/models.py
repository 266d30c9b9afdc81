"""The models of a configuration: trained on their feature sets, written to their folders, and judged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common import environment
from fastmlp.common.beside import Beside
from fastmlp.common.progress import say, warn
from fastmlp.experiments.config import Config
from fastmlp.experiments.feature_sets import (
    FeatureSet,
    Labelled,
    Trial,
    hold_out_tenth,
    joined,
    scaling_of,
    training_rows,
)
from fastmlp.experiments.machine import Machine
from fastmlp.models import folder as model_folder
from fastmlp.network.scaling import Scaling
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.training.checkpoint import ModelFolders, SeedsFile
from fastmlp.training.findings import no_better_than_guessing
from fastmlp.training.loop import DivergedError
from fastmlp.training.member import Blueprint, Fingerprint, Member
from fastmlp.training.run import Run
from fastmlp.training.samples import Samples
from fastmlp.training.stopping import Stopping
from fastmlp.training.warm_up import warm_up
from fastmlp.training.weights import relative, weights_of_classes
from fastmlp.training.windowed import placed

SEEDS = "seeds.safetensors"
FUSED_EPOCH = 3  # the tier
OUT_OF_FOLD = (
    "The model is trained on all rows; its test figures are those of the models of the folds, each on the rows that it "
    "was not trained on."
)


class Placed:
    """Feature sets on the device, each placed once: the rows of each but the last are the first of the last one's."""

    def __init__(self, machine: Machine, config: Config, feature_sets: Mapping[str, FeatureSet]) -> None:
        self.machine, self.config, self.feature_sets = machine, config, feature_sets

    def train(self, name: str) -> Samples:
        """What the model trains on."""
        return self._all.first(self.rows(name))

    def rows(self, name: str) -> int:
        """How many rows the model trains on."""
        return training_rows(self.feature_sets[name]) if self._trial is None else len(self._all)

    @cached_property
    def _all(self) -> Samples:
        with self.machine.timed("prepare"):
            return self._weighted(joined(self._parts))

    @cached_property
    def held_out(self) -> Samples | None:
        """The rows that judge when to stop, under early stopping."""
        return None if self._trial is None else self._weighted(self._trial.held_out)

    @property
    def _parts(self) -> list[Labelled]:
        *_, largest = self.feature_sets.values()
        return largest.parts if self._trial is None else self._trial.parts

    @cached_property
    def _trial(self) -> Trial | None:
        """What a single model trains on, and what judges it, under early stopping."""
        return hold_out_tenth(self._first, self.config.seed) if self.config.early_stopping else None

    @cached_property
    def test(self) -> Samples | None:
        """None where training rows are tested out of their folds only."""
        return None if self._first.out_of_fold else self._place(self._first.test)

    @cached_property
    def scaling(self) -> Scaling | None:
        """What standardises all of them, learned from the training rows without augmented copies."""
        with self.machine.timed("prepare"):
            return scaling_of(self._first, self._parts[0].features, self.config.recipe)

    @property
    def _first(self) -> FeatureSet:
        return next(iter(self.feature_sets.values()))

    @cached_property
    def _class_weights(self) -> NDArray[np.float64] | None:
        """Of each class (k,), by the rows that are trained on."""
        text = self.config.class_weight
        return None if text is None else weights_of_classes(text, self._first.class_names, self._parts[0].labels)

    def row_weights(self, labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """How much rows of these classes count; None: all the same."""
        return None if self._class_weights is None else relative(self._class_weights[labels])

    def _weighted(self, rows: Labelled) -> Samples:
        return self._place(rows, self.row_weights(rows.labels))

    def _place(self, rows: Labelled, weights: NDArray[np.float64] | None = None) -> Samples:
        with self.machine.timed("prepare"):
            return placed(self.machine.backend, *rows, self.config.dtype, self.scaling, weights)


class Models:
    """A configuration's models by name, one per feature set."""

    def __init__(self, config: Config, machine: Machine, feature_sets: Mapping[str, FeatureSet]) -> None:
        self.config, self.machine, self.feature_sets = config, machine, feature_sets
        self.placed = Placed(machine, config, feature_sets)

    def changed(self, **options: Any) -> Models:
        """These models with some options of their configuration changed; what is placed already is shared."""
        other = copy(self)
        other.config = replace(self.config, **options)
        return other

    def on(self, device: str) -> Models:
        """The same, to be trained on another of the machine's devices, where its rows are placed too."""
        return Models(self.config, self.machine.on(device), self.feature_sets)

    def compile_beside(self) -> Beside[None]:
        """Begin to compile what trains all models, if that leaves the host's cores alone."""
        backend = self.machine.backend
        if not backend.beside_host:
            return Beside(lambda: None)
        *_, features = self.feature_sets.values()
        return Beside(partial(warm_up, self.blueprint(), self._most_together, features.images, backend))

    @property
    def window(self) -> int | None:
        """How many rows of the largest feature set are held at a time; None: all of them."""
        *_, largest = self.feature_sets.values()
        return largest.window

    @property
    def _most_together(self) -> int:
        """How many models train at the same time where the backend has room for them: in windows each has its own."""
        return 1 if self.config.early_stopping or self.window is not None else len(self.feature_sets)

    def train(self) -> dict[str, Member]:
        """All models, trained and written; with config.resume, from where an earlier run left them.

        They train at the same time where the backend has room for one beside the other, else in turn.
        """
        checkpoint = self._folders(self.feature_sets)
        blueprints = [self.blueprint(together=self._most_together)] * len(self.feature_sets)
        with self.machine.timed("prepare"):
            begun = checkpoint.begin(blueprints, self.machine.backend, self.config.resume)
        members = dict(zip(self.feature_sets, begun, strict=True))
        groups = [members] if self._side_by_side(begun) else [{name: member} for name, member in members.items()]
        for group in groups:
            self._train(group)
        return members

    def _side_by_side(self, members: Sequence[Member]) -> bool:
        fused = all(member.network.tier.tier == Tier.FUSED_EPOCH for member in members)
        alike = len({(member.history.epochs, member.network.tier.way) for member in members}) == 1
        return self.machine.backend.beside_host and fused and alike and self._most_together == len(members)

    def _train(self, members: Mapping[str, Member]) -> None:
        """Train these further, each on the first rows of the last one's samples, and write them."""
        names = list(members)
        tier = members[names[0]].network.tier
        say(str(tier))
        samples, test = self.placed.train(names[-1]), self.placed.test
        rows, held_out = [self.placed.rows(name) for name in names], self.placed.held_out
        title = f"train {names[0]}" if len(names) == 1 else "train both"
        checkpoint = self._folders(names)
        with self.machine.timed(title.replace(" ", "_")):
            Run(list(members.values()), checkpoint).train(samples, title, rows=rows, test=test, held_out=held_out)
        with self.machine.timed("write"):
            for name, member in members.items():
                self.write(name, member, self.config.folder / name)
            checkpoint.remove()

    def _folders(self, names: Iterable[str]) -> ModelFolders:
        return ModelFolders({self.config.folder / name: self.fingerprint(name) for name in names})

    def train_further_seeds(self, name: str) -> list[Trainer]:
        """The model from each seed after the first, trained together; with config.resume, as `train`."""
        config = self.config
        checkpoint = SeedsFile(config.folder / name / SEEDS, self.fingerprint(name))
        seeds = config.all_seeds[1:]
        blueprints = [self.blueprint(seed, together=len(seeds)) for seed in seeds]
        samples = self.placed.train(name)
        with self.machine.timed(f"seeds_{name}"):
            members = checkpoint.begin(blueprints, self.machine.backend, config.resume)
            Run(members, checkpoint).train(samples, f"train {len(members)} more seeds")
        return [member.network for member in members]

    def blueprint(self, seed: int | None = None, together: int = 1) -> Blueprint:
        """Of every model, by default from the first seed; the augmented one has as many epochs as the original."""
        config, features = self.config, next(iter(self.feature_sets.values()))
        recipe = config.recipe.for_data(features.images, features.inputs)
        sizes = (features.inputs, *recipe.hidden_layer_sizes, len(features.class_names))
        stopping = Stopping() if config.early_stopping else None
        own_seed = config.seed if seed is None else seed
        return Blueprint(sizes, recipe, own_seed, config.dtype, stopping, config.class_weight, together)

    def fingerprint(self, name: str) -> Fingerprint:
        return self.blueprint().fingerprint(self.feature_sets[name].sources)

    def describe(self, name: str) -> dict[str, Any]:
        """What the model was trained on, as its config.json and results.json have it."""
        description, held_out = self.feature_sets[name].describe(), self.placed.held_out
        if held_out is not None:
            description["rows"] |= {"training": self.placed.rows(name), "validation": len(held_out)}
        if self.feature_sets[name].out_of_fold:
            description["notices"] = [*description["notices"], OUT_OF_FOLD]
        return description

    def write(self, name: str, member: Member, folder: Path) -> None:
        """Write a trained model's folder, and say if the model has learned nothing."""
        features, description = self.feature_sets[name], self.describe(name)
        finding = self._finding(name, member)
        if finding is not None:
            warn(finding)
            description["notices"] = [*description.get("notices", ()), finding]
        description["weights"] = features.place_weights(folder)
        description["versions"] = {**environment.describe(), "backend": str(self.machine.backend)}
        about = member.about(self.fingerprint(name))
        features.trained_rows.save(folder)
        parameters = replace(member.network.parameters, scaling=self.placed.scaling)
        model_folder.write(folder, parameters, about, description)

    def _finding(self, name: str, member: Member) -> str | None:
        """What the end of the training tells, and what to try; None: the model has learned something."""
        labels = np.concatenate([part.labels for part in self.feature_sets[name].parts])
        weights = self.placed.row_weights(labels)
        finding = no_better_than_guessing(member.history, labels, member.blueprint.recipe, weights)
        return finding and f"{finding}: try --preset tabular, another --learning-rate, or more --epochs."

    def table_rows(self, name: str, networks: Sequence[Trainer]) -> list[dict[str, float]]:
        """Table 1's four figures of each network: full passes over the model's training set and over the test set.

        Where there is no test set beside the training rows, only the first two. Raises DivergedError for a loss that is
        not finite.
        """
        rows: list[dict[str, float]] = [{} for _ in networks]
        for split, samples in (("train", self.placed.train(name)), ("test", self.placed.test)):
            if samples is None:
                continue
            for row, network in zip(rows, networks, strict=True):
                with np.errstate(over="ignore", invalid="ignore"):
                    loss, accuracy = samples.evaluate(network)
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"Training diverged in its last epoch (the {split} loss is {loss}): lower the learning rate "
                        "or scale the features to about -1 .. 1."
                    )
                row |= {f"{split}_accuracy": accuracy, f"{split}_loss": loss}
        return rows
