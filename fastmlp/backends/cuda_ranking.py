"""Which way of training a network was measured to be fastest on a GPU: kept in the cache, for all later processes.

Ways differ in the last bits of what they compute, and timings from day to day. So nothing is measured in passing:
`fastmlp backends --measure` is what writes a ranking, and until it has, a fixed order of ways chooses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fastmlp._version import __version__
from fastmlp.common.errors import DataError
from fastmlp.common.files import cache_dir, locked, read_json, write_json
from fastmlp.kernels import EpochKind
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.sources import digest

COUNTS = (1, 2, 8, 16, 32, 64, 132)  # of networks together: each stands for all numbers up to the next one
DIGITS = 12  # of a hash, in a file's name

Found = dict[str, Any]  # of a way ("way"): its time in us a step and network ("us"), or what is wrong with it ("wrong")


class Ranking:
    """The ways of a device, network by network, fastest first, as this version's kernels were measured on its driver,
    compiled by one version of NVRTC.

    Its file is read once. Safe to share between threads, but for `keep`.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    @cached_property
    def path(self) -> Path:
        name = re.sub(r"\W+", "-", self._device.name.lower())
        identity = hashlib.sha256(repr(sorted(self._about.items())).encode()).hexdigest()
        return cache_dir() / "rankings" / f"{name}-{identity[:DIGITS]}.json"

    @cached_property
    def _about(self) -> dict[str, str]:
        """What a measurement holds for, and nothing else."""
        device = self._device
        built = {"compiler": device.compiler, "fastmlp": __version__, "kernels": digest()}
        return {"gpu": device.name, "driver": device.driver, **built}

    def fastest(self, kind: EpochKind) -> str:
        """The name of the fastest way for networks of that kind; empty if none was measured.

        Raises DataError for a damaged file.
        """
        try:
            found = self._of_networks.get(_name(kind), [])
            return next((str(one["way"]) for one in found if one.get("us")), "")
        except (LookupError, TypeError, AttributeError) as error:
            raise self._damaged(error) from None

    def keep(self, kind: EpochKind, found: Sequence[Found]) -> list[Found]:
        """Write what was found of each way, in place of what was before, and return it, the fastest first."""
        in_order = sorted(found, key=lambda one: one.get("us", float("inf")))
        with locked(self.path.with_suffix(".lock"), f"writing {self.path}"):
            kept = self._read() if self.path.is_file() else {}
            self._of_networks = {**kept, _name(kind): in_order}
            write_json(self.path, {**self._about, "networks": self._of_networks})
        return in_order

    @cached_property
    def _of_networks(self) -> dict[str, list[Found]]:
        return self._read() if cache_dir().is_dir() and self.path.is_file() else {}

    def _read(self) -> dict[str, list[Found]]:
        try:
            return dict(read_json(self.path)["networks"])
        except (LookupError, TypeError, ValueError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is damaged ({error}): delete it, and measure again if you like.")


def _name(kind: EpochKind) -> str:
    """What a measurement tells apart: rows that are weighted, and labels that are smoothed, cost next to nothing."""
    together = max(count for count in COUNTS if count <= max(kind.networks, 1))
    sizes = "-".join(map(str, kind.sizes))
    return f"{sizes} {kind.dtype}, batches of {kind.batch_size}, {kind.optimizer.name}, {together} together"
