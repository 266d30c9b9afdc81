"""A folder of images, one sub-folder per class, PATH/CLASS/IMAGE, or such folders in PATH/train/ and PATH/test/."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastmlp.common.errors import DataError
from fastmlp.common.progress import warn
from fastmlp.common.text import normalized
from fastmlp.datasets import image_files, image_store
from fastmlp.datasets.base import Dataset, LeftOut
from fastmlp.datasets.image_files import ImageFiles, ImagesRead
from fastmlp.datasets.image_store import Listing
from fastmlp.datasets.places import Place
from fastmlp.datasets.reading import DEFAULT_READING, Reading
from fastmlp.datasets.sources import Named, Reader

OF_TWO_PARTS = ("train", "test")


class Part(NamedTuple):
    """A folder of class folders: the names of each class's images, CLASS/IMAGE, by the class's name, both sorted."""

    folder: Place
    classes: dict[str, list[str]]

    def sources(self) -> list[ImageFiles]:
        """Class after class."""
        folder = Named.of(self.folder)
        names = [name for own in self.classes.values() for name in own]
        labels = [label for label, own in self.classes.items() for _ in own]
        parts = (slice(start, start + image_files.PART) for start in range(0, len(names), image_files.PART))
        return [ImageFiles(folder, tuple(names[part]), tuple(labels[part])) for part in parts]


class Found(NamedTuple):
    """Images of files and folders, and how many other things of each kind lie in the folders."""

    images: list[Place]
    others: Counter[str]


def load(
    path: Place, reading: Reading = DEFAULT_READING, reader: Reader | None = None, keep: Path | None = None
) -> Dataset:
    """The dataset in the folder `path`, each image cropped to its central square and resized to 32x32 RGB.

    Without train/ and test/, a fixed random fifth of each class is held out for testing. What else lies there is told
    and left out, but for hidden files. Raises DataError if the layout is different, a class has too few images, two
    class names differ in their Unicode spelling only, or as `image_store.load` does, where `keep` is explained.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: pass one with a sub-folder of images for each class.")
    parts, others = _parts_of(path)
    _tell(path, others)
    _check_enough(parts)
    listing = Listing(
        f"folder:{path}",
        [part.sources() for part in parts],
        tuple(parts[0].classes),
        lambda split, name: str(parts[split].folder / name),
        dict(others),
        complete=True,
    )
    return image_store.load(listing, reading, reader, keep)


def read_images(paths: Sequence[Path], reading: Reading = DEFAULT_READING) -> tuple[list[Path], ImagesRead]:
    """The paths of files and of all images in folders, which are sorted, and what was read of them.

    What else lies in the folders is told and left out, but for hidden files. Raises as `image_files.read` does, and
    for a folder without images, which is left out too where bad images are.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        images, others = _contents(path)
        if images:
            _tell(path, others)
        elif reading.on_bad_image == "fail" or len(paths) == 1:
            raise _no_images(path, others)
        else:
            warn(str(_no_images(path, others)))
        found += (path / image.name for image in images)
    if not found:
        raise DataError("None of these folders has images: give others.")
    return found, image_files.read(found, reading)


# What lies in a folder.


def _parts_of(path: Place) -> tuple[list[Part], Counter[str]]:
    """train/ and test/, or the folder itself; and how many other things of each kind lie there."""
    train_path, test_path = (path / name for name in OF_TWO_PARTS)
    if train_path.is_dir() and test_path.is_dir():
        return _two_parts(path, train_path, test_path)
    if train_path.is_dir() and any(inner.is_dir() for inner in _visible(train_path)):
        raise DataError(f"{path} has a train/ but no test/: add one, or give folder:{train_path}.")
    part, others = _part(path)
    return [part], others


def _two_parts(path: Place, train_path: Place, test_path: Place) -> tuple[list[Part], Counter[str]]:
    (train, train_others), (test, test_others) = _part(train_path), _part(test_path)
    if train.classes.keys() != test.classes.keys():
        name = min(train.classes.keys() ^ test.classes.keys())
        lacking = test_path if name in train.classes else train_path
        raise DataError(f"{lacking} lacks the class {name!r}: train/ and test/ must have the same sub-folders.")
    beside = [other for other in _visible(path) if not (other.is_dir() and other.name in OF_TWO_PARTS)]
    names = (f"{other.name}/" if other.is_dir() else _kind(other, " beside train/ and test/") for other in beside)
    return [train, test], train_others + test_others + Counter(names)


def _part(folder: Place) -> tuple[Part, Counter[str]]:
    """The classes in `folder`, and other things. Raises DataError for fewer than two, or for one without images."""
    classes: dict[str, list[str]] = {}
    others: Counter[str] = Counter()
    for path in _visible(folder):
        if not path.is_dir():
            others[_kind(path, " beside the class folders")] += 1
            continue
        name = normalized(path.name)
        if name in classes:
            raise DataError(
                f"{folder} has two folders {name!r}, whose names differ in their Unicode spelling only (NFC and NFD): "
                "move their images into one."
            )
        found = _contents(path)
        if not found.images:
            raise _no_images(path, found.others)
        classes[name] = [f"{path.name}/{image.name}" for image in found.images]
        others += found.others
    if len(classes) < 2:
        raise DataError(f"{folder} has {len(classes)} folders of images: make one per class, for at least two classes.")
    return Part(folder, classes), others


def _contents(folder: Place) -> Found:
    paths = _visible(folder)
    images = [path for path in paths if image_files.is_image(path)]
    return Found(images, Counter(_kind(path) for path in paths if not image_files.is_image(path)))


def _no_images(folder: Place, others: Counter[str]) -> DataError:
    only = f", only {LeftOut(dict(others))}" if others else ""
    known = " ".join(sorted(image_files.suffixes()))
    return DataError(f"{folder} has no images ({known}){only}: add some, or leave the folder out.")


def _visible(folder: Place) -> list[Place]:
    """All but hidden files, in the same order on every system."""
    try:
        paths = sorted(list[Place](folder.iterdir()), key=lambda path: (normalized(path.name), path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): give yourself read permission.") from error
    return [path for path in paths if not path.name.startswith(".")]


def _kind(path: Place, place: str = "") -> str:
    """What a path that is left out counts as; an image is told by the place where none is expected."""
    if path.is_dir():
        return "nested folder"
    suffix = path.suffix.lower() or "without a suffix"
    return suffix + place if image_files.is_image(path) else suffix


def _tell(folder: Place, others: Counter[str]) -> None:
    if others:
        warn(f"Left out of {folder}: {LeftOut(dict(others))}.")


def _check_enough(parts: Sequence[Part]) -> None:
    """Raise DataError for a class without an image to train on and another one to test on, before any is read."""
    for part in parts:
        for name, paths in part.classes.items():
            if len(paths) == len(parts) == 1:
                raise DataError(
                    f"{part.folder / name} has only one image: add another, because one is held out for testing."
                )
