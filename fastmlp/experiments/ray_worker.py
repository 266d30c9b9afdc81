"""What a worker of a Ray cluster does, call by call; Ray itself is not needed for it."""

from __future__ import annotations

import json
import socket
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastmlp._version import __version__
from fastmlp.backends import open_backend
from fastmlp.backends.base import Backend
from fastmlp.common.errors import BackendError, DataError
from fastmlp.datasets.sources import PartFile
from fastmlp.experiments import parts
from fastmlp.experiments.candidates import Known
from fastmlp.experiments.engines import Opening
from fastmlp.extractors import Extractor
from fastmlp.features.extraction import Extraction, Shard, extract_shard
from fastmlp.features.shard_files import Entry
from fastmlp.training.samples import Samples

IMAGES, LABELS = "images.npy", "labels.npy"  # beside the shards, until they are done


class Job(NamedTuple):
    """What all shards of a store have in common; provenance: of the extractor, as JSON."""

    opening: Opening
    provenance: str
    folder: Path


class Worker:
    """A process that extracts or trains.

    It keeps one job's images, memory-mapped, and the extractor it last used, or the rows of the sweep it last trained.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._opened = lru_cache(1)(self._open)
        self._prepared = lru_cache(1)(self._prepare)
        self._placed = lru_cache(1)(self._place)

    def begin(self, version: str) -> str:
        """The machine's name. Raises BackendError if it has another fastmlp than the driver's, of that version."""
        if version != __version__:
            raise BackendError(
                f"{socket.gethostname()} has fastmlp {__version__}, not {version}: install the same on all machines."
            )
        return socket.gethostname()

    def read(self, part: PartFile, max_pixels: int) -> str:
        """As `PartFile.write`; the file's name. Raises DataError if what the driver has seen is not here."""
        for path in (part.path.parent, *part.source.needed):
            if isinstance(path, Path) and not (path.exists() or path.is_symlink()):
                raise _unseen(path)
        part.write(max_pixels, self.threads)
        return part.path.name

    def extract(self, job: Job, shard: Shard) -> Entry:
        """As `extract_shard`. Raises DataError if the store is not here, BackendError for another extractor."""
        return extract_shard(self._prepared(job), shard)

    def train(self, search: parts.Search, part: parts.Part) -> list[Known]:
        """As `train_part`. Raises DataError if the sweep's folder is not here, BackendError for another backend."""
        kept, held_out, backend = self._placed(search)
        return parts.train_part(search, part, kept, held_out, backend)

    def _place(self, search: parts.Search) -> tuple[Samples, Samples, Backend]:
        if not search.folder.is_dir():
            raise _unseen(search.folder)
        backend = open_backend(search.backend, self.threads)
        if str(backend) != search.named:
            raise BackendError(
                f"{socket.gethostname()} would train on {backend}, not {search.named}: make all machines alike."
            )
        return *parts.place(search, backend), backend

    def _prepare(self, job: Job) -> Extraction:
        if not job.folder.is_dir():
            raise _unseen(job.folder)
        extractor = self._opened(job.opening)
        found = json.dumps(extractor.provenance(), sort_keys=True)
        if found != job.provenance:
            raise BackendError(
                f"{socket.gethostname()} would extract by {found}, not {job.provenance}: make all machines alike."
            )
        images, labels = (np.load(job.folder / name, mmap_mode="r") for name in (IMAGES, LABELS))
        return Extraction(images, labels, extractor, job.folder)

    def _open(self, opening: Opening) -> Extractor:
        return opening.open(self.threads)


def _unseen(path: Path) -> DataError:
    return DataError(
        f"{socket.gethostname()} does not see {path}: images, weights, features, FASTMLP_CACHE_DIR and --out must "
        "lie on storage that all machines of the cluster share."
    )
