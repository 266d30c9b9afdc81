"""The kinds of augmentation, a module each: a new one is found by being here.

The paper's come first, in its order, and then all others by their words: so images drawn by a policy do not depend on
which kinds there are besides its own, nor on the order in which it names them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from fastmlp.augment.kind import Kind

PAPER = ("crop", "rotation", "cutout", "contrast")


def place(kind: type[Kind]) -> tuple[int, str]:
    """What kinds are sorted by."""
    return (PAPER.index(kind.word) if kind.word in PAPER else len(PAPER), kind.word)


def _discovered() -> Iterator[type[Kind]]:
    for module in iter_modules(__path__):
        yield import_module(f"{__name__}.{module.name}").KIND


KINDS = {kind.word: kind for kind in sorted(_discovered(), key=place)}
