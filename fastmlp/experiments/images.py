"""The images of a configuration, and their augmented copies."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fastmlp import augment, datasets
from fastmlp.common.files import cache_dir
from fastmlp.common.progress import warn
from fastmlp.common.randomness import Purpose, generator
from fastmlp.datasets import Dataset, Split
from fastmlp.datasets.mapped import gathered
from fastmlp.experiments.config import Config
from fastmlp.experiments.engines import Engine, Local
from fastmlp.experiments.machine import Machine
from fastmlp.report.figures import AugmentationSheet

SHEET_IMAGES = 8
AT_ONCE = 8192  # images that are augmented at a time


class Images:
    """A configuration's dataset, and augmented copies of its training images."""

    def __init__(self, config: Config, machine: Machine, engine: Engine | None = None) -> None:
        self.config, self.machine, self.engine = config, machine, engine or Local()

    @cached_property
    def dataset(self) -> Dataset:
        with self.machine.timed("data"):
            config, keep = self.config, cache_dir() / "images"
            dataset = datasets.load(config.dataset, config.data_dir, config.reading, self.engine.read, keep)
        dataset = dataset if self.config.limit is None else dataset.limited(self.config.limit)
        absent = set(range(len(dataset.class_names))).difference(dataset.train.labels.tolist())
        if absent:
            names = ", ".join(dataset.class_names[label] for label in sorted(absent))
            warn(f"None of the {len(dataset.train):,} training images is of these classes: {names}.")
        return dataset

    @cached_property
    def policy(self) -> augment.Policy:
        policy = self.config.policy
        return policy if self.dataset.mirror_keeps_class else policy.without_flip()

    def copy(self, number: int) -> Split:
        """An augmented copy of every training image; copies are numbered from 0, each drawn by itself."""
        images = self.dataset.train.images
        with self.machine.timed("augment"):
            rng = generator(self.config.seed, Purpose.AUGMENTATION, number)
            plan = augment.draw(rng, len(images), self.policy)
            parts = (slice(start, start + AT_ONCE) for start in range(0, len(images), AT_ONCE))
            augmented = (augment.apply(self.machine.backend, images[part], plan[part]) for part in parts)
            return Split(gathered(augmented, len(images)), self.dataset.train.labels)

    def sheet(self, images: int = SHEET_IMAGES) -> AugmentationSheet:
        """The paper's Figure 1: the first training images of different classes, as they are and augmented."""
        _, firsts = np.unique(self.dataset.train.labels, return_index=True)
        originals = self.dataset.train.images[firsts[:images]]
        plan = augment.draw(generator(self.config.seed, Purpose.AUGMENTATION), len(originals), self.policy)
        backend, kinds = self.machine.backend, self.policy.kinds
        augmented = [(kind.label, augment.apply(backend, originals, plan.only(kind))) for kind in kinds]
        return AugmentationSheet((("original", originals), *augmented))
