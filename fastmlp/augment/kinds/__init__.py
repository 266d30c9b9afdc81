"""The kinds of augmentation, a module each: a new one is found by being here.

The paper's come first, in its order, and then all others by their words: so images drawn by a policy do not depend on
which kinds there are besides its own, nor on the order in which it names them.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from fastmlp.augment.kind import Kind

PAPER = ("crop", "rotation", "cutout", "contrast")


def _discovered() -> dict[str, type[Kind]]:
    kinds: list[type[Kind]] = [import_module(f"{__name__}.{module.name}").KIND for module in iter_modules(__path__)]
    by_word = {kind.word: kind for kind in kinds}
    return {word: by_word[word] for word in (*PAPER, *sorted(by_word.keys() - set(PAPER)))}


KINDS = _discovered()
