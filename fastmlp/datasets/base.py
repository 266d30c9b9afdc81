"""What a dataset is: labelled uint8 images, split into train and test."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import DataError
from fastmlp.datasets.mapped import IMAGE_SHAPE, MappedImages, blocks

Labels = NDArray[np.int64]
Places = NDArray[np.int64]

TEST_FRACTION = 0.2
KINDS_SHOWN = 10  # of what is left out


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 3, 32, 32), an array or, of many in a file, MappedImages; and labels int64 (n,)."""

    images: Any
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of shapes, pixels and labels."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        for block in blocks(self.images):
            digest.update(np.ascontiguousarray(block).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        return digest.hexdigest()

    def at(self, places: Places) -> "Split":
        """The images at these indices, in that order."""
        return Split(self.images[places], self.labels[places])

    def first(self, n: int) -> "Split":
        images = self.images.first(n) if isinstance(self.images, MappedImages) else self.images[:n]
        return Split(images, self.labels[:n])


@dataclass(frozen=True)
class LeftOut:
    """What lies where a dataset was read but is not in it.

    files: how many, by what they are, such as ".heic"; images: why each could not be read, by its path.
    """

    files: dict[str, int] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.files or self.images)

    def __str__(self) -> str:
        """3 .heic, 1 .txt, 2 unreadable: the most frequent kinds first, and few of many."""
        kinds = Counter(self.files).most_common()
        shown, others = kinds[:KINDS_SHOWN], sum(count for _, count in kinds[KINDS_SHOWN:])
        counts = [*shown, ("others", others), ("unreadable", len(self.images))]
        return ", ".join(f"{count:,} {_plural(kind, count)}" for kind, count in counts if count)


def _plural(kind: str, count: int) -> str:
    return f"{kind}s" if count > 1 and kind.endswith("folder") else kind


@dataclass(frozen=True)
class Dataset:
    """Two splits, the names of the classes, whether a mirrored image keeps its class, and what was left out."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    mirror_keeps_class: bool = True
    note: str = field(default="", compare=False)
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)

    def __post_init__(self) -> None:
        for split_name, split in (("train", self.train), ("test", self.test)):
            check_split(f"{self.name} {split_name}", split, len(self.class_names))

    def limited(self, n: int) -> "Dataset":
        """The first n training images and the first n test images: a quick look."""
        return replace(self, train=self.train.first(n), test=self.test.first(n))


def check_split(name: str, split: Split, classes: int) -> None:
    """Raise DataError unless the images are uint8 (n, 3, 32, 32), n > 0, and every label is a class's index."""
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE:
        raise DataError(f"{name}: images must be uint8 (n, 3, 32, 32), not {images.dtype} {images.shape}.")
    if len(images) != len(labels):
        raise DataError(f"{name}: {len(images)} images but {len(labels)} labels: give one label per image.")
    if len(images) == 0:
        raise DataError(f"{name} holds no images: add some, or choose another dataset.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{name}: record {wrong[0]} has label {labels[wrong[0]]}, but labels run from 0 to "
            f"{classes - 1}: the file is damaged or from another dataset."
        )


def stratified_split(whole: Split, seed: int) -> tuple[Split, Split]:
    """Train and test, as `stratified_places` has them."""
    train, test = stratified_places(whole.labels, seed)
    return whole.at(train), whole.at(test)


def stratified_places(labels: Labels, seed: int) -> tuple[Places, Places]:
    """Where train and test lie, both in random order; test has about a fifth of each class, at least one image."""
    rng = np.random.default_rng(seed)
    train, test = [], []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        n_test = max(1, round(len(members) * TEST_FRACTION))
        test.append(members[:n_test])
        train.append(members[n_test:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))
