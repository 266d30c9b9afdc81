"""Extractors that an earlier run has opened: what they are is told without the library that computes them.

PyTorch takes seconds to import, and its GPU longer; where all features are stored, neither is needed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import extractors
from fastmlp._version import __version__
from fastmlp.common.environment import version_of
from fastmlp.common.errors import DataError, FastMLPError
from fastmlp.common.files import cache_dir, read_json, sha256_of, write_json
from fastmlp.experiments.engines import Opening
from fastmlp.extractors import Extractor
from fastmlp.extractors.base import kind_of_device
from fastmlp.extractors.ways import MEASURED

LIBRARIES = ("torch", "torchvision", "timm")


def open_or_recall(opening: Opening, device: str, opened: Callable[[], Extractor]) -> Extractor:
    """The extractor; of a backbone that an earlier run has opened, with the same weights, what it wrote of it.

    device: what it computes on; opened: opens it. Whose way of convolutions depends on the GPU is opened too.
    """
    if not extractors.is_backbone(opening.name) or opening.convolutions == MEASURED:
        return opened()
    path = cache_dir() / "extractors" / f"{_key(opening, device)}.json"
    known = _Known.read(path, opening.weights, opened)
    if known is not None:
        return known
    extractor = opened()
    with suppress(OSError):  # features say it better, if they cannot be written either
        write_json(path, {"features": extractor.features, "provenance": extractor.provenance()})
    return extractor


class _Known(Extractor):
    """An extractor that is opened once features are asked for."""

    def __init__(self, features: int, provenance: dict[str, Any], path: Path, opened: Callable[[], Extractor]) -> None:
        self.name, self.features = provenance["name"], features
        self._provenance, self._path, self._open = provenance, path, opened

    @classmethod
    def read(cls, path: Path, weights: Path | None, opened: Callable[[], Extractor]) -> _Known | None:
        """What is in the file, where these weights, None for the backbone's own, are those that it tells of."""
        try:
            found = read_json(path)
            known = cls(found["features"], dict(found["provenance"]), path, opened)
            told = known._provenance["weights"]
            places = [weights] if weights else _downloaded(told)
            return known if any(told == f"sha256:{sha256_of(place)}" for place in places) else None
        except (DataError, OSError, KeyError, TypeError, ValueError):
            return None

    def provenance(self) -> dict[str, Any]:
        return dict(self._provenance)

    @cached_property
    def _opened(self) -> Extractor:
        extractor = self._open()
        if extractor.provenance() != self._provenance:
            self._path.unlink(missing_ok=True)
            raise FastMLPError(f"Extractor {self.name} is another than in an earlier run: run the same command again.")
        return extractor

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        return self._opened.batch_size

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._opened(images)

    def batches(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        return self._opened.batches(images)


def _key(opening: Opening, device: str) -> str:
    """Of all that shapes an extractor but for its weights."""
    shaped = (__version__, opening._replace(weights=None), kind_of_device(device))
    digest = hashlib.sha256(repr((*shaped, [version_of(name) for name in LIBRARIES])).encode())
    for source in sorted(Path(extractors.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _downloaded(weights: str) -> list[Path]:
    """Files in PyTorch's own download folder whose names end with the first digits of that hash."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    digits = weights.removeprefix("sha256:")[:8]
    return sorted(Path(home).expanduser().glob(f"hub/checkpoints/*-{digits}.*"))
