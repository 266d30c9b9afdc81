"""`fastmlp` that draws no figure and learns patches fast, which is what takes most of a small run's time.

python tests/faults/quick.py reproduce ...
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import matplotlib.figure

from fastmlp.extractors import patches

COMMAND = [sys.executable, __file__]
LEARNED_FROM = 20_000  # patches, which takes long enough for a process to be killed meanwhile


def picture(_: object, target: Any, *, format: str, **__: object) -> None:
    """Stands for drawing a figure: the same writes."""
    content = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>' if format == "svg" else b"PNG"
    target.write(content.decode() if isinstance(target, io.StringIO) else content)


def quicken(set_attribute: Callable[[Any, str, Any], None], patches_learned_from: int) -> None:
    set_attribute(matplotlib.figure.Figure, "savefig", picture)
    set_attribute(patches, "SAMPLE_PATCHES", patches_learned_from)
    set_attribute(patches, "ROUNDS", 2)


if __name__ == "__main__":
    from fastmlp.cli.main import main

    quicken(setattr, LEARNED_FROM)
    sys.exit(main(sys.argv[1:]))
