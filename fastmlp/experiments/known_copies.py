"""Augmented copies that an earlier run has made: their content is told without augmenting all images once more.

Feature stores are named by the content of the images. Where the store of a copy is there, its images are not needed,
but for their name.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from fastmlp._version import __version__
from fastmlp.augment import Policy
from fastmlp.backends import Backend
from fastmlp.common.environment import processor
from fastmlp.common.errors import DataError
from fastmlp.common.files import cache_dir, read_json, write_json

SOURCES = ("augment", "backends", "kernels", "common")
CHANGES = "memory"  # what a probe tells that is another at each time


class KnownCopies:
    """The content hash of each augmented copy, in a file of the cache that is named by all that shapes the copy.

    originals: the content hash of the images that are augmented. The images of two backends may differ by a level
    where rounding ties, so the files are the backend's own, of its versions, its code and the machine's processor.
    """

    def __init__(self, originals: str, policy: Policy, seed: int, backend: Backend) -> None:
        engine = _engine(backend)
        shaped = (__version__, np.__version__, originals, policy.as_dict(), seed, engine)
        self._digest = hashlib.sha256(repr(shaped).encode()) if engine else None
        if self._digest is not None:
            _add_sources(self._digest)

    def content(self, number: int) -> str | None:
        """What `keep` was told; None if no run has told, or the file is damaged."""
        path = self._path(number)
        try:
            found = read_json(path)["content"] if path else None
        except (DataError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def keep(self, number: int, content: str) -> None:
        path = self._path(number)
        if path is not None and content != self.content(number):
            with suppress(OSError):  # features say it better, if they cannot be written either
                write_json(path, {"content": content})

    def _path(self, number: int) -> Path | None:
        if self._digest is None:
            return None
        digest = self._digest.copy()
        digest.update(str(number).encode())
        return cache_dir() / "copies" / f"{digest.hexdigest()[:16]}.json"


def _engine(backend: Backend) -> dict[str, str]:
    """What augments: versions, processor or GPU; empty where not all is known that shapes the result."""
    if not type(backend).__module__.startswith("fastmlp."):
        return {}
    number = backend.device.partition(":")[2]
    found = backend.probe_device(number) if number else backend.probe()
    told = {name: text for name, text in found.details.items() if name != CHANGES}
    if backend.device == "cpu":
        return {"backend": backend.name, "processor": processor(), **told}
    return {"backend": backend.name, **told} if "gpu" in told else {}


def _add_sources(digest: hashlib._Hash) -> None:
    root = Path(__file__).parents[1]
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh"):
                digest.update(path.read_bytes())
