"""How many of a team's threads work: all of them, or fewer while that is measured to be faster.

Beside other busy processes a thread may lose its core in the middle of an item, and the others wait for it, for
milliseconds: then fewer threads are faster, down to one. The first thread measures the time that an item of all parts
takes, window by window. Where much of it goes by in waiting, it tries half as many threads; where it does not, and not
all of them work, twice as many. It keeps what is faster, and tries again after a time that doubles with each try in
vain.

A pace is kept from epoch to epoch, and may be shared by several runs: what is in it changes no result.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .jit import jit
from .team import now, read

Pace = NDArray[np.int64]

# Positions: how many threads work now; the number before this try, 0 if none is under way; the time of an item before
# it; windows until the next try, and how many there will be after it, in vain; then what the present window has had so
# far, in nanoseconds, and the time of the last look.
CREW, BEFORE, BEST, UNTIL_TRY, PAUSE, ITEMS, ELAPSED, WAITED, LOOKED = range(9)

WINDOW = 10_000_000  # ns: several turns of the system's scheduler
MUCH = 8  # an eighth of the time
FIRST_PAUSE, LONGEST_PAUSE = 4, 64  # windows


def new_pace(threads: int) -> Pace:
    pace = np.zeros(LOOKED + 1, np.int64)
    pace[CREW], pace[PAUSE] = threads, FIRST_PAUSE
    return pace


@lru_cache(maxsize=256)
def pace_of(threads: int, *work: int) -> Pace:
    """The process's own pace for that many threads and work of that shape."""
    return new_pace(threads)


@jit
def crew_of(pace: Pace) -> int:
    """How many threads work: those of the first parts."""
    return read(pace, CREW)


@jit
def begin(pace: Pace) -> None:
    """The time since the last look was not spent on items."""
    pace[LOOKED] = now()


@jit
def review(pace: Pace, threads: int, waiting_since: int) -> None:
    """After each item, by the first thread, which has had nothing to do since then (0: since its last look)."""
    time = now()
    pace[ITEMS] += 1
    pace[ELAPSED] += time - pace[LOOKED]
    pace[WAITED] += time - max(waiting_since, pace[LOOKED])
    pace[LOOKED] = time
    if pace[ELAPSED] >= WINDOW:
        decide(pace, threads)
        pace[ITEMS] = pace[ELAPSED] = pace[WAITED] = 0


@jit
def decide(pace: Pace, threads: int) -> None:
    """At the end of a window: go on, try another crew, or end a try."""
    each = pace[ELAPSED] // pace[ITEMS]
    if pace[BEFORE] > 0:
        if each < pace[BEST]:
            pace[PAUSE] = FIRST_PAUSE
        else:
            pace[CREW] = pace[BEFORE]
            pace[PAUSE] = min(2 * pace[PAUSE], LONGEST_PAUSE)
        pace[BEFORE], pace[UNTIL_TRY] = 0, pace[PAUSE]
        return
    pace[BEST] = each
    pace[UNTIL_TRY] -= 1
    crew = pace[CREW]
    other = max(crew // 2, 1) if MUCH * pace[WAITED] > pace[ELAPSED] else min(2 * crew, threads)
    if pace[UNTIL_TRY] <= 0 and other != crew:
        pace[CREW], pace[BEFORE] = other, crew
