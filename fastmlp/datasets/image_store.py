"""Datasets whose images are read once, small, into a folder keyed by all that shapes them, and mapped from there.

A dataset is a list of sources. What is read of each is kept in a file of `<name>.partial`, so that a killed run resumes
with the sources that were not read. Once all are, the images are written in the order of the splits, and the folder
gets its name. In memory there are a few thousand images, and some forty bytes for each of the others.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow

from fastmlp.common.errors import DataError, FastMLPError
from fastmlp.common.files import locked, read_json, write_json
from fastmlp.common.progress import progress, say, warn
from fastmlp.datasets import mapped
from fastmlp.datasets.base import Dataset, Labels, LeftOut, Places, Split, stratified_places
from fastmlp.datasets.image_files import judge
from fastmlp.datasets.mapped import IMAGE_BYTES, IMAGE_SHAPE
from fastmlp.datasets.reading import Reading
from fastmlp.datasets.sources import Label, PartFile, Reader, Samples, Source, read_here

FORMAT = 2
SHUFFLE_SEED = 0
ABOUT = "dataset.json"
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Listing:
    """What a dataset will be read from.

    splits: the sources of train and test, or of one set, of which a fifth of each class is held out for testing.
    class_names: in their order, where they are known before the labels are; told: what a class of a split is called.
    left_out: how many other things lie there, by what they are; complete: every class is in each split; unit: what
    sources count.
    """

    name: str
    splits: Sequence[Sequence[Source]]
    class_names: tuple[str, ...] | None
    told: Callable[[int, str], str]
    left_out: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    unit: str = "images"

    @property
    def sources(self) -> list[Source]:
        return [source for split in self.splits for source in split]


def load(listing: Listing, reading: Reading, reader: Reader | None = None, keep: Path | None = None) -> Dataset:
    """The dataset, read into a folder of `keep`, or mapped from there; None: into a temporary folder.

    Raises DataError as `image_files.judge` does, or if labels are missing or of two kinds, or a class has too few
    images; FastMLPError if the folder cannot be written.
    """
    if keep is not None:
        return _kept(listing, reading, reader or read_here, keep.absolute())
    with tempfile.TemporaryDirectory() as folder:  # which may go while its files are open
        return _kept(listing, reading, reader or read_here, Path(folder))


def _kept(listing: Listing, reading: Reading, reader: Reader, keep: Path) -> Dataset:
    keys = [_hash([FORMAT, pillow, reading.max_pixels, source.identity()]) for source in listing.sources]
    readable = re.sub("[^0-9A-Za-z]", "_", listing.name)[:40]
    path = keep / f"{readable}-{_hash([keys, [len(split) for split in listing.splits], listing.class_names])}"
    partial = keep / f"{readable}-{_hash([listing.name, reading.max_pixels])}.partial"
    parts = [PartFile(source, partial / f"{key}.part") for source, key in zip(listing.sources, keys, strict=True)]
    there = path.is_dir()
    try:
        if not there:
            with locked(partial.with_suffix(".lock"), f"reading {listing.name}"):
                there = path.is_dir()  # by now
                if not there:
                    _write(listing, parts, reading, reader, partial, path)
    except OSError as error:
        raise FastMLPError(
            f"The images cannot be written under {keep} ({error.strerror or error}): make room there, or set "
            "FASTMLP_CACHE_DIR to another folder; the same command then resumes."
        ) from error
    dataset = _opened(path, listing)
    inside = Counter(dataset.left_out.files) - Counter(listing.left_out)
    if inside:
        warn(f"Left out of the files of {listing.name}: {LeftOut(dict(inside))}.")
    if there:
        rows, reasons = len(dataset.train) + len(dataset.test), dataset.left_out.images
        judge(reasons, rows + len(reasons), rows, reading)
    return dataset


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:20]


def _opened(path: Path, listing: Listing) -> Dataset:
    try:
        about = read_json(path / ABOUT)
        train, test = (_split(path, name) for name in SPLITS)
        if about["content"] != [train.content_hash, test.content_hash]:
            raise ValueError
        left_out = LeftOut(dict(Counter(listing.left_out) + Counter(about["others"])), about["reasons"])
        return Dataset(listing.name, train, test, tuple(about["class_names"]), left_out=left_out)
    except (DataError, OSError, ValueError, LookupError, TypeError):
        raise DataError(
            f"The images kept in {path} are damaged: delete that folder, and they are read again."
        ) from None


def _split(folder: Path, name: str) -> Split:
    return Split(mapped.opened(folder / f"{name}-images.npy"), np.load(folder / f"{name}-labels.npy"))


# Reading the sources, and laying down the splits.


class Read(NamedTuple):
    """What was read of a source: the classes in it, which of these each image is of, and what `Samples` has beside."""

    classes: list[Label]
    codes: NDArray[np.int64]
    reasons: dict[str, str]
    others: dict[str, int]

    @classmethod
    def of(cls, samples: Samples) -> Read:
        labels = samples.labels
        codes = {label: code for code, label in enumerate(dict.fromkeys(labels))}
        numbers = np.array([codes[label] for label in labels], np.int64)
        return cls(list(codes), numbers, samples.reasons, samples.others)

    def numbered(self, index: Mapping[Label, int]) -> Labels:
        """The number of each image's class."""
        return np.array([index[label] for label in self.classes], np.int64)[self.codes]


