"""The bugs that prove the public check: textual edits of the kernels and of the code around them, in `planted/`.

A table of edits and no tool for mutation testing, since those know neither what Numba compiles nor CUDA sources; and
because a bug chosen by a person who knows the code is harder to find than a swapped operator.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "planted"
KINDS = {
    "structure": "the size, the place or the neighbour of a number: tails, chunks, remainders, oblong arrays",
    "NaN and ties": "NaN that is lost or gives a hit, equal logits",
    "magnitude": "digits lost: an order of operations, a narrow type, a small constant",
    "rounding": "halves, clipping, borders of images",
    "width": "labels, classes and places that outgrow a narrow integer",
    "layout": "arrays with gaps, misaligned, aliased, holding old numbers, without room",
    "paths": "code that only some networks, devices, threads or optimizers reach",
    "visibility": "a barrier, fence or flag left out",
    "state": "what a later step, epoch or dataset finds of an earlier one",
    "formula": "a wrong factor, sign or operand",
}


@dataclass(frozen=True)
class Bug:
    """One edit of a file, `old` to `new`, that a run of the public check must find.

    backend: what is checked, see `judge.open_judged`. caught_by: part of the names of the checks that should find it.
    equivalent: why it changes no result; gpu: why only a GPU shows it; either leaves it out of the score.
    """

    backend: str
    file: str
    does: str
    kind: str
    caught_by: str
    old: str
    new: str
    equivalent: str = ""
    gpu: str = ""

    @property
    def excuse(self) -> str:
        return self.equivalent or self.gpu

    def __str__(self) -> str:
        return f"{self.file}: {self.does}"

    def planted_in(self, text: str) -> str:
        """The file's text with the bug; ValueError unless the edit fits exactly one place."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self}: {text.count(self.old)} places in the file read {self.old!r}; it must be one.")
        return text.replace(self.old, self.new)


def bugs() -> list[Bug]:
    """The whole table."""
    return [bug for path in sorted(FOLDER.glob("*.toml")) for bug in _bugs_of(path)]


def _bugs_of(path: Path) -> list[Bug]:
    table = tomllib.loads(path.read_text())
    backend = table.pop("backend")
    return [Bug(backend, file, **edit) for file, edits in table.items() for edit in edits]
