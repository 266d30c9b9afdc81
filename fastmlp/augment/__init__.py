"""The paper's four augmentations of uint8 images (n, 3, h, w), their parameters drawn on the host apart from their use.

crop, rotate, cutout, contrast and hflip return a new array beside the images; every parameter is one number an image.
`draw` chooses one of the four for every image, `apply` carries the choice out. The array code is in
`fastmlp.augment.ops`; give `backend` to run the backend's kernels instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.augment.ops import OPS, augment_by_kind
from fastmlp.backends.base import Array, Backend, Ops
from fastmlp.common.errors import UsageError
from fastmlp.datasets.images import layout_fix

CHUNK = 1000  # images a call of array code: enough to fill a device, little enough for its memory
BYTES_AT_ONCE = 2**28  # of images a call of a kernel
KINDS = ("crop", "rotation", "cutout", "contrast + flip")
ROTATION_METHODS = ("bilinear", "shear")


def crop(images: Array, dy: ArrayLike, dx: ArrayLike, padding: int = 4, *, backend: Backend | None = None) -> Array:
    """The window at (dy, dx) of each image padded by zeros, of the image's own size; integers in 0..2 * padding."""
    if not isinstance(padding, int | np.integer) or padding < 0:
        raise UsageError(f"padding must be a whole number of pixels, 0 or more, not {padding!r}.")
    window = [_integers(name, value, images, 0, 2 * padding) for name, value in (("dy", dy), ("dx", dx))]
    return _run("crop", images, backend, *window, int(padding))


def rotate(images: Array, degrees: ArrayLike, *, method: str = "bilinear", backend: Backend | None = None) -> Array:
    """Each image turned about its centre, counter-clockwise for positive degrees, zero outside.

    method="bilinear" equals torchvision's rotate(InterpolationMode.BILINEAR) to one level; method="shear" does it by
    three shears (Paeth 1986), as the reference the paper cites, and needs square images.
    """
    angles = _numbers("degrees", degrees, images)
    if method == "bilinear":
        radians = np.deg2rad(angles)
        return _run("rotate", images, backend, np.cos(radians).astype("f4"), np.sin(radians).astype("f4"))
    if method != "shear":
        raise UsageError(f"Rotation method must be one of {', '.join(ROTATION_METHODS)}, not {method!r}.")
    if images.shape[2] != images.shape[3]:
        raise UsageError(f"Rotation by shears needs square images, not {images.shape[2]} x {images.shape[3]}.")
    quarters = np.rint(angles / 90)
    rest = np.deg2rad(angles - 90 * quarters)
    turns = (quarters.astype(np.int64)) % 4
    return _run("rotate_by_shears", images, backend, turns, np.tan(rest / 2).astype("f4"), np.sin(rest).astype("f4"))


def cutout(images: Array, top: ArrayLike, left: ArrayLike, size: ArrayLike, *, backend: Backend | None = None) -> Array:
    """A square of zeros in each image: rows top to top + size, columns left to left + size, clipped to the image."""
    square = [_integers(name, value, images) for name, value in (("top", top), ("left", left), ("size", size))]
    return _run("cutout", images, backend, *square)


def contrast(images: Array, factor: ArrayLike, *, backend: Backend | None = None) -> Array:
    """mean + factor * (image - mean), the mean over the image's pixels and channels, rounded and clipped."""
    return _run("contrast", images, backend, _numbers("factor", factor, images).astype("f4"))


def hflip(images: Array, flip: ArrayLike, *, backend: Backend | None = None) -> Array:
    """The mirror image, left for right, of each image whose flip is true."""
    _check_images(images)
    return _run("hflip", images, backend, _per_image("flip", np.asarray(flip, dtype=bool), images))


# One of the four for every image.


@dataclass(frozen=True)
class Policy:
    """The ranges that augmentation parameters are drawn from; this is their one place."""

    crop_padding: int = 4  # pixels
    rotation_degrees: float = 15.0  # uniform between minus and plus
    cutout_size: int = 8  # pixels
    contrast_lowest: float = 0.5
    contrast_highest: float = 1.5
    flip_probability: float = 0.5  # zero where a mirrored image would be of another class

    def __post_init__(self) -> None:
        ranges = (self.crop_padding, self.rotation_degrees, self.cutout_size, self.contrast_lowest)
        if min(ranges) < 0 or self.contrast_highest < self.contrast_lowest or not 0 <= self.flip_probability <= 1:
            raise UsageError(
                f"No augmentation can be drawn from {self.as_dict()}: give no negative ranges, the lower contrast "
                "first, and a probability from 0 to 1."
            )

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What happens to each of n images: which augmentation (an index of KINDS), and every parameter (n,)."""

    kind: NDArray[np.int64]
    dy: NDArray[np.int64]
    dx: NDArray[np.int64]
    degrees: NDArray[np.float64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    factor: NDArray[np.float64]
    flip: NDArray[np.bool_]
    policy: Policy

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Plan:
        arrays = {field.name: getattr(self, field.name)[index] for field in fields(self) if field.name != "policy"}
        return Plan(**arrays, policy=self.policy)


def draw(rng: np.random.Generator, n: int, policy: Policy | None = None, height: int = 32, width: int = 32) -> Plan:
    """One of the four augmentations for each of n images, uniformly, and its parameters from the policy's ranges."""
    policy = policy or Policy()
    size = policy.cutout_size
    return Plan(
        kind=rng.integers(0, len(KINDS), n),
        dy=rng.integers(0, 2 * policy.crop_padding, n, endpoint=True),
        dx=rng.integers(0, 2 * policy.crop_padding, n, endpoint=True),
        degrees=rng.uniform(-policy.rotation_degrees, policy.rotation_degrees, n),
        top=rng.integers(0, max(height - size, 0), n, endpoint=True),
        left=rng.integers(0, max(width - size, 0), n, endpoint=True),
        factor=rng.uniform(policy.contrast_lowest, policy.contrast_highest, n),
        flip=rng.random(n) < policy.flip_probability,
        policy=policy,
    )


