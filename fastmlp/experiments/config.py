"""What to run: a command's options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fastmlp import datasets, extractors
from fastmlp.augment import Policy
from fastmlp.common.errors import UsageError, did_you_mean
from fastmlp.datasets.reading import DEFAULT_READING, Reading
from fastmlp.experiments.protocols import Protocol
from fastmlp.extractors.ways import PLAIN, check_convolutions
from fastmlp.network.parameters import DTYPES
from fastmlp.training.recipe import PRESETS, Recipe
from fastmlp.training.weights import BALANCED, parse_class_weight

SEEDS_END = 2**32  # the paper's generator takes no larger seeds
SIGNS = frozenset("*?[{")  # of globs and braces


@dataclass(frozen=True)
class Config:
    """What to run; None leaves a value to the preset, the dataset or the machine.

    augment: the augmentations and their ranges, as `augment.Policy.parse` takes them; None: the paper's four.
    copies: augmented copies of each training image; the augmented model trains on the images and on all copies.
    memory: bytes of features that may be held; None: all of them.
    on_bad_image, max_pixels: as `datasets.Reading` has them.
    early_stopping: hold a tenth of the training rows out, and stop as `training.stopping.Stopping` says. class_weight:
    "balanced", or NAME=W,NAME=W. folds: cross-validate in that many. protocol: the probe to run; its recipe then stands
    in for the preset's. strength: as the recipe has it.
    """

    dataset: str = "digits"
    extractor: str = "patches"
    backend: str = "auto"
    preset: str = "paper"
    hidden_layer_sizes: tuple[int, ...] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    early_stopping: bool = False
    class_weight: str | None = None
    folds: int | None = None
    seed: int = 0
    seeds: int = 1
    dtype: str = "float32"
    extractor_dtype: str = "float32"
    augment: str | None = None
    copies: int = 1
    threads: int | None = None
    limit: int | None = None
    memory: int | None = None
    data_dir: Path | None = None
    on_bad_image: str = DEFAULT_READING.on_bad_image
    max_pixels: int = DEFAULT_READING.max_pixels
    weights: Path | None = None
    image_size: int | None = None
    convolutions: str = PLAIN
    out: Path | None = None
    resume: bool = False
    protocol: Protocol | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            near = did_you_mean(self.preset, PRESETS)
            raise UsageError(f"There is no preset {self.preset!r}{near}: choose one of {', '.join(PRESETS)}.")
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}.")
        self._check_numbers_of_the_recipe()
        datasets.check_name(self.dataset)
        extractors.check_name(self.extractor)
        check_convolutions(self.convolutions)
        _ = self.recipe, self.policy, self.reading  # which check themselves
        if self.class_weight not in (None, BALANCED):
            parse_class_weight(str(self.class_weight))
        if self.folds is not None and self.folds < 2:
            raise UsageError(f"--folds must be 2 or more, not {self.folds}.")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be 1 or more images, not {self.limit}.")
        if self.copies < 1:
            raise UsageError(f"--copies must be 1 or more augmented copies of each image, not {self.copies}.")
        if not 1 <= self.seeds <= SEEDS_END - self.seed:
            raise UsageError(f"--seeds must be 1 or more, and the last seed less than 2**32, not {self.seeds}.")

    def _check_numbers_of_the_recipe(self) -> None:
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise UsageError(f"--learning-rate must be a positive number, not {self.learning_rate:g}.")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"--weight-decay must be a number from 0 on, not {self.weight_decay:g}.")
        if self.label_smoothing is not None and not 0 <= self.label_smoothing < 1:
            raise UsageError(f"--label-smoothing must be a number from 0 to below 1, not {self.label_smoothing:g}.")

    @property
    def recipe(self) -> Recipe:
        base = PRESETS[self.preset] if self.protocol is None else self.protocol.recipe
        return base.changed(
            init="he" if self.protocol is not None and self.hidden_layer_sizes else None,
            hidden_layer_sizes=self.hidden_layer_sizes,
            strength=self.strength,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
        )

    @property
    def recipe_name(self) -> str:
        return self.preset if self.protocol is None else self.protocol.name

    @property
    def policy(self) -> Policy:
        """What is drawn for each copy of an image, if mirroring keeps the image's class."""
        return Policy() if self.augment is None else Policy.parse(self.augment)

    @property
    def reading(self) -> Reading:
        return Reading(self.on_bad_image, self.max_pixels)

    @property
    def all_seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.seeds))

    @property
    def folder(self) -> Path:
        """Where results go: --out, or runs/DATASET-EXTRACTOR."""
        parts = [part for part in self.dataset.split("/") if part and not SIGNS.intersection(part)]
        names = (parts[-1] if parts else self.dataset.partition(":")[0], self.extractor)
        return self.out or Path("runs") / "-".join(name.replace(":", "_").replace("/", "_") for name in names)