def _write(
    listing: Listing, parts: Sequence[PartFile], reading: Reading, reader: Reader, partial: Path, path: Path
) -> None:
    """Fill the folder of the parts, then rename it to path."""
    partial.mkdir(parents=True, exist_ok=True)
    read = _read(listing, parts, reading.max_pixels, reader)
    reasons = {image: reason for one in read for image, reason in one.reasons.items()}
    others = sum((Counter(one.others) for one in read), Counter[str]())
    rows = sum(len(one.codes) for one in read)
    judge(reasons, rows + len(reasons), rows, reading)
    names, labels = _labelled(listing, read)
    _check_enough(listing, names, labels)
    places = _places(labels)
    _lay_down(parts, places, partial)
    for name, own in zip(SPLITS, places, strict=True):
        np.save(partial / f"{name}-labels.npy", np.concatenate(labels)[own])
    content = [_split(partial, name).content_hash for name in SPLITS]
    about = {"class_names": names, "reasons": reasons, "others": others, "content": content}
    write_json(partial / ABOUT, about)
    for part in partial.iterdir():
        if part.suffix not in (".npy", ".json"):
            part.unlink()
    partial.replace(path)


def _read(listing: Listing, parts: Sequence[PartFile], max_pixels: int, reader: Reader) -> list[Read]:
    """What there is in the parts' files, once those that are missing are read."""
    found = {number: Read.of(samples) for number, part in enumerate(parts) if (samples := part.samples())}
    missing = [number for number in range(len(parts)) if number not in found]
    if found:
        say(f"Resuming {listing.name}: {len(found):,} of {len(parts):,} parts are read.")
    done = sum(parts[number].source.count for number in found)
    with progress("Reading images", sum(part.source.count for part in parts), listing.unit, done) as bar:
        for place in reader([parts[number] for number in missing], max_pixels):
            part = parts[missing[place]]
            samples = part.samples()
            if samples is None:
                raise DataError(f"{part.path} was written, and is not here: let all machines share FASTMLP_CACHE_DIR.")
            found[missing[place]] = Read.of(samples)
            bar.advance(part.source.count)
    return [found[number] for number in range(len(parts))]