def apply(backend: Backend, images: Array, plan: Plan) -> Array:
    """The augmented images, on the host if that is where they are, else beside them on the backend's device.

    Raises UsageError unless images and plan have the same length.
    """
    _check_images(images)
    if len(plan) != images.shape[0]:
        raise UsageError(f"The plan is for {len(plan)} images, not {images.shape[0]}: draw one for each.")
    if not isinstance(images, np.ndarray):
        return _apply(backend, images, plan)
    rows = _rows_at_once(backend, images)
    parts = [
        backend.to_numpy(_apply(backend, backend.asarray(images[chunk]), plan[chunk]))
        for chunk in (slice(start, start + rows) for start in range(0, max(len(images), 1), rows))
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _rows_at_once(backend: Backend, images: NDArray[np.uint8]) -> int:
    """A kernel needs memory for images and results alone, array code for much in between."""
    if "augment" in backend.kernels:
        return max(1, BYTES_AT_ONCE // max(1, images[:1].nbytes))
    return CHUNK


def _apply(backend: Backend, images: Array, plan: Plan) -> Array:
    """The images, on the device: all in one call where the backend has a kernel for that, else kind by kind."""
    kind = backend.asarray(_integers("kind", plan.kind, images, 0, len(KINDS) - 1))
    parameters = [tuple(_placed(backend, own)) for own in _by_kind(images, plan)]
    ops, out = Ops(OPS, backend), backend.xp.empty_like(images)
    if "augment" in backend.kernels:
        ops.augment(images, kind, *chain(*parameters), out)
    else:
        augment_by_kind(backend.xp, ops, images, kind, parameters, out)
    return out


def _by_kind(images: Array, plan: Plan) -> tuple[tuple[Any, ...], ...]:
    """The parameters that the ops of each kind take, on the host, in their order."""
    padding = plan.policy.crop_padding
    radians = np.deg2rad(_numbers("degrees", plan.degrees, images))
    return (
        (*(_integers(name, getattr(plan, name), images, 0, 2 * padding) for name in ("dy", "dx")), padding),
        (np.cos(radians).astype("f4"), np.sin(radians).astype("f4")),
        tuple(
            _integers(name, value, images)
            for name, value in (("top", plan.top), ("left", plan.left), ("size", plan.policy.cutout_size))
        ),
        (_numbers("factor", plan.factor, images).astype("f4"), _per_image("flip", plan.flip, images)),
    )


# Checks, and the way to the ops.


def _run(op: str, images: Array, backend: Backend | None, *parameters: Any) -> Array:
    """Place the parameters (n,) beside the images and run the op into a new array."""
    if backend is None:
        xp = array_api_compat.array_namespace(images)
        device = array_api_compat.device(images)
        placed = [xp.asarray(p, device=device) if isinstance(p, np.ndarray) else p for p in parameters]
        out = xp.empty_like(images)
        OPS[op](xp, images, *placed, out)
        return out
    out = backend.xp.empty_like(images)
    getattr(Ops(OPS, backend), op)(images, *_placed(backend, parameters), out)
    return out


def _placed(backend: Backend, parameters: Iterable[Any]) -> Iterator[Any]:
    return (backend.asarray(p) if isinstance(p, np.ndarray) else p for p in parameters)


def _check_images(images: Array) -> None:
    dtype = str(getattr(images, "dtype", type(images).__name__)).rpartition(".")[2]  # PyTorch says torch.uint8
    if dtype != "uint8" or images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(getattr(images, "shape", ()))
        found = f"{dtype} {shape}"
        mend = "round and clip them to 0 .. 255" if shape[1:2] == (3,) and len(shape) == 4 else layout_fix(shape)
        mend = mend if shape else "make them one array"
        raise UsageError(f"Images must be a uint8 array (n, 3, height, width), not {found}: {mend}.")


def _integers(
    name: str, value: ArrayLike, images: Array, low: int | None = None, high: int | None = None
) -> NDArray[np.int64]:
    _check_images(images)
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise UsageError(f"{name} must be whole numbers, not {array.dtype}.")
    if low is not None and high is not None and array.size and (array.min() < low or array.max() > high):
        raise UsageError(f"{name} must lie in {low}..{high}, but {array.min()}..{array.max()} was given.")
    return _per_image(name, array.astype(np.int64), images)


def _numbers(name: str, value: ArrayLike, images: Array) -> NDArray[np.float64]:
    _check_images(images)
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"{name} must be finite numbers: remove NaN and infinity.")
    return _per_image(name, array, images)


def _per_image(name: str, array: NDArray[Any], images: Array) -> NDArray[Any]:
    if array.ndim > 1 or array.shape not in ((), (images.shape[0],)):
        raise UsageError(f"{name} must be one number, or one an image ({images.shape[0]}), not of shape {array.shape}.")
    return np.broadcast_to(array, (images.shape[0],)).copy()  # PyTorch warns of the read-only view
