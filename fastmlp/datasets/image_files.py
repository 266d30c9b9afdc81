"""Image files to small images; what cannot be read is told, all of it, and then refused or left out."""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fastmlp.common.environment import available_cores
from fastmlp.common.errors import DataError, FastMLPError, first_line
from fastmlp.common.progress import progress, warn
from fastmlp.datasets.mapped import IMAGE_SHAPE, Images
from fastmlp.datasets.places import Place, stamp_of
from fastmlp.datasets.reading import DEFAULT_READING, MAX_PIXELS, Reading
from fastmlp.datasets.sources import MOST_THREADS, Label, Named, Put, Samples

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others run programs, as EPS does
ALSO_JPEG = "MPO"  # several JPEG images in one file, of which Pillow opens the first
ALWAYS_DEEP = ".pfm"  # 32 bits per pixel
TOLD = 20  # bad images
PART = 128  # files that are read together
_pillows_settings = threading.Lock()  # which are the whole process's


T = TypeVar("T")


class ImagesRead(NamedTuple):
    """The images uint8 (n, 3, 32, 32) of the files that could be read, and why the others could not."""

    images: Images
    reasons: dict[Path, str]


@dataclass(frozen=True)
class ImageFiles:
    """A source of image files in a folder: their names, which may lead through folders in it, and their labels."""

    folder: Named
    names: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def shown(self) -> str:
        return self.folder.shown

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def needed(self) -> list[Place]:
        return [self.folder.place / name for name in self.names]

    def identity(self) -> list[Any]:
        stamps = [stamp_of(place) for place in self.needed]
        return ["files", self.folder.shown, str(self.folder.place), self.names, self.labels, stamps]

    def read(self, max_pixels: int, threads: int, put: Put) -> Samples:
        found = decoded(self.names, lambda name: _opened(self.folder.place / name), max_pixels, threads)
        put(stacked(found))
        return samples_of(found, self.labels, [self.folder.inner(name).shown for name in self.names])


def samples_of(found: Sequence[Images | str], labels: Sequence[Label], shown: Sequence[str]) -> Samples:
    """Of images, or the reasons why there are none, with their labels and what each is called."""
    read = [label for image, label in zip(found, labels, strict=True) if not isinstance(image, str)]
    reasons = {name: image for name, image in zip(shown, found, strict=True) if isinstance(image, str)}
    return Samples(read, reasons, {})


def stacked(found: Sequence[Images | str]) -> Images:
    """The images (n, 3, 32, 32) among these, perhaps none."""
    images = [image for image in found if not isinstance(image, str)]
    return np.stack(images) if images else np.empty((0, *IMAGE_SHAPE), np.uint8)


def decoded(
    encoded: Sequence[T], opened: Callable[[T], Path | BytesIO], max_pixels: int, threads: int
) -> list[Images | str]:
    """Each as an image uint8 (3, 32, 32), or why it is none: no exception. opened: what Pillow reads each from."""

    def image_or_reason(one: T) -> Images | str:
        try:
            return _read_image(opened(one), max_pixels)
        except FastMLPError:  # a place that cannot be reached makes no bad image
            raise
        except Exception as error:  # noqa: BLE001  (Pillow's readers raise nearly every kind for a damaged file)
            return _reason(error)

    with _pillow_allowing(max_pixels), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(image_or_reason, encoded))


def of_bytes(content: bytes | None) -> BytesIO:
    """What Pillow reads a file's content from. Raises ValueError if there is none."""
    if not content:
        raise ValueError("it has no bytes")
    return BytesIO(content)


def _opened(place: Place) -> Path | BytesIO:
    if not isinstance(place, Path):
        return BytesIO(place.read_bytes())
    if place.exists() and not place.is_file():  # reading a pipe or a device might never end
        raise ValueError("it is not a file")
    return place


@cache
def suffixes() -> frozenset[str]:
    """Those of all files that may be images: what Pillow calls files of the formats that are read."""
    formats = (*FORMATS, ALSO_JPEG)
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in formats}
    return frozenset(known - {ALWAYS_DEEP})