def _labelled(listing: Listing, read: Sequence[Read]) -> tuple[list[str], list[Labels]]:
    """The names of the classes and, for each split, the index of each image's, in the order of the sources."""
    first: dict[type, Source] = {}
    for source, one in zip(listing.sources, read, strict=True):
        for label in one.classes:
            first.setdefault(type(label), source)
    if len(first) > 1:
        words, numbers = first[str].shown, first[int].shown
        raise DataError(f"Some labels of {words} are words, but some of {numbers} whole numbers: save them alike.")
    classes = listing.class_names or sorted({label for one in read for label in one.classes})
    index = {label: number for number, label in enumerate(classes)}
    labels, rest = [], iter(read)
    for split in listing.splits:
        own = [one.numbered(index) for one in islice(rest, len(split))]
        labels.append(np.concatenate([np.empty(0, np.int64), *own]))
    return [str(name) for name in classes], labels


def _check_enough(listing: Listing, names: Sequence[str], labels: Sequence[Labels]) -> None:
    """Raise DataError for fewer than two classes, or one without an image to train on and another one to test on."""
    for split, own in zip(SPLITS, labels, strict=False):
        if not (listing.complete or len(own)):
            which = f" to {split} on" if len(labels) > 1 else ""
            raise DataError(f"{listing.name} has no images{which}: add some, or check the path.")
    if len(names) < 2:
        raise DataError(f"{listing.name} has one class only, {names[0]}: give images of two or more.")
    counts = [np.bincount(own, minlength=len(names)).tolist() for own in labels]
    for number, name in enumerate(names):
        in_splits = [own[number] for own in counts]
        if not all(in_splits) and (listing.complete or in_splits[0] < sum(in_splits)):
            raise DataError(
                f"{listing.told(in_splits.index(0), name)} has no image that can be read: add some, or remove it."
            )
        if in_splits == [1]:
            raise DataError(
                f"{listing.told(0, name)} has only one image: add another, because one is held out for testing."
            )


def _places(labels: Sequence[Labels]) -> list[Places]:
    """Where the images of train and test lie, in the order of the sources. Classes in order, that of images is random.

    So images have the same order whatever they lie in, if the order within each class is the same.
    """
    by_class = [np.argsort(own, kind="stable") for own in labels]
    if len(labels) == 1:
        parts = stratified_places(labels[0][by_class[0]], SHUFFLE_SEED)
        return [by_class[0][part] for part in parts]
    starts = (0, len(labels[0]))
    return [
        start + order[np.random.default_rng(SHUFFLE_SEED).permutation(len(order))]
        for start, order in zip(starts, by_class, strict=True)
    ]


def _lay_down(parts: Sequence[PartFile], places: Sequence[Places], folder: Path) -> None:
    """Write the images at those places as a .npy file for each split, reading one part after the other."""
    split_of, row_of = (np.empty(sum(map(len, places)), np.int64) for _ in range(2))
    for number, own in enumerate(places):
        split_of[own], row_of[own] = number, np.arange(len(own))
    with ExitStack() as stack:
        files = [
            stack.enter_context(_images_file(folder / f"{name}-images.npy", len(own)))
            for name, own in zip(SPLITS, places, strict=True)
        ]
        offsets, start = [file.tell() for file in files], 0
        for images in chain.from_iterable(part.images() for part in parts):
            ours = slice(start, start + len(images))
            for image, split, row in zip(images, split_of[ours].tolist(), row_of[ours].tolist(), strict=True):
                _put(image, files[split], offsets[split] + row * IMAGE_BYTES)
            start += len(images)


def _put(image: NDArray[np.uint8], file: IO[bytes], place: int) -> None:
    """Write the image there. Raises OSError if a part of it finds no room, of which the system tells by a count."""
    if os.pwrite(file.fileno(), image.data, place) != image.nbytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _images_file(path: Path, n: int) -> IO[bytes]:
    """A file of n images, still black; its position is that of the first one."""
    file = path.open("wb", buffering=0)
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *IMAGE_SHAPE)}
    np.lib.format.write_array_header_1_0(file, header)
    file.truncate(file.tell() + n * IMAGE_BYTES)
    return file
