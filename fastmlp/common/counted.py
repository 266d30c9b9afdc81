"""Files whose names tell how many there are, such as train-00000-of-00003."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, Self

from fastmlp.common.errors import DataError

COUNTED = re.compile(r"(?P<before>.*-)(?P<number>\d+)(?P<after>-of-(?P<count>\d+).*)")


class Path(Hashable, Protocol):
    """What a pathlib.Path has, and other paths may have."""

    @property
    def name(self) -> str: ...

    @property
    def parent(self) -> Any: ...

    def with_name(self, name: str, /) -> Self: ...


def check_counted(paths: Sequence[Path]) -> None:
    """Raise DataError for a file that the names of others tell of."""
    there, checked = set(paths), set()
    for path in paths:
        found = COUNTED.fullmatch(path.name)
        if found is None or (key := (path.parent, found["before"], found["after"])) in checked:
            continue
        checked.add(key)
        count, digits = int(found["count"]), len(found["number"])
        names = [f"{found['before']}{number:0{digits}d}{found['after']}" for number in range(count + 1)]
        expected = [path.with_name(name) for name in names]
        expected = expected[1:] if expected[-1] in there else expected[:-1]  # counted from 1, or from 0
        missing = [shard for shard in expected if shard not in there]
        if missing:
            raise DataError(
                f"The shard {missing[0]} is missing, by the name of {path.name}: give all {count:,} of them."
            )
