"""What lives on a GPU is let go in order, and before the interpreter ends.

Left to the interpreter, objects go in any order, some when the driver has closed: pinned memory that a stream was still
to copy from then ends the process by an abort, after all results are written.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress

Step = Callable[[], object]


def release_with(owner: object, *steps: Step) -> Callable[[], None]:
    """Take the steps in order once the owner is gone, or before the interpreter ends if it is still there then.

    Steps must not refer to the owner. One that fails does not keep the next ones from being taken: on a device that has
    failed there is nothing to be done. Returns what takes them at once; they are taken one time only.
    """
    return weakref.finalize(owner, _take, steps)


def _take(steps: tuple[Step, ...]) -> None:
    for step in steps:
        with suppress(Exception):
            step()
