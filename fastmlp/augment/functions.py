"""The augmentations as functions that people call: every parameter is one number, or one per image."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastmlp.augment.checks import check_images, check_pixels, flags, numbers
from fastmlp.augment.kinds.contrast import Contrast
from fastmlp.augment.kinds.contrast import hflip as hflip_op
from fastmlp.augment.kinds.crop import Crop
from fastmlp.augment.kinds.cutout import cutout as cutout_op
from fastmlp.augment.kinds.cutout import squares
from fastmlp.augment.kinds.rotation import Rotation
from fastmlp.augment.running import run
from fastmlp.augment.shears import rotate_by_shears, turns_and_shears
from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import UsageError

ROTATION_METHODS = ("bilinear", "shear")


def crop(images: Array, dy: ArrayLike, dx: ArrayLike, padding: int = 4, *, backend: Backend | None = None) -> Array:
    """The window at (dy, dx) of each image padded by zeros, of the image's own size; integers in 0..2 * padding."""
    check_images(images)
    check_pixels("padding", padding)
    return run(Crop.op, images, Crop(int(padding)).arguments(images.shape[0], {"dy": dy, "dx": dx}), backend)


def rotate(images: Array, degrees: ArrayLike, *, method: str = "bilinear", backend: Backend | None = None) -> Array:
    """Each image turned about its centre, counter-clockwise for positive degrees, zero outside.

    method="bilinear" equals torchvision's rotate(InterpolationMode.BILINEAR) to one level; method="shear" does it by
    three shears (Paeth 1986), as the reference the paper cites, and needs square images.
    """
    check_images(images)
    if method == "bilinear":
        return run(Rotation.op, images, Rotation().arguments(images.shape[0], {"degrees": degrees}), backend)
    angles = numbers("degrees", degrees, images.shape[0])
    if method != "shear":
        raise UsageError(f"Rotation method must be one of {', '.join(ROTATION_METHODS)}, not {method!r}.")
    if images.shape[2] != images.shape[3]:
        raise UsageError(f"Rotation by shears needs square images, not {images.shape[2]} x {images.shape[3]}.")
    return run(rotate_by_shears, images, turns_and_shears(angles), backend)


def cutout(images: Array, top: ArrayLike, left: ArrayLike, size: ArrayLike, *, backend: Backend | None = None) -> Array:
    """A square of zeros in each image: rows top to top + size, columns left to left + size, clipped to the image."""
    check_images(images)
    return run(cutout_op, images, squares(images.shape[0], top, left, size), backend)


def contrast(images: Array, factor: ArrayLike, *, backend: Backend | None = None) -> Array:
    """mean + factor * (image - mean), the mean over the image's pixels and channels, rounded and clipped."""
    check_images(images)
    return run(Contrast.op, images, Contrast().arguments(images.shape[0], {"factor": factor, "flip": False}), backend)


def hflip(images: Array, flip: ArrayLike, *, backend: Backend | None = None) -> Array:
    """The mirror image, left for right, of each image whose flip is true."""
    check_images(images)
    return run(hflip_op, images, (flags("flip", flip, images.shape[0]),), backend)
