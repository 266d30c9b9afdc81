"""The augmentations in array code: ops that take the namespace, uint8 images (n, 3, h, w), parameters, and fill out.

Parameters are arrays (n,) on the images' device, one number an image. A backend may replace an op by a kernel of the
same name (see `fastmlp.backends.base.Ops`); `fastmlp.augment` is the interface people use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from fastmlp.backends.base import Array, Reference

Namespace = Any


def crop(xp: Namespace, images: Array, dy: Array, dx: Array, padding: int, out: Array) -> None:
    """out[y, x] = image[y + dy - padding, x + dx - padding], zero outside; dy, dx int64 (n,)."""
    rows, columns = _grid(xp, images)
    out[...] = _pixels(xp, images, rows + (dy - padding)[:, None, None], columns + (dx - padding)[:, None, None])


def rotate(xp: Namespace, images: Array, cosine: Array, sine: Array, out: Array) -> None:
    """Rotation about the centre, counter-clockwise, bilinear, zero outside, rounded to even.

    cosine and sine of the angles, float32 (n,).
    """
    rows, columns = _grid(xp, images)
    middle_y, middle_x = (images.shape[2] - 1) / 2, (images.shape[3] - 1) / 2
    y, x = xp.astype(rows, xp.float32) - middle_y, xp.astype(columns, xp.float32) - middle_x
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    source_y = x * sine + y * cosine + middle_y
    source_x = x * cosine - y * sine + middle_x
    top, left = xp.floor(source_y), xp.floor(source_x)
    below, right = (source_y - top)[:, None, ...], (source_x - left)[:, None, ...]
    pixels = partial(_float_pixels, xp, images, xp.astype(top, xp.int64), xp.astype(left, xp.int64))
    upper = pixels(0, 0) * (1 - right) + pixels(0, 1) * right
    lower = pixels(1, 0) * (1 - right) + pixels(1, 1) * right
    out[...] = xp.astype(xp.round(upper * (1 - below) + lower * below), xp.uint8)


def rotate_by_shears(xp: Namespace, images: Array, quarters: Array, tangent: Array, sine: Array, out: Array) -> None:
    """Rotation by three shears (Paeth 1986; Tanaka et al. 1986), along x, y, x, each linearly interpolated.

    A turn by a = quarters * 90 degrees + r, |r| <= 45 degrees, is `quarters` exact quarter turns (int64 (n,), 0 to 3)
    and then shears by -tan(r/2), sin(r), -tan(r/2): tangent = tan(r/2), sine = sin(r), float32 (n,). Square images.
    """
    side = images.shape[2]
    margin = side // 2  # a shear by up to 45 degrees pushes corners this far out of the picture
    canvas = xp.zeros((*images.shape[:2], side + 2 * margin, side + 2 * margin), dtype=xp.float32, device=images.device)
    inner = (slice(None), slice(None), slice(margin, margin + side), slice(margin, margin + side))
    canvas[inner] = xp.astype(_quarter_turns(xp, images, quarters), xp.float32)
    offset = _centred(xp, canvas)
    canvas = _shear_rows(xp, canvas, -tangent[:, None] * offset)
    canvas = _swap_axes(xp, _shear_rows(xp, _swap_axes(xp, canvas), sine[:, None] * offset))
    canvas = _shear_rows(xp, canvas, -tangent[:, None] * offset)
    out[...] = xp.astype(xp.round(canvas[inner]), xp.uint8)


def cutout(xp: Namespace, images: Array, top: Array, left: Array, size: Array, out: Array) -> None:
    """Zero in the square of rows top to top + size and columns left to left + size, clipped; int64 (n,) each."""
    rows, columns = _grid(xp, images)
    top, left, size = top[:, None, None], left[:, None, None], size[:, None, None]
    hole = (rows >= top) & (rows < top + size) & (columns >= left) & (columns < left + size)
    out[...] = xp.where(hole[:, None, ...], xp.zeros_like(images), images)


def contrast(xp: Namespace, images: Array, factor: Array, out: Array) -> None:
    """mean + factor * (image - mean), rounded to even and clipped; the mean is over an image's pixels and channels.

    The mean's sum is of integers, hence exact. factor float32 (n,).
    """
    pixels = images.shape[1] * images.shape[2] * images.shape[3]
    total = xp.sum(xp.astype(images, xp.int64), axis=(1, 2, 3))
    mean = (xp.astype(total, xp.float32) / pixels)[:, None, None, None]
    stretched = mean + factor[:, None, None, None] * (xp.astype(images, xp.float32) - mean)
    out[...] = xp.astype(xp.clip(xp.round(stretched), 0, 255), xp.uint8)


def hflip(xp: Namespace, images: Array, flip: Array, out: Array) -> None:
    """The mirror image, left for right, where flip bool (n,) is true."""
    out[...] = xp.where(flip[:, None, None, None], xp.flip(images, axis=3), images)


def augment(
    xp: Namespace,
    images: Array,
    kind: Array,
    dy: Array,
    dx: Array,
    padding: int,
    cosine: Array,
    sine: Array,
    top: Array,
    left: Array,
    size: Array,
    factor: Array,
    flip: Array,
    out: Array,
) -> None:
    """Each image by its kind, int64 (n,): 0 crop, 1 rotate, 2 cutout, 3 contrast and then hflip.

    The other parameters are those of these ops, (n,) each; an image's kind takes its own.
    """
    array_code = SimpleNamespace(**{op.__name__: partial(op, xp) for op in (crop, rotate, cutout, contrast, hflip)})
    parameters = ((dy, dx, padding), (cosine, sine), (top, left, size), (factor, flip))
    augment_by_kind(xp, array_code, images, kind, parameters, out)


def augment_by_kind(
    xp: Namespace, ops: Any, images: Array, kind: Array, parameters: Sequence[tuple[Any, ...]], out: Array
) -> None:
    """`augment` by the ops given, which take no namespace, kind after kind; parameters of each kind, in its order."""

    def contrast_and_hflip(images: Array, factor: Array, flip: Array, out: Array) -> None:
        stretched = xp.empty_like(images)
        ops.contrast(images, factor, stretched)
        ops.hflip(stretched, flip, out)

    parts, taken = [], []
    for number, op in enumerate((ops.crop, ops.rotate, ops.cutout, contrast_and_hflip)):
        rows = xp.nonzero(kind == number)[0]
        some = xp.take(images, rows, axis=0)
        part = xp.empty_like(some)
        own = (value if isinstance(value, int) else xp.take(value, rows, axis=0) for value in parameters[number])
        op(some, *own, part)
        parts.append(part)
        taken.append(rows)
    out[...] = xp.take(xp.concat(parts), xp.argsort(xp.concat(taken)), axis=0)


def _grid(xp: Namespace, images: Array) -> tuple[Array, Array]:
    """Row numbers int64 (1, h, 1) and column numbers int64 (1, 1, w)."""
    height, width = images.shape[2:]
    rows = xp.arange(height, dtype=xp.int64, device=images.device)
    columns = xp.arange(width, dtype=xp.int64, device=images.device)
    return rows[None, :, None], columns[None, None, :]


def _pixels(xp: Namespace, images: Array, rows: Array, columns: Array) -> Array:
    """images[:, :, rows, columns], zero outside; rows and columns broadcast to (n, h, w)."""
    n, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = xp.where(inside, rows * width + columns, xp.zeros_like(rows * width + columns))
    picked = xp.take_along_axis(
        xp.reshape(images, (n, channels, height * width)), xp.reshape(flat, (n, 1, height * width)), axis=2
    )
    picked = xp.reshape(picked, images.shape)
    return xp.where(inside[:, None, ...], picked, xp.zeros_like(picked))


def _float_pixels(xp: Namespace, images: Array, top: Array, left: Array, down: int, across: int) -> Array:
    return xp.astype(_pixels(xp, images, top + down, left + across), xp.float32)


def _quarter_turns(xp: Namespace, images: Array, quarters: Array) -> Array:
    """Each image turned counter-clockwise by its number of quarter turns."""
    turned, result = images, images
    for turns in (1, 2, 3):
        turned = xp.flip(_swap_axes(xp, turned), axis=2)
        result = xp.where((quarters == turns)[:, None, None, None], turned, result)
    return result


def _swap_axes(xp: Namespace, images: Array) -> Array:
    return xp.permute_dims(images, (0, 1, 3, 2))


def _centred(xp: Namespace, canvas: Array) -> Array:
    """Row numbers counted from the middle, float32 (1, side)."""
    side = canvas.shape[2]
    return (xp.arange(side, dtype=xp.float32, device=canvas.device) - (side - 1) / 2)[None, :]


def _shear_rows(xp: Namespace, canvas: Array, offset: Array) -> Array:
    """out[y, x] = canvas[y, x + offset[y]], linearly interpolated, zero outside; offset float32 (n, side)."""
    columns = xp.arange(canvas.shape[3], dtype=xp.int64, device=canvas.device)
    whole = xp.floor(offset)
    part = (offset - whole)[:, None, :, None]
    left = xp.astype(whole, xp.int64)[:, None, :, None] + columns[None, None, None, :]
    return _along_row(xp, canvas, left) * (1 - part) + _along_row(xp, canvas, left + 1) * part


def _along_row(xp: Namespace, canvas: Array, columns: Array) -> Array:
    inside = (columns >= 0) & (columns < canvas.shape[3])
    picked = xp.take_along_axis(canvas, xp.where(inside, columns, xp.zeros_like(columns)), axis=3)
    return xp.where(inside, picked, xp.zeros_like(picked))


OPS: dict[str, Reference] = {
    op.__name__: op for op in (crop, rotate, rotate_by_shears, cutout, contrast, hflip, augment)
}
