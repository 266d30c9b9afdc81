"""The candidates of a sweep in parts, each trained by itself, by whoever shares the folder of its rows.

A part is a few candidates of one width; their results are the same as in the training of all of them at once. What they
came to is written beside the rows, whole or not at all, in a folder whose name is keyed by all that shapes it: so what
is missing is exactly the parts that are not there.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp._version import __version__
from fastmlp.backends import AUTO, open_backend
from fastmlp.backends.base import Backend
from fastmlp.common.errors import DataError
from fastmlp.common.files import hash_array, read_json, write_array, write_json
from fastmlp.common.progress import progress, say
from fastmlp.experiments.candidates import Candidate, Head, Known, Setting, heads_of, train_group
from fastmlp.experiments.devices import spread
from fastmlp.experiments.feature_sets import Labelled, Trial, scaling_of
from fastmlp.experiments.models import Models
from fastmlp.features.streamed import StreamedRows
from fastmlp.network.scaling import Scaling
from fastmlp.training.samples import Samples
from fastmlp.training.windowed import placed

PARTS = "parts"  # the folder, in the sweep's own, while it runs
HEADS = 8  # of a part, about: what a kill may cost
KEPT, HELD_OUT = "kept", "held-out"
SECONDS_BETWEEN_BEATS = 1.0


class Part(NamedTuple):
    """Candidates that train together."""

    number: int
    heads: tuple[Head, ...]

    @property
    def name(self) -> str:
        return f"part-{self.number:05}.json"


class Trainer(Protocol):
    """What trains parts, in processes of so many threads each."""

    @property
    def threads(self) -> int: ...

    def train(self, search: Search, parts: Sequence[Part]) -> Iterator[tuple[Part, list[Known]]]:
        """Each part and what its candidates came to, as they come; it is then written."""


def train_in_parts(
    models: Models, settings: Sequence[Setting], trial: Trial, trainer: Trainer, size: int | None = None
) -> list[Known]:
    """What `train_candidates` gives, in its order. Parts that an earlier run has finished are not trained again.

    size: how many candidates a part has, about; None: so few that a kill costs little.
    """
    least = models.machine.backend.least_alike(trainer.threads)
    parts = parts_of(heads_of(models, settings), max(size or HEADS, least))
    search = Search.laid_down(models, trial, parts, trainer.threads)
    done = {part.number: search.results(part) for part in parts if (search.folder / part.name).is_file()}
    missing, total = [part for part in parts if part.number not in done], sum(len(part.heads) for part in parts)
    if done:
        say(f"Resuming: {len(done):,} of {len(parts):,} parts of the sweep are there.")
    with progress(f"sweep of {total} heads", total, "heads", sum(map(len, done.values()))) as bar:
        for part, heads in trainer.train(search, missing) if missing else ():
            done[part.number] = heads
            bar.advance(len(heads))
    return [head for part in parts for head in done[part.number]]


def forget_parts(folder: Path) -> None:
    """Those of the sweep in that folder, which needs them no more."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def parts_of(heads: Sequence[Head], size: int) -> list[Part]:
    """Parts of that many candidates or a few more; of fewer only where there are no more of their width."""
    alike = [list(group) for _, group in itertools.groupby(heads, key=lambda head: head.setting.width)]
    cuts = [np.array_split(np.arange(len(group)), max(1, len(group) // size)) for group in alike]
    groups = [[group[place] for place in cut] for group, own in zip(alike, cuts, strict=True) for cut in own]
    return [Part(number, tuple(group)) for number, group in enumerate(groups)]


# What parts have in common.


@dataclass(frozen=True, eq=False)
class Search:
    """Where and by what a sweep's candidates train; two searches are equal if their folders are, keyed by all of them.

    backend: as `open_backend` takes it; named: what it is then called.
    """

    folder: Path
    backend: str
    named: str
    dtype: str
    scaling: Scaling | None
    kept: LaidRows
    held_out: LaidRows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Search) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    @classmethod
    def laid_down(cls, models: Models, trial: Trial, parts: Sequence[Part], threads: int) -> Search:
        """With the rows in files; folders of other searches are removed."""
        config, backend = models.config, models.machine.backend
        features, kept = next(iter(models.feature_sets.values())), trial.kept
        scaling = scaling_of(features, trial.parts[0].features, config.recipe)
        ways = [part.heads[0].blueprint.way_on(backend) for part in parts]
        shaped = (__version__, str(backend), threads, config.dtype, parts, ways)
        key = _digest(repr(shaped), _content(kept), _content(trial.held_out), _content_of_scaling(scaling))
        folder = (config.folder / PARTS).absolute() / key
        if not folder.is_dir():
            forget_parts(config.folder)
        folder.mkdir(parents=True, exist_ok=True)
        rows = (LaidRows.of(kept, folder / KEPT), LaidRows.of(trial.held_out, folder / HELD_OUT))
        opened_as = backend.name if config.backend == AUTO else config.backend
        return cls(folder, opened_as, str(backend), config.dtype, scaling, *rows)

    def results(self, part: Part) -> list[Known]:
        """Of a part that is there. Raises DataError for a damaged file."""
        path = self.folder / part.name
        try:
            return [Known(Setting(*setting), figures, tier) for setting, figures, tier in read_json(path)]
        except (TypeError, ValueError):
            raise DataError(f"{path} is damaged: delete it, and run the same command again.") from None

    def beats(self) -> int:
        """A number that grows while somebody trains."""
        return sum(path.stat().st_size for path in self.folder.glob("*.beats"))


@dataclass(frozen=True)
class LaidRows:
    """Rows whose labels lie in files that begin with that path, as their features do unless they are streamed."""

    path: Path
    streamed: StreamedRows | None

    @classmethod
    def of(cls, rows: Labelled, path: Path) -> LaidRows:
        features, labels = rows
        streamed = _found_anywhere(features) if isinstance(features, StreamedRows) else None
        laid = cls(path, streamed and replace(streamed, rows=None))
        for name, array in (("labels", labels), ("rows", features if streamed is None else streamed.rows)):
            if not laid._file(name).is_file():
                write_array(laid._file(name), array)
        return laid

    def open(self) -> Labelled:
        labels, rows = (np.load(self._file(name), mmap_mode="r") for name in ("labels", "rows"))
        return Labelled(rows if self.streamed is None else replace(self.streamed, rows=rows), labels)

    def _file(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}-{name}.npy")


def _found_anywhere(rows: StreamedRows) -> StreamedRows:
    """The same for processes in other folders."""
    return replace(rows, source=rows.source.absolute(), rows=np.arange(len(rows)) if rows.rows is None else rows.rows)


def _content(rows: Labelled) -> str:
    """A hash of all there is in the rows."""
    features, labels = rows
    if isinstance(features, StreamedRows):
        streamed = repr((features.source.names, features.window_rows, features.seed))
        return _digest(streamed, *(_array_digest(array) for array in (features.rows, labels) if array is not None))
    return _digest(_array_digest(features), _array_digest(labels))


def _content_of_scaling(scaling: Scaling | None) -> str:
    return "" if scaling is None else _digest(*map(_array_digest, (scaling.mean, scaling.scale)), str(scaling.unit))


def _array_digest(array: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    hash_array(digest, array)
    return digest.hexdigest()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


# What whoever trains a part does.


def place(search: Search, backend: Backend) -> tuple[Samples, Samples]:
    """The rows to train on and the held-out ones."""
    laid = (search.kept.open(), search.held_out.open())
    kept, held_out = (placed(backend, *rows, search.dtype, search.scaling) for rows in laid)
    return kept, held_out


def train_part(search: Search, part: Part, kept: Samples, held_out: Samples, backend: Backend) -> list[Known]:
    """Train a part's candidates, and write what they came to."""
    group = [Candidate.new(head, backend) for head in part.heads]
    train_group(group, kept, held_out, _heart((search.folder / part.name).with_suffix(".beats")))
    known = [Known.of(candidate) for candidate in group]
    write_json(search.folder / part.name, known)
    return known


def _heart(path: Path) -> Callable[[], None]:
    """What lets a file grow when it is called, though not too often."""
    last = [-SECONDS_BETWEEN_BEATS]

    def beat() -> None:
        now = time.monotonic()
        if now - last[0] >= SECONDS_BETWEEN_BEATS:
            last[0] = now
            with path.open("ab") as file:
                file.write(b".")

    return beat


# Several devices of this machine.


@dataclass(frozen=True)
class OnDevices:
    """What trains parts, on the devices of backends with these names; each works with so many CPU threads."""

    names: Sequence[str]
    threads: int

    def train(self, search: Search, parts: Sequence[Part]) -> Iterator[tuple[Part, list[Known]]]:
        """Each part and what its candidates came to, as they come; no other begins where one fails."""

        def prepare(device: str) -> tuple[Samples, Samples, Backend]:
            backend = open_backend(device, self.threads)
            return *place(search, backend), backend

        return spread(self.names, prepare, parts, lambda placed, part: train_part(search, part, *placed))
