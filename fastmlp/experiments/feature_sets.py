"""What models train and are tested on. Of a dataset: images -> augmented copies -> features -> feature stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp import paper
from fastmlp.common.errors import UsageError
from fastmlp.common.files import cache_dir, write_bytes
from fastmlp.common.progress import say
from fastmlp.datasets import Split
from fastmlp.experiments.config import Config
from fastmlp.experiments.engines import Engine, Opened, Opening
from fastmlp.experiments.images import Images
from fastmlp.experiments.known_copies import KnownCopies
from fastmlp.experiments.known_extractors import open_or_recall
from fastmlp.experiments.machine import Machine
from fastmlp.experiments.windows import named, tell_of_windows, window_of
from fastmlp.extractors import Extractor
from fastmlp.features.store import FeatureStore, open_or_extract, open_stored
from fastmlp.features.streamed import StreamedRows, chained
from fastmlp.models.folder import CODEBOOK
from fastmlp.models.trained_rows import TrainedRows, digests, row_hashes
from fastmlp.network.scaling import Moments, Scaling
from fastmlp.training.held_out import LEAST_ROWS, hold_out
from fastmlp.training.recipe import Recipe

BYTES = 4  # of a stored feature


class Labelled(NamedTuple):
    """Features (n, d), perhaps memory-mapped or streamed, and labels int64 (n,), on the host."""

    features: Any
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        streamed = isinstance(self.features, StreamedRows)
        return Labelled(self.features.take(rows) if streamed else self.features[rows], self.labels[rows])


class FeatureSet(Protocol):
    """What a model trains and is tested on; nothing is read or computed before it is asked for.

    of_any_scale: the features were made elsewhere, so that they may have any size, and any offset.
    out_of_fold: the test rows are the training rows, to be tested by cross-validation only.
    """

    @property
    def of_any_scale(self) -> bool: ...

    @property
    def out_of_fold(self) -> bool: ...

    @property
    def parts(self) -> list[Labelled]:
        """The training rows; after the first part, others of the same rows, augmented, in the same order."""

    @property
    def test(self) -> Labelled: ...

    @property
    def images(self) -> int:
        """How many training rows there are without augmented copies."""

    @property
    def window(self) -> int | None:
        """How many rows are held at a time, where not all of them may be; else None."""

    @property
    def inputs(self) -> int: ...

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def sources(self) -> list[str]:
        """The names of the training and the test features, which change with their content, and of their windows."""

    def describe(self) -> dict[str, Any]:
        """The data and the extractor, as a model's config.json has them."""

    @property
    def trained_rows(self) -> TrainedRows:
        """The training rows, as a model that takes images or features made elsewhere will be given them."""

    @property
    def test_set(self) -> dict[str, Any]:
        """What tells the test rows from others, as `fastmlp.models.trained_rows.digests` has it."""

    def place_weights(self, folder: Path) -> str | None:
        """Where a model in that folder finds its extractor's weights; None where it needs none."""


def training_rows(features: FeatureSet) -> int:
    return sum(len(part.labels) for part in features.parts)


def joined(parts: Sequence[Labelled]) -> Labelled:
    """All rows, one part after the other; of a single part there is no copy."""
    if len(parts) == 1:
        return parts[0]
    features, labels = zip(*parts, strict=True)
    streamed = isinstance(features[0], StreamedRows)
    return Labelled(chained(features) if streamed else np.concatenate(features), np.concatenate(labels))


class Trial(NamedTuple):
    """Rows to train on, in parts as a feature set has them, and held-out ones to judge by."""

    parts: list[Labelled]
    held_out: Labelled

    @classmethod
    def of(cls, features: FeatureSet, kept: NDArray[np.int64], held_out: NDArray[np.int64]) -> Trial:
        """Those training rows with their augmented copies, and the held-out ones as they are, not augmented."""
        return cls([part.take(kept) for part in features.parts], features.parts[0].take(held_out))

    @property
    def kept(self) -> Labelled:
        return joined(self.parts)


def hold_out_tenth(features: FeatureSet, seed: int) -> Trial:
    """All but a tenth of the training rows, and that tenth. Raises UsageError if there are too few."""
    return Trial.of(features, *tenth(features, seed))


