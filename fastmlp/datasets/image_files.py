"""Image files to small images; what cannot be read is told, all of it, and then refused or left out."""

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fastmlp.common.errors import DataError, first_line
from fastmlp.common.progress import progress, warn
from fastmlp.datasets.base import IMAGE_SHAPE, Images
from fastmlp.datasets.reading import DEFAULT_READING, MAX_PIXELS, Reading

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # others run programs, as EPS does
ALSO_JPEG = "MPO"  # several JPEG images in one file, of which Pillow opens the first
ALWAYS_DEEP = ".pfm"  # 32 bits per pixel
TOLD = 20  # bad images
_pillows_settings = threading.Lock()  # which are the whole process's


class ImagesRead(NamedTuple):
    """The images uint8 (n, 3, 32, 32) of the files that could be read, and why the others could not."""

    images: Images
    reasons: dict[Path, str]


@cache
def suffixes() -> frozenset[str]:
    """Those of all files that may be images: what Pillow calls files of the formats that are read."""
    formats = (*FORMATS, ALSO_JPEG)
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in formats}
    return frozenset(known - {ALWAYS_DEEP})


def is_image(path: Path) -> bool:
    """Whether its name says so."""
    return path.suffix.lower() in suffixes() and not path.is_dir()


def read(paths: Sequence[Path], reading: Reading = DEFAULT_READING) -> ImagesRead:
    """Read all of them. Raises DataError, after it told which ones, if one cannot be read, or none where they may be.

    Each is cropped to its central square and resized to 32x32 RGB; of several frames or pages, the first is.
    """
    images, reasons, count = np.empty((len(paths), *IMAGE_SHAPE), np.uint8), {}, 0
    with progress("Reading images", len(paths), "images") as bar, _pillow_allowing(reading.max_pixels):
        for path in paths:
            try:
                images[count] = _read_image(path, reading.max_pixels)
                count += 1
            except Exception as error:  # noqa: BLE001  (Pillow's readers raise nearly every kind for a damaged file)
                reasons[path] = _reason(error)
            bar.advance(1)
    if reasons:
        _tell(reasons, len(paths), reading)
    if reasons and (reading.on_bad_image == "fail" or not count):
        raise _refusal(reasons, reading)
    return ImagesRead(images[:count], reasons)


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
