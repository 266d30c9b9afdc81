"""Runs ops on images: a backend's kernel where there is one, else array code, kind by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial, wraps
from itertools import islice
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.checks import check_images, integers
from fastmlp.augment.kind import Kind, Op
from fastmlp.augment.policy import Plan
from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import UsageError

CHUNK = 1000  # images per call of array code: enough to fill a device, little enough for its memory
BYTES_AT_ONCE = 2**28  # of images per call of a kernel


def run(op: Op, images: Array, arguments: Sequence[NDArray[Any]], backend: Backend | None = None) -> Array:
    """A new array beside the images; arguments (n,) are on the host."""
    if backend is None:
        xp, device = array_api_compat.array_namespace(images), array_api_compat.device(images)
        out = xp.empty_like(images)
        op(xp, images, *(xp.asarray(argument, device=device) for argument in arguments), out)
        return out
    out = backend.xp.empty_like(images)
    placed = [backend.asarray(argument) for argument in arguments]
    if (kernel := backend.image_kernels.get(op.__name__)) is None:
        op(backend.xp, images, *placed, out)
    else:
        kernel(images, backend.asarray(np.arange(images.shape[0])), *placed, out)
    return out


def apply(backend: Backend, images: Array, plan: Plan) -> Array:
    """The augmented images, on the host if that is where they are, else beside them on the backend's device.

    Raises UsageError unless images and plan have the same length.
    """
    check_images(images)
    if len(plan) != images.shape[0]:
        raise UsageError(f"The plan is for {len(plan)} images, not {images.shape[0]}: draw one for each.")
    integers("kind", plan.kind, len(plan), 0, len(plan.policy.kinds) - 1)
    if not isinstance(images, np.ndarray):
        return _apply(backend, images, plan)
    rows = _rows_at_once(backend, images, plan)
    parts = [
        backend.to_numpy(_apply(backend, backend.asarray(images[chunk]), plan[chunk]))
        for chunk in (slice(start, start + rows) for start in range(0, max(len(images), 1), rows))
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _rows_at_once(backend: Backend, images: NDArray[np.uint8], plan: Plan) -> int:
    """A kernel needs memory for images and results alone, array code for much in between."""
    if all(kind.op.__name__ in backend.image_kernels for kind in plan.policy.kinds):
        return max(1, BYTES_AT_ONCE // max(1, images[:1].nbytes))
    return CHUNK


def _apply(backend: Backend, images: Array, plan: Plan) -> Array:
    """The images, on the device, kind by kind: each image has one, so that together they fill the result."""
    out = backend.xp.empty_like(images)
    chosen: list[tuple[Kind, int]] = []
    placed = iter(backend.place(_packed(plan, chosen)))
    for kind, count in chosen:
        run_rows = backend.image_kernels.get(kind.op.__name__) or partial(on_rows(kind.op), backend.xp)
        run_rows(images, *islice(placed, count), out)
    return out


def _packed(plan: Plan, chosen: list[tuple[Kind, int]]) -> Iterator[NDArray[Any]]:
    """For every kind that happens to some images their rows, then its arguments for them; tells how many these are."""
    for number, kind in enumerate(plan.policy.kinds):
        rows = np.flatnonzero(plan.kind == number)
        if rows.size:
            own = plan.parameters[kind.word].items()
            parameters = {name: values if rows.size == len(plan) else values[rows] for name, values in own}
            arguments = kind.arguments(rows.size, parameters)
            chosen.append((kind, 1 + len(arguments)))
            yield from (rows, *arguments)


def on_rows(op: Op) -> Callable[..., None]:
    """The op's array code for some of the images, with the arguments of a kernel: out[rows] = op(images[rows]).

    It takes (xp, images, rows, *arguments, out): rows int64 (m,), no two alike; arguments (m,), each for its row.
    """

    @wraps(op)
    def op_on_rows(xp: Any, images: Array, rows: Array, *arguments_and_out: Array) -> None:
        *arguments, out = arguments_and_out
        some = xp.take(images, rows, axis=0)
        changed = xp.empty_like(some)
        op(xp, some, *arguments, changed)
        _put(xp, changed, rows, out)

    return op_on_rows


def _put(xp: Any, values: Array, rows: Array, out: Array) -> None:
    """out[rows] = values, which the array API standard does not have.

    Behind the values lies what out holds now. Sorted by the rows where they belong, those of the values first, the
    first of each row is what stays.
    """
    if out.shape[0] == 0:  # there is no first row
        return
    places = xp.concat([rows, xp.arange(out.shape[0], dtype=rows.dtype, device=out.device)])
    order = xp.argsort(places, stable=True)
    places = xp.take(places, order)
    first = xp.concat([xp.ones_like(places[:1], dtype=xp.bool), places[1:] != places[:-1]])
    out[...] = xp.take(xp.concat([values, out]), order[first], axis=0)
