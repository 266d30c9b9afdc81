"""How many rows of a feature set are held at a time, where --memory does not allow for all of them."""

from __future__ import annotations

import numpy as np

from fastmlp.common.progress import say
from fastmlp.experiments.config import Config
from fastmlp.features.streamed import window_rows


def window_of(
    config: Config, rows: int, width: int, itemsize: int, part: int = 0, least: int = 0, copies: int = 1
) -> int | None:
    """The rows of a window by config.memory, as `window_rows` has them; None: all are held. Errors as for it."""
    if config.memory is None:
        return None
    itemsize = max(itemsize, np.dtype(config.dtype).itemsize)
    return window_rows(config.memory, rows, width, itemsize, config.seeds, part, least, copies)


def tell_of_windows(window: int, rows: int) -> None:
    say(f"{rows:,} rows are more than fit into --memory: trained on in windows of {window:,}.")


def named(window: int | None) -> list[str]:
    """What the sources of a feature set have of its windows."""
    return [] if window is None else [f"windows of {window} rows"]
