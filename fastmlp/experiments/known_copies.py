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


class KnownCopy:
    """The content hash of one augmented copy, in a file of the cache that is named by all that shapes the copy.

    originals: the content hash of the images that are augmented. The images of two backends may differ by a level
    where rounding ties, so the file is the backend's own, of its versions, its code and the machine's processor.
    """

    def __init__(self, originals: str, policy: Policy, seed: int, number: int, backend: Backend) -> None:
        engine = _engine(backend)
        shaped = (__version__, np.__version__, originals, policy.as_dict(), seed, number, engine)
        digest = hashlib.sha256(repr(shaped).encode())
        _add_sources(digest)
        self._path = cache_dir() / "copies" / f"{digest.hexdigest()[:16]}.json" if engine else None

    @property
    def content(self) -> str | None:
        """What `keep` was told; None if no run has told, or the file is damaged."""
        try:
            found = read_json(self._path)["content"] if self._path else None
        except (DataError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def keep(self, content: str) -> None:
        if self._path is not None and content != self.content:
            with suppress(OSError):  # features say it better, if they cannot be written either
                write_json(self._path, {"content": content})


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
