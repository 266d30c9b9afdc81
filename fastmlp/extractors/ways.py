"""In which way a GPU computes a backbone's convolutions, how many images at once, and the choice by measurement.

Ways differ in the last bits of features, and a measurement in what it finds from one time to the next. So the way is a
part of the features' provenance, none is measured unless asked for, and what was found is kept beside the features:
whoever resumes an extraction, or reads the same folder on another machine, takes the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fastmlp.common.errors import BackendError, DataError, FastMLPError, UsageError
from fastmlp.common.files import cache_dir, locked, read_json, write_json

PLAIN, CUDNN, COMPILED = "plain", "cudnn", "compiled"
PATHS = (PLAIN, CUDNN, COMPILED)  # of those that are equally fast the first is taken; so with the batches
MEASURED = "measured"
BATCH = 256
BATCHES = (BATCH, 64, 128, 512, 1024)
MARGIN = 0.02  # of the time: a smaller difference between two ways is noise


class Way(NamedTuple):
    """How whole batches are computed, op by op (plain), with cuDNN's fused convolutions or compiled, and their size."""

    path: str = PLAIN
    batch: int = BATCH

    def __str__(self) -> str:
        return self.path if self.batch == BATCH else f"{self.path}:{self.batch}"

    @classmethod
    def parse(cls, text: str) -> Way:
        """`cudnn`, or `cudnn:512` for batches of 512 images. Raises UsageError for any other text."""
        path, colon, batch = text.partition(":")
        known = path in PATHS and (not colon or (batch.isascii() and batch.isdigit() and int(batch) > 0))
        if not known:
            raise UsageError(
                f"--convolutions must be {', '.join(PATHS)}, one of them with its batch, such as {CUDNN}:512, or "
                f"{MEASURED}, not {text!r}."
            )
        return cls(path, int(batch) if colon else BATCH)


class UnfitError(FastMLPError):
    """Why a way cannot be taken here."""


class Choice(NamedTuple):
    """The way that was fastest, and what each was found to be: its images a second, or why it is unfit."""

    way: Way
    found: dict[str, float | str]


def check_convolutions(text: str) -> None:
    """Raise UsageError unless that is `measured` or a way."""
    if text != MEASURED:
        Way.parse(text)


def choose(images_per_second: Callable[[Way], float]) -> Choice:
    """The fastest path in the usual batch, then that path's fastest batch; a way that is unfit raises UnfitError.

    Raises BackendError if all ways are unfit.
    """
    rates: dict[Way, float | str] = {}

    def fastest(ways: Iterable[Way]) -> Way:
        best, most = Way(), 0.0
        for way in ways:
            if way not in rates:
                rates[way] = _rate_or_reason(images_per_second, way)
            rate = rates[way]
            if isinstance(rate, float) and rate > most * (1 + MARGIN):
                best, most = way, rate
        return best

    path = fastest(Way(path) for path in PATHS).path
    way = fastest(Way(path, batch) for batch in BATCHES)
    if isinstance(rates[way], str):
        raise BackendError(f"No way of computing convolutions can be taken here ({rates[way]}): use another --backend.")
    return Choice(way, {str(one): rate for one, rate in rates.items()})


def _rate_or_reason(images_per_second: Callable[[Way], float], way: Way) -> float | str:
    try:
        return images_per_second(way)
    except UnfitError as error:
        return str(error)


def measured_once(about: dict[str, Any], measure: Callable[[], Choice]) -> tuple[Choice, bool]:
    """What was chosen for that (JSON values), and whether it was before; kept under the features' cache.

    One process at a time measures. Raises DataError if what was kept is damaged.
    """
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir() / "convolutions" / f"{key}.json"
    with locked(path.with_name(f"{path.name}.lock"), "measuring convolutions"):
        known = path.is_file()
        if not known:
            choice = measure()
            write_json(path, {"about": about, "way": str(choice.way), "images_per_second": choice.found})
    kept = read_json(path)
    try:
        return Choice(Way.parse(kept["way"]), dict(kept["images_per_second"])), known
    except (KeyError, TypeError, ValueError, AttributeError, UsageError):
        raise DataError(f"{path} is damaged: delete it, and the ways are measured again.") from None