def tenth(features: FeatureSet, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of all but a tenth of the training rows, and of that tenth. UsageError if there are too few."""
    if features.images < LEAST_ROWS:
        raise UsageError(
            f"A tenth of the training rows is held out: {features.images} are too few, give {LEAST_ROWS} or more."
        )
    return hold_out(features.parts[0].labels, seed)


def scaling_of(features: FeatureSet, rows: NDArray[Any], recipe: Recipe) -> Scaling | None:
    """What standardises the set's features before they are placed, learned from those rows (n, d); None: nothing.

    Networks themselves standardise what extractors make "together", each by the rows that it is trained on.
    """
    if recipe.standardize == "unit":
        return Scaling.to_unit_length(rows.shape[1])
    here = recipe.standardize == "each" or (recipe.standardize == "together" and features.of_any_scale)
    return Moments.of(rows).scaling(recipe.standardize == "each") if here else None


class ImageFeatures:
    """The features of a configuration's images: each extracted once, and kept in feature stores."""

    def __init__(self, config: Config, machine: Machine, engine: Engine | None = None) -> None:
        self.config, self.machine = config, machine
        self.images = Images(config, machine, engine)

    def of(self, model: str) -> StoredFeatures:
        """What a model of `paper.MODELS` trains and is tested on."""
        return StoredFeatures(self, augmented=model == "augmented")

    def by_model(self) -> dict[str, FeatureSet]:
        """Those of both models; the rows of the original one are the first of the augmented one's, windows included."""
        *_, largest = map(self.of, paper.MODELS)
        return {model: replace(self.of(model), first_of=largest) for model in paper.MODELS}

    def stores(self) -> list[FeatureStore]:
        """All features: of the training images, of their augmented copies, and of the test images."""
        return [self.train, *self.copies, self.test]

    @cached_property
    def weights(self) -> Path | None:
        """The extractor's weights file; for patches, unless one is given, the codebook learned from the images."""
        if self.config.extractor != "patches" or self.config.weights is not None:
            return self.config.weights
        from fastmlp.extractors.patches import learned_codebook

        train, backend = self.images.dataset.train, self.machine.backend
        self._content(train)  # by which the codebook is named too
        with self.machine.timed("learn_patches"):
            return learned_codebook(train, self.config.seed, cache_dir() / "codebooks", backend)

    @cached_property
    def trained_rows(self) -> TrainedRows:
        with self.machine.timed("identify"):
            return TrainedRows.of(self.images.dataset.train.images)

    @cached_property
    def test_set(self) -> dict[str, Any]:
        test = self.images.dataset.test
        with self.machine.timed("identify"):
            return digests(row_hashes(test.images), test.labels)

    @cached_property
    def opening(self) -> Opening:
        return Opening.of(self.config, self.machine, self.weights)

    @cached_property
    def extractor(self) -> Extractor:
        opening, backend = self.opening, self.machine.backend

        def opened() -> Extractor:
            with self.machine.timed("open_extractor"):
                return opening.on(backend)

        with self.machine.timed("open_extractor"):
            return open_or_recall(opening, backend.device, opened)

    @cached_property
    def train(self) -> FeatureStore:
        return self._store("train", self.images.dataset.train)

    @cached_property
    def copies(self) -> list[FeatureStore]:
        """A store per augmented copy: the first few of many copies are those of fewer."""
        names = ["augmented", *(f"augmented-{number}" for number in range(2, self.config.copies + 1))]
        return [self._copy(name, number) for number, name in enumerate(names)]

    def _copy(self, name: str, number: int) -> FeatureStore:
        """The features of an augmented copy; if they are stored, and an earlier run made it, it is not made again."""
        images, known = self.images, self._known_copies
        augmentation = {"policy": images.policy.as_dict(), "seed": self.config.seed}
        content = known.content(number)
        if content is not None:
            provenance = self._provenance(name, content, augmentation)
            with self.machine.timed("extract"):
                store = open_stored(images.dataset.train.labels, self.extractor, provenance, self._root)
            if store is not None:
                return _told(store, name)
        copy = images.copy(number)
        known.keep(number, self._content(copy))
        return self._store(name, copy, augmentation)

    @cached_property
    def _known_copies(self) -> KnownCopies:
        originals = self._content(self.images.dataset.train)
        with self.machine.timed("identify"):
            return KnownCopies(originals, self.images.policy, self.config.seed, self.machine.backend)

    @cached_property
    def test(self) -> FeatureStore:
        return self._store("test", self.images.dataset.test)

    def _store(self, name: str, split: Split, augmentation: dict[str, Any] | None = None) -> FeatureStore:
        provenance = self._provenance(name, self._content(split), augmentation)
        extractor, engine = self.extractor, Opened(self.images.engine, self.opening.of_opened(self.extractor))
        with self.machine.timed("extract"):
            store = open_or_extract(split.images, split.labels, extractor, provenance, self._root, engine)
        return _told(store, name)

    def _content(self, split: Split) -> str:
        with self.machine.timed("identify"):
            return split.content_hash

    def _provenance(self, name: str, content: str, augmentation: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "dataset": self.images.dataset.name,
            "split": name,
            "content": content,
            "augmentation": augmentation,
            "dtype": "float32",
        }

    @property
    def _root(self) -> Path:
        return cache_dir() / "features"


def _told(store: FeatureStore, name: str) -> FeatureStore:
    """The store, once it is told whether it was there."""
    if store.reused:
        say(f"Reusing the {len(store.labels):,} stored {name} features in {store.path.name}.")
    return store


@dataclass(frozen=True)
class StoredFeatures:
    """The feature set of one model: a dataset's images, with or without their augmented copies.

    first_of: a set that is held beside it, and begins with its rows; None: it is held alone.
    """

    of_any_scale: ClassVar[bool] = False
    out_of_fold: ClassVar[bool] = False
    of: ImageFeatures
    augmented: bool
    first_of: StoredFeatures | None = None

    @property
    def stores(self) -> list[FeatureStore]:
        _ = self.window  # too little memory is refused before anything is extracted
        return [self.of.train, *(self.of.copies if self.augmented else ())]

    @property
    def parts(self) -> list[Labelled]:
        return list(map(self._rows_of, self.stores))

    @property
    def test(self) -> Labelled:
        return self._rows_of(self.of.test)

    def _rows_of(self, store: FeatureStore) -> Labelled:
        if self.window is None:
            return Labelled(store.features, store.labels)
        return Labelled(StreamedRows(store.sharded, self.window, self.of.config.seed), store.labels)

    @cached_property
    def window(self) -> int | None:
        config = self.of.config
        if self.first_of is not None:
            return self.first_of.window
        if config.memory is None:
            return None  # and no image is read
        dataset, copies = self.of.images.dataset, config.copies if self.augmented else 0
        rows = (1 + copies) * len(dataset.train) + len(dataset.test)
        window = window_of(config, rows, self.inputs, BYTES, copies=2 if copies else 1)  # of several stores one is made
        if window is not None:
            tell_of_windows(window, rows)
        return window

    @property
    def images(self) -> int:
        return len(self.of.images.dataset.train)

    @property
    def inputs(self) -> int:
        return self.of.extractor.features

    @property
    def class_names(self) -> Sequence[str]:
        return self.of.images.dataset.class_names

    @property
    def sources(self) -> list[str]:
        return [*(store.path.name for store in (*self.stores, self.of.test)), *named(self.window)]

    def describe(self) -> dict[str, Any]:
        dataset = self.of.images.dataset
        return {
            "dataset": dataset.name,
            "note": dataset.note,
            "left_out": asdict(dataset.left_out),
            "class_names": list(dataset.class_names),
            "mirror_keeps_class": dataset.mirror_keeps_class,
            "window_rows": self.window,
            "rows": {"training": len(dataset.train), "test": len(dataset.test)},
            "augmentation": {**self.of.images.policy.as_dict(), "copies": self.of.config.copies}
            if self.augmented
            else None,
            "extractor": self.of.extractor.provenance(),
        }

    @property
    def trained_rows(self) -> TrainedRows:
        return self.of.trained_rows

    @property
    def test_set(self) -> dict[str, Any]:
        return self.of.test_set

    def place_weights(self, folder: Path) -> str | None:
        """A codebook, which is small, goes with the model; other weights stay where they are."""
        weights = self.of.weights
        if weights is None:
            return None
        if self.of.config.extractor != "patches":
            return str(weights.resolve())
        write_bytes(folder / CODEBOOK, weights.read_bytes())
        return CODEBOOK
