"""Image files to small images; what cannot be read is told, all of it, and then refused or left out."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fastmlp.common.environment import available_cores
from fastmlp.common.errors import DataError, first_line
from fastmlp.common.progress import progress, warn
from fastmlp.datasets.base import IMAGE_SHAPE, Images
from fastmlp.datasets.reading import DEFAULT_READING, MAX_PIXELS, Reading

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others run programs, as EPS does
ALSO_JPEG = "MPO"  # several JPEG images in one file, of which Pillow opens the first
ALWAYS_DEEP = ".pfm"  # 32 bits per pixel
TOLD = 20  # bad images
PART = 128  # files that are read together
MOST_THREADS = 8  # each may hold an honest giant
_pillows_settings = threading.Lock()  # which are the whole process's


class ImagesRead(NamedTuple):
    """The images uint8 (n, 3, 32, 32) of the files that could be read, and why the others could not."""

    images: Images
    reasons: dict[Path, str]


class Reader(Protocol):
    """What reads parts of the files, here or on other machines, in any order."""

    def __call__(self, parts: Sequence[Sequence[Path]], max_pixels: int) -> Iterator[tuple[int, ImagesRead]]:
        """Each part's number, from 0 on, and what was read of it."""


def read_here(parts: Sequence[Sequence[Path]], max_pixels: int) -> Iterator[tuple[int, ImagesRead]]:
    """The reader of this process."""
    threads = min(available_cores(), MOST_THREADS)
    return ((number, read_part(part, max_pixels, threads)) for number, part in enumerate(parts))


def read_part(paths: Sequence[Path], max_pixels: int, threads: int) -> ImagesRead:
    """Read these files, in the order of their paths. No exception: what cannot be read has a reason."""
    with _pillow_allowing(max_pixels), ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda path: _image_or_reason(path, max_pixels), paths))
    images = [image for image in found if not isinstance(image, str)]
    reasons = {path: reason for path, reason in zip(paths, found, strict=True) if isinstance(reason, str)}
    return ImagesRead(np.stack(images) if images else np.empty((0, *IMAGE_SHAPE), np.uint8), reasons)


def _image_or_reason(path: Path, max_pixels: int) -> Images | str:
    try:
        return _read_image(path, max_pixels)
    except Exception as error:  # noqa: BLE001  (Pillow's readers raise nearly every kind for a damaged file)
        return _reason(error)


@cache
def suffixes() -> frozenset[str]:
    """Those of all files that may be images: what Pillow calls files of the formats that are read."""
    formats = (*FORMATS, ALSO_JPEG)
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in formats}
    return frozenset(known - {ALWAYS_DEEP})


def is_image(path: Path) -> bool:
    """Whether its name says so."""
    return path.suffix.lower() in suffixes() and not path.is_dir()


def read(paths: Sequence[Path], reading: Reading = DEFAULT_READING, reader: Reader | None = None) -> ImagesRead:
    """Read all of them. Raises DataError, after it told which ones, if one cannot be read, or none where they may be.

    Each is cropped to its central square and resized to 32x32 RGB; of several frames or pages, the first is.
    """
    parts = [paths[start : start + PART] for start in range(0, len(paths), PART)]
    images, kept = np.empty((len(paths), *IMAGE_SHAPE), np.uint8), np.zeros(len(paths), bool)
    bad: dict[int, dict[Path, str]] = {}
    with progress("Reading images", len(paths), "images") as bar:
        for number, part in (reader or read_here)(parts, reading.max_pixels):
            places = slice(number * PART, number * PART + len(part.images))
            images[places], kept[places], bad[number] = part.images, True, part.reasons
            bar.advance(len(parts[number]))
    reasons = {path: reason for number in sorted(bad) for path, reason in bad[number].items()}
    if reasons:
        _tell(reasons, len(paths), reading)
    if reasons and (reading.on_bad_image == "fail" or not kept.any()):
        raise _refusal(reasons, reading)
    return ImagesRead(images[kept] if reasons else images, reasons)


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


def _tell(reasons: Mapping[Path, str], total: int, reading: Reading) -> None:
    """Which images cannot be read, and why, unless an error will say so."""
    bad, skipped = len(reasons), reading.on_bad_image == "skip"
    if bad == 1 and not skipped:
        return
    warn(f"{bad:,} of {total:,} images cannot be read{' and are left out' if skipped else ''}:")
    for path, reason in islice(reasons.items(), TOLD):
        warn(f"  {path} ({reason})")
    if bad > TOLD:
        warn(f"  and {bad - TOLD:,} more")


def _refusal(reasons: Mapping[Path, str], reading: Reading) -> DataError:
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


def _read_image(path: Path, max_pixels: int) -> Images:
    """uint8 (3, 32, 32)."""
    if path.exists() and not path.is_file():  # reading a pipe or a device might never end
        raise ValueError("it is not a file")
    with Image.open(path, formats=FORMATS) as image:
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
