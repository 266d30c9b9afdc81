"""A folder of images, one sub-folder per class, PATH/CLASS/IMAGE, or such folders in PATH/train/ and PATH/test/."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fastmlp.common.errors import DataError, first_line
from fastmlp.common.progress import progress
from fastmlp.datasets.base import IMAGE_SHAPE, Dataset, Images, Split, stratified_split

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others run programs, as EPS does
SHUFFLE_SEED = 0
Classes = dict[str, list[Path]]  # the image paths of each class by its name, both sorted


def load(path: Path) -> Dataset:
    """The dataset in the folder `path`, each image cropped to its central square and resized to 32x32 RGB.

    Without train/ and test/, a fixed random fifth of each class is held out for testing. Raises DataError if the layout
    is different, a class has too few images, or an image cannot be read.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: pass one with a sub-folder of images for each class.")
    train_path, test_path = path / "train", path / "test"
    if train_path.is_dir() and test_path.is_dir():
        class_names, train, test = _load_split_folders(train_path, test_path)
    elif train_path.is_dir() and _visible(train_path, Path.is_dir):
        raise DataError(f"{path} has a train/ but no test/: add one, or give folder:{train_path}.")
    else:
        class_names, train, test = _load_and_split(path)
    return Dataset(f"folder:{path}", train, test, class_names)


def _load_split_folders(train_path: Path, test_path: Path) -> tuple[tuple[str, ...], Split, Split]:
    train, test = _classes_in(train_path), _classes_in(test_path)
    if train.keys() != test.keys():
        name = min(train.keys() ^ test.keys())
        lacking = test_path if name in train else train_path
        raise DataError(f"{lacking} lacks the class {name!r}: train/ and test/ must have the same sub-folders.")
    return tuple(train), _shuffled(_read(train)), _shuffled(_read(test))


def _load_and_split(path: Path) -> tuple[tuple[str, ...], Split, Split]:
    classes = _classes_in(path)
    for name, paths in classes.items():
        if len(paths) < 2:
            raise DataError(f"{path / name} has only one image: add another, because one is held out for testing.")
    return tuple(classes), *stratified_split(_read(classes), SHUFFLE_SEED)


def _classes_in(path: Path) -> Classes:
    """The classes in `path`. Raises DataError for fewer than two, or for one without images."""
    classes = {folder.name: _images_in(folder) for folder in _visible(path, Path.is_dir)}
    if len(classes) < 2:
        raise DataError(f"{path} has {len(classes)} folders of images: make one per class, for at least two classes.")
    return classes


def _images_in(folder: Path) -> list[Path]:
    paths = _visible(folder, lambda path: path.suffix.lower() in SUFFIXES and not path.is_dir())
    if not paths:
        raise DataError(f"{folder} has no images ({' '.join(SUFFIXES)}): add some or remove the folder.")
    return paths


def _visible(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): give yourself read permission.") from error
    return [path for path in paths if not path.name.startswith(".") and wanted(path)]


def read_images(paths: Sequence[Path]) -> tuple[list[Path], Images]:
    """Paths and images, uint8 (n, 3, 32, 32), of files and of all files in folders, which are sorted."""
    found = [image for path in paths for image in (_images_in(path) if path.is_dir() else [path])]
    return found, _read_all(found)


def _read(classes: Classes) -> Split:
    """All images, class after class."""
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
    images = _read_all([path for paths in classes.values() for path in paths])
    return Split(images, labels.astype(np.int64))


def _read_all(paths: Sequence[Path]) -> Images:
    """uint8 (n, 3, 32, 32)."""
    images = np.empty((len(paths), *IMAGE_SHAPE), np.uint8)
    with progress("Reading images", len(paths), "images") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's complaints about odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for i, path in enumerate(paths):
            images[i] = _read_image(path)
            bar.advance(1)
    return images


def _read_image(path: Path) -> Images:
    """uint8 (3, 32, 32)."""
    if path.exists() and not path.is_file():  # reading a pipe or a device might never end
        raise DataError(f"{path} cannot be read as an image, because it is not a file: remove it.")
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _small_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} has suspiciously many pixels: remove it or make it smaller.") from error
    except Exception as error:  # Pillow's readers raise nearly every kind of error for a damaged file
        raise DataError(f"{path} cannot be read as an image ({first_line(error)}): repair or remove it.") from error


def _small_rgb(image: Image.Image) -> Images:
    """The central square, upright and on white, as uint8 (3, 32, 32)."""
    size = IMAGE_SHAPE[1:]
    if image.mode[0] in "IF":  # 16 or 32 bits per pixel, which Pillow would clip to 255
        raise ValueError(f"mode {image.mode}, not 8 bits per channel")
    image.draft("RGB", (2 * size[0], 2 * size[1]))  # a large JPEG is then decoded at a fraction of its size
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return np.asarray(ImageOps.fit(upright.convert("RGB"), size)).transpose(2, 0, 1)


def _shuffled(split: Split) -> Split:
    return split.at(np.random.default_rng(SHUFFLE_SEED).permutation(len(split)))
