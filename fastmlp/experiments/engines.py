"""Where images are read and features extracted: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from fastmlp.backends import AUTO, Backend, open_backend
from fastmlp.datasets.sources import PartFile, read_here
from fastmlp.experiments.config import Config
from fastmlp.experiments.machine import Machine
from fastmlp.extractors import Extractor, open_extractor
from fastmlp.extractors.ways import PLAIN
from fastmlp.features.extraction import Extraction, Here, Shard
from fastmlp.features.shard_files import Entry


class Opening(NamedTuple):
    """How an extractor is opened, here or elsewhere."""

    name: str
    weights: Path | None
    image_size: int | None
    dtype: str
    convolutions: str
    backend: str

    @classmethod
    def of(cls, config: Config, machine: Machine, weights: Path | None) -> Opening:
        backend = machine.backend.name if config.backend == AUTO else config.backend
        weights = weights and weights.absolute()  # others may be in another folder
        return cls(config.extractor, weights, config.image_size, config.extractor_dtype, config.convolutions, backend)

    def on(self, backend: Backend) -> Extractor:
        """Errors as for `open_extractor`."""
        return open_extractor(
            self.name,
            backend,
            weights=self.weights,
            image_size=self.image_size,
            dtype=self.dtype,
            convolutions=self.convolutions,
        )

    def of_opened(self, extractor: Extractor) -> Opening:
        """The same, with the way of convolutions that was measured: others are not to measure again."""
        return self._replace(convolutions=extractor.provenance().get("convolutions", PLAIN))

    def open(self, threads: int) -> Extractor:
        """The same in another process."""
        return self.on(open_backend(self.backend, threads))


class Engine(Protocol):
    """What reads images and extracts shards; results are the same by any, whatever the order of its work."""

    def read(self, parts: Sequence[PartFile], max_pixels: int) -> Iterator[int]:
        """As `datasets.sources.Reader`."""

    def extract(
        self, opening: Opening, extraction: Extraction, shards: Iterable[Shard], advance: Callable[[int], None]
    ) -> Iterator[Entry]:
        """As `features.extraction.Engine`, with an extractor that is opened like the extraction's own."""


class Local:
    """This process."""

    def read(self, parts: Sequence[PartFile], max_pixels: int) -> Iterator[int]:
        return read_here(parts, max_pixels)

    def extract(
        self, opening: Opening, extraction: Extraction, shards: Iterable[Shard], advance: Callable[[int], None]
    ) -> Iterator[Entry]:
        return Here().extract(extraction, shards, advance)


@dataclass(frozen=True)
class Opened:
    """An engine as feature stores take it, for the extractor of that opening."""

    engine: Engine
    opening: Opening

    def extract(
        self, extraction: Extraction, shards: Iterable[Shard], advance: Callable[[int], None]
    ) -> Iterator[Entry]:
        return self.engine.extract(self.opening, extraction, shards, advance)
