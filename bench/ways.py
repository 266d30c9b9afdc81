"""Images a second of a backbone in every way of computing its convolutions on a GPU, dtype by dtype."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastmlp.common.errors import BackendError
from fastmlp.extractors.ways import COMPILED, UnfitError, Way, choose

from .variants import LATE

DTYPES = ("bfloat16", "float32", "float16", "tf32")

Row = dict[str, Any]


class Trials(Protocol):
    """Those of a dtype, as `extractors.trials.Trials` has them."""

    dtype: str

    def images_per_second(self, way: Way) -> float: ...


def measure(
    trials_in: Callable[[str], Trials], tell: Callable[[Row], None], seconds: float, dtypes: Sequence[str] = DTYPES
) -> None:
    """Tell of each dtype and way its images a second, or why it is unfit, and the seconds that its trial took.

    trials_in: a dtype's. As for `--convolutions measured`, all paths are tried in the usual batch, and then the fastest
    one in others. None begins once these seconds are over.
    """
    end = time.monotonic() + seconds
    for dtype in dtypes:
        try:
            trials = trials_in(dtype)
            choose(lambda way, trials=trials: _tried(trials, way, tell, end))  # type: ignore[misc]
        except BackendError as error:  # a GPU without that dtype, or no way that is fit
            tell({"dtype": dtype, "way": "", "unfit": str(error)})


def compile_again(trials: Trials, tell: Callable[[Row], None]) -> None:
    """Tell the same of the compiled way, whose kernels another process has left in the cache."""
    _tried(trials, Way(COMPILED), lambda row: tell({**row, "way": f"{COMPILED}, in a second process"}))


def _tried(trials: Trials, way: Way, tell: Callable[[Row], None], end: float = float("inf")) -> float:
    row: Row = {"dtype": trials.dtype, "way": str(way)}
    began = time.monotonic()
    try:
        if began > end:
            raise UnfitError(LATE)
        rate = trials.images_per_second(way)
    except UnfitError as error:
        tell({**row, "unfit": str(error)})
        raise
    tell({**row, "images_per_second": round(rate), "seconds": round(time.monotonic() - began, 1)})
    return rate


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = ["| dtype | convolutions | images/s | seconds of the trial |", "| --- | --- | ---: | ---: |"]
    for row in rows:
        found = row.get("unfit") or f"{row['images_per_second']:,}"
        lines.append(f"| {row['dtype']} | {row['way']} | {found} | {row.get('seconds', '')} |")
    return "\n".join(lines)