def is_image(path: Place) -> bool:
    """Whether its name says so."""
    return path.suffix.lower() in suffixes() and not path.is_dir()


def read(paths: Sequence[Path], reading: Reading = DEFAULT_READING) -> ImagesRead:
    """Read all of them. Raises DataError, after it told which ones, if one cannot be read, or none where they may be.

    Each is cropped to its central square and resized to 32x32 RGB; of several frames or pages, the first is.
    """
    threads, found = min(available_cores(), MOST_THREADS), list[Images | str]()
    with progress("Reading images", len(paths), "images") as bar:
        for start in range(0, len(paths), PART):
            part = paths[start : start + PART]
            found += decoded(part, _opened, reading.max_pixels, threads)
            bar.advance(len(part))
    reasons = {path: reason for path, reason in zip(paths, found, strict=True) if isinstance(reason, str)}
    images = stacked(found)
    judge(reasons, len(paths), len(images), reading)
    return ImagesRead(images, reasons)


def judge(reasons: Mapping[Any, str], total: int, readable: int, reading: Reading) -> None:
    """Tell which of so many images cannot be read. Raises DataError if one cannot, or if none can."""
    if not reasons:
        return
    _tell(reasons, total, reading)
    if reading.on_bad_image == "fail" or not readable:
        raise _refusal(reasons, reading)


@contextmanager
def _pillow_allowing(max_pixels: int) -> Iterator[None]:
    """Within the block, Pillow is silent about odd metadata, and refuses no image for its size that has no more pixels.

    Threads take turns, so that in the end all settings are as they were.
    """
    with _pillows_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS
        if before is not None and max_pixels > MAX_PIXELS:
            Image.MAX_IMAGE_PIXELS = max(before, max_pixels)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _tell(reasons: Mapping[Any, str], total: int, reading: Reading) -> None:
    """Which images cannot be read, and why, unless an error will say so."""
    bad, skipped = len(reasons), reading.on_bad_image == "skip"
    if bad == 1 and not skipped:
        return
    left_out = f" and {'is' if bad == 1 else 'are'} left out" if skipped else ""
    warn(f"{bad:,} of {total:,} images cannot be read{left_out}:")
    for path, reason in islice(reasons.items(), TOLD):
        warn(f"  {path} ({reason})")
    if bad > TOLD:
        warn(f"  and {bad - TOLD:,} more")


def _refusal(reasons: Mapping[Any, str], reading: Reading) -> DataError:
    path, reason = next(iter(reasons.items()))
    others = f", nor can {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    fix = "repair or remove them" if others else "repair or remove it"
    if reading.on_bad_image == "fail":
        fix += ", or leave out what cannot be read by --on-bad-image skip"
    return DataError(f"{path} cannot be read as an image ({reason}){others}: {fix}.")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"{first_line(error).partition(',')[0]}, which --max-pixels raises"
    if isinstance(error, UnidentifiedImageError):
        return f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def _read_image(file: Path | BytesIO, max_pixels: int) -> Images:
    """uint8 (3, 32, 32)."""
    with Image.open(file, formats=FORMATS) as image:
        pixels = image.width * image.height
        if pixels > max_pixels:
            raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds limit of {max_pixels} pixels")
        return _small_rgb(image)


def _small_rgb(image: Image.Image) -> Images:
    """The central square, upright and on white, as uint8 (3, 32, 32)."""
    size = IMAGE_SHAPE[1:]
    if image.mode[0] in "IF":  # 16 or 32 bits per pixel, which Pillow would clip to 255
        raise ValueError(f"mode {image.mode}, not 8 bits per channel")
    image.draft("RGB", (2 * size[0], 2 * size[1]))  # a large JPEG is then decoded at a fraction of its size
    ImageOps.exif_transpose(image, in_place=True)  # of a giant, every copy counts
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(ImageOps.fit(image if image.mode == "RGB" else image.convert("RGB"), size)).transpose(2, 0, 1)
