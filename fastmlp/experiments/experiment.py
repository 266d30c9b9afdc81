"""The paper's experiment: data -> augment -> extract -> train on the original and on the augmented images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import augment, datasets
from fastmlp.backends import Backend, open_backend
from fastmlp.common import environment
from fastmlp.common.errors import DataError, UsageError, first_line
from fastmlp.common.files import cache_dir, write_bytes, write_json, write_text
from fastmlp.common.progress import progress, say
from fastmlp.common.randomness import Purpose, generator
from fastmlp.common.statistics import summarize
from fastmlp.datasets import Dataset, Split
from fastmlp.experiments.config import Config
from fastmlp.extractors import Extractor, open_extractor
from fastmlp.features.store import FeatureStore, open_or_extract
from fastmlp.models import card, storage
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import Trainer
from fastmlp.report.figures import MODELS, AugmentationSheet
from fastmlp.training import loop
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.loop import History, Recipe
from fastmlp.training.samples import Samples
from fastmlp.training.seeds import train_seeds

SHEET_IMAGES = 8
CODEBOOK = "codebook.safetensors"
SEEDS = "seeds.safetensors"
CHECKPOINT = "checkpoint.safetensors"
FUSED_EPOCH = 3  # the tier


class Experiment:
    """One configuration's data, features and models, each made when first asked for; `seconds` has their times."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.threads = config.threads or environment.available_cores()
        self.seconds: dict[str, float] = {}
        self.backend: Backend = open_backend(config.backend, self.threads)
        say(f"Backend {self.backend}, {self.threads} threads.")

    # Data and features.

    @cached_property
    def dataset(self) -> Dataset:
        with self.timed("data"):
            dataset = datasets.load(self.config.dataset, self.config.data_dir)
        return dataset if self.config.limit is None else dataset.limited(self.config.limit)

    @property
    def recipe(self) -> Recipe:
        """How every model is trained: the augmented images, twice as many, in as many epochs as the original ones."""
        return self.config.recipe.for_rows(len(self.dataset.train))

    @cached_property
    def policy(self) -> augment.Policy:
        mirrored = self.dataset.mirror_keeps_class
        return augment.Policy() if mirrored else augment.Policy(flip_probability=0.0)

    @cached_property
    def augmented_copies(self) -> Split:
        """One augmented copy of every training image."""
        images = self.dataset.train.images
        with self.timed("augment"):
            rng = generator(self.config.seed, Purpose.AUGMENTATION)
            plan = augment.draw(rng, len(images), self.policy)
            return Split(augment.apply(self.backend, images, plan), self.dataset.train.labels)

    @cached_property
    def extractor_weights(self) -> Path | None:
        """The weights file asked for; for patches, else, the codebook learned from the training images."""
        if self.config.extractor != "patches" or self.config.weights is not None:
            return self.config.weights
        from fastmlp.extractors.patches import learned_codebook

        with self.timed("learn_patches"):
            return learned_codebook(self.dataset.train, self.config.seed, cache_dir() / "codebooks")

    @cached_property
    def extractor(self) -> Extractor:
        weights, size = self.extractor_weights, self.config.image_size
        dtype = self.config.extractor_dtype
        return open_extractor(self.config.extractor, self.backend, weights=weights, image_size=size, dtype=dtype)

    @cached_property
    def train_store(self) -> FeatureStore:
        return self._store("train", self.dataset.train)

    @cached_property
    def augmented_store(self) -> FeatureStore:
        policy = {"policy": self.policy.as_dict(), "seed": self.config.seed}
        return self._store("augmented", self.augmented_copies, policy)

    @cached_property
    def test_store(self) -> FeatureStore:
        return self._store("test", self.dataset.test)

    def extract(self) -> tuple[FeatureStore, ...]:
        """All features: of the training images, of their augmented copies, and of the test images."""
        return self.train_store, self.augmented_store, self.test_store

    def stores_of(self, name: str) -> list[FeatureStore]:
        """The features that a model of MODELS trains on."""
        return [self.train_store] if name == "original" else [self.train_store, self.augmented_store]

    def _store(self, name: str, split: Split, augmentation: dict[str, Any] | None = None) -> FeatureStore:
        provenance = {
            "dataset": self.dataset.name,
            "split": name,
            "content": split.content_hash,
            "augmentation": augmentation,
            "dtype": "float32",
        }
        extractor = self.extractor
        with self.timed("extract"):
            store = open_or_extract(split.images, split.labels, extractor, provenance, cache_dir() / "features")
        if store.reused:
            say(f"Reusing the {len(store.labels):,} stored {name} features in {store.path.name}.")
        return store

    # Models.

    def train(self, name: str) -> tuple[Trainer, History]:
        """The model `name` of MODELS, trained, and written to its folder; with resume, gone on with."""
        return self._train({name: self._start(name)})[name]

    def train_all(self) -> dict[str, tuple[Trainer, History]]:
        """All models; at the same time where the backend has room for one beside the other, else in turns."""
        started = {name: self._start(name) for name in MODELS}
        fused = all(network.tier.tier == Tier.FUSED_EPOCH for network, _ in started.values())
        alike = len({history.epochs for _, history in started.values()}) == 1
        if self.backend.beside_host and fused and alike:
            return self._train(started)
        return {name: self._train({name: model})[name] for name, model in started.items()}

    def _train(self, models: dict[str, tuple[Trainer, History]]) -> dict[str, tuple[Trainer, History]]:
        """Train these models further, each on the first rows of the last one's samples, and write them."""
        names, recipe, test = list(models), self.recipe, self.test
        networks, histories = [network for network, _ in models.values()], [history for _, history in models.values()]
        tier = networks[0].tier
        say(str(tier))
        samples = self.samples(names[-1])
        rows = [*(sum(len(store.labels) for store in self.stores_of(name)) for name in names[:-1]), len(samples)]
        seeds, done = [self.config.seed] * len(names), histories[0].epochs
        stage = f"train {names[0]}" if len(names) == 1 else "train both"
        with self.timed(stage.replace(" ", "_")), progress(stage, recipe.epochs, "epochs", done) as bar:
            kept = Checkpoint(networks, histories, lambda: self._save(models))

            def on_epoch(histories: list[History]) -> None:
                kept.after_epoch()
                accuracies = ", ".join(f"{history.test_accuracy[-1]:.2%}" for history in histories)
                bar.advance(1, f"test accuracy {accuracies}")

            with kept.on_interrupt():
                loop.train_together(
                    networks,
                    samples,
                    [recipe] * len(names),
                    seeds,
                    rows=rows,
                    test=test,
                    histories=histories,
                    on_epoch=on_epoch,
                )
        for name, (network, history) in models.items():
            self.finish(network, history, self.fingerprint(name), self.config.folder / name)
        return models

    def _save(self, models: dict[str, tuple[Trainer, History]]) -> None:
        for name, (network, history) in models.items():
            path = self.config.folder / name / CHECKPOINT
            save_model(network, history, self.fingerprint(name), path, network.state)

    def train_further_seeds(self, name: str) -> list[Trainer]:
        """The model `name` from each seed after the first, all trained together; with resume, gone on with."""
        config = self.config
        path = config.folder / name / SEEDS
        samples, fingerprint = self.samples(name), self.fingerprint(name)
        with self.timed(f"seeds_{name}"):
            return train_seeds(
                config.all_seeds[1:], self.new_network, self.recipe, samples, fingerprint, path, config.resume
            )

    def new_network(self, seed: int) -> Trainer:
        """A network of this experiment, its weights drawn from the seed."""
        return self.recipe.network(self._first_parameters(seed), self.backend)

    def _first_parameters(self, seed: int) -> Parameters:
        return initial_parameters(self.sizes, self.recipe.init, seed, self.config.dtype)

    def samples(self, name: str) -> Samples:
        """The training set of a model."""
        stores = self.stores_of(name)
        features = np.concatenate([store.features for store in stores])
        labels = np.concatenate([store.labels for store in stores])
        return Samples.place(self.backend, features, labels, self.config.dtype)

    @cached_property
    def test(self) -> Samples:
        return Samples.place(self.backend, self.test_store.features, self.test_store.labels, self.config.dtype)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.extractor.features, *self.config.hidden_layer_sizes, len(self.dataset.class_names))

    def fingerprint(self, name: str) -> dict[str, Any]:
        """All that decides a model's weights, but for the machine: a checkpoint of another fingerprint is refused."""
        return {
            "sizes": list(self.sizes),
            "recipe": self.recipe.as_dict(),
            "seed": self.config.seed,
            "dtype": self.config.dtype,
            "features": self.feature_sets(name),
        }

    def feature_sets(self, name: str) -> list[str]:
        """The names of the features that a model is trained and tested on, which change with their content."""
        return [store.path.name for store in (*self.stores_of(name), self.test_store)]

    def _start(self, name: str) -> tuple[Trainer, History]:
        """A new network for the model `name`, or the one an earlier run left."""
        folder, fingerprint = self.config.folder / name, self.fingerprint(name)
        paths = (folder / CHECKPOINT, folder / "model.safetensors")  # the newer first
        left = next((path for path in paths if path.is_file()), None) if self.config.resume else None
        if left is None:
            network, history = self.new_network(self.config.seed), History()
        else:
            network, history = self._restored(left, fingerprint)
            say(f"Going on with {left} after epoch {history.epochs}.")
        return network, history

    def _restored(self, path: Path, fingerprint: dict[str, Any]) -> tuple[Trainer, History]:
        """The network and the history in a checkpoint; UsageError if it is of another experiment, else DataError."""
        parameters, about, state = storage.load(path)
        if about.get("fingerprint") != fingerprint:
            raise UsageError(f"{path} is of another experiment: choose another --out, or drop --resume.")
        try:
            if (parameters.sizes, parameters.dtype) != (self.sizes, self.config.dtype):
                raise ValueError("it holds a network of other sizes")
            network = self.recipe.network(parameters, self.backend)
            if state:  # which a finished model has none of
                storage.restore(network, state)
            return network, History.from_dict(about.get("history"))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path} is damaged ({first_line(error)}): drop --resume to train anew.") from None

    def finish(self, network: Trainer, history: History, fingerprint: dict[str, Any], folder: Path) -> None:
        """Write all that `fastmlp predict` and a reader need; the model itself comes last."""
        description = {
            **fingerprint,
            **self.data_description(),
            "weights": self.place_weights(folder),
            "versions": {**environment.describe(), "backend": str(self.backend)},
        }
        write_json(folder / "config.json", description)
        write_text(folder / card.NAME, card.model_card(description, history.as_dict()))
        write_json(folder / "history.json", history.as_dict())
        save_model(network, history, fingerprint, folder / "model.safetensors")
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def data_description(self) -> dict[str, Any]:
        """The data and the extractor as a model's config.json tells them."""
        dataset = self.dataset
        return {
            "dataset": dataset.name,
            "note": dataset.note,
            "class_names": list(dataset.class_names),
            "rows": {"training": len(dataset.train), "test": len(dataset.test)},
            "extractor": self.extractor.provenance(),
        }

    def place_weights(self, folder: Path) -> str | None:
        """Where a model in that folder finds its extractor's weights; a codebook, which is small, goes with it."""
        weights = self.extractor_weights
        if weights is None:
            return None
        if self.config.extractor != "patches":
            return str(weights.resolve())
        write_bytes(folder / CODEBOOK, weights.read_bytes())
        return CODEBOOK

    # Results.

    def table_rows(self, name: str, networks: Sequence[Trainer]) -> list[dict[str, float]]:
        """Table 1's four figures of each network: full passes over the model's training set and over the test set."""
        rows: list[dict[str, float]] = [{} for _ in networks]
        for split, samples in (("train", self.samples(name)), ("test", self.test)):
            for row, network in zip(rows, networks, strict=True):
                loss, accuracy = samples.evaluate(network)
                row |= {f"{split}_accuracy": accuracy, f"{split}_loss": loss}
        return rows

    def over_seeds(self, table1: Mapping[str, dict[str, float]]) -> dict[str, Any]:
        """Every cell of Table 1 over all seeds; table1 has the rows of the first."""
        table = {}
        for name, first in table1.items():
            rows = [first, *self.table_rows(name, self.train_further_seeds(name))]
            table[name] = {cell: summarize([row[cell] for row in rows]) for cell in first}
        return {"seeds": self.config.all_seeds, "table1": table}

    def confusion(self, network: Trainer) -> list[list[int]]:
        """How many test images of each class (row) were taken for each class (column)."""
        classes = len(self.dataset.class_names)
        predicted = self.test.logits(network).argmax(axis=1)
        cells = np.bincount(self.dataset.test.labels * classes + predicted, minlength=classes**2)
        return cells.reshape(classes, classes).tolist()

    def describe(self) -> dict[str, Any]:
        """config, data, tier and environment as results.json holds them."""
        config, dataset, recipe = self.config, self.dataset, self.recipe
        images = len(dataset.train)
        return {
            "config": {
                "dataset": config.dataset,
                "extractor": config.extractor,
                "weights": self.extractor.provenance().get("weights"),
                "image_size": self.extractor.provenance().get("image_size"),
                "backend": str(self.backend),
                "preset": config.preset,
                "hidden_layer_sizes": list(config.hidden_layer_sizes),
                **described(recipe),
                "seed": config.seed,
                "seeds": config.seeds,
                "dtype": config.dtype,
                "threads": self.threads,
                "limit": config.limit,
                "augmentation": self.policy.as_dict(),
            },
            "data": {
                "name": dataset.name,
                "note": dataset.note,
                "class_names": list(dataset.class_names),
                "train_images": images,
                "augmented_images": 2 * images,
                "test_images": len(dataset.test),
                "features": self.extractor.features,
                "reused_features": [store.path.name for store in self.extract() if store.reused],
            },
            "tier": choose_tier(
                self.sizes, config.dtype, self.backend, recipe.update_rule, recipe.batch_size
            ).as_dict(),
            "environment": environment.describe(),
        }

    def sheet(self, images: int = SHEET_IMAGES) -> AugmentationSheet:
        """The paper's Figure 1: the first training images of different classes, as they are and augmented."""
        _, firsts = np.unique(self.dataset.train.labels, return_index=True)
        originals = self.dataset.train.images[firsts[:images]]
        plan = augment.draw(generator(self.config.seed, Purpose.AUGMENTATION), len(originals), self.policy)
        rows = [("original", originals)]
        for kind, name in enumerate(augment.KINDS):
            one_kind = replace(plan, kind=np.full(len(originals), kind))
            rows.append((name, augment.apply(self.backend, originals, one_kind)))
        return AugmentationSheet(tuple(rows))

    def changed(self, **options: Any) -> Experiment:
        """This experiment with some options of its configuration changed; what is loaded already is shared."""
        other = copy(self)
        other.config = replace(self.config, **options)
        return other

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's time to that stage's."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def described(recipe: Recipe) -> dict[str, Any]:
    """The recipe as results.json's config tells it: the drop in one entry, None where there is none."""
    values = recipe.as_dict()
    drop = {"every": values.pop("drop_every"), "factor": values.pop("drop_factor")}
    return {**values, "learning_rate_drop": drop if recipe.schedule == "step" else None}


def save_model(
    network: Trainer,
    history: History,
    fingerprint: dict[str, Any],
    path: Path,
    state: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    storage.save(network.parameters, {"fingerprint": fingerprint, "history": history.as_dict()}, path, state)
