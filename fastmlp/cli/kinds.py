"""The kinds of values that options take: text to a value, or the sentence that argparse shows."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastmlp.common.files import is_url

NO_LAYER = "none"
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?((?:[KMGT]i?)?B?)", re.IGNORECASE)
UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("", 1000), ("B", 1000), ("I", 1024), ("IB", 1024))
}


def positive(text: str) -> int:
    return _number(text, int, lambda number: number >= 1, "a whole number from 1 on")


def whole(text: str) -> int:
    return _number(text, int, lambda number: True, "a whole number")


def seed(text: str) -> int:
    return _number(text, int, lambda number: 0 <= number < 2**32, "a whole number from 0 to 2**32 - 1")


def number(text: str) -> float:
    return _number(text, float, lambda number: True, "a number")


def _number(text: str, kind: Callable[[str], Any], allows: Callable[[Any], bool], words: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not allows(value):
        raise argparse.ArgumentTypeError(f"must be {words}, not {text!r}")
    return value


def size(text: str) -> int:
    """Bytes, from a number with a unit: of powers of 1,000, such as 500MB or 1.5G, or of 1,024, such as 1GiB."""
    found = SIZE.fullmatch(text.strip())
    count = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be a size such as 1GB or 500MB, not {text!r}")
    return count


def files(text: str) -> Path:
    """A path or glob: a URL, as one, would lose a slash."""
    if is_url(text):
        raise argparse.ArgumentTypeError(f"must be a file, folder or glob of this machine, not the URL {text!r}")
    return Path(text)


def ranges(text: str) -> str:
    """As `augment.Policy.parse` takes them, which checks them."""
    return text


def names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def numbers(text: str) -> tuple[float, ...]:
    return tuple(number(part) for part in text.split(",") if part)


def sizes(text: str) -> tuple[int, ...]:
    return () if text == NO_LAYER else tuple(positive(part) for part in text.split(",") if part)


def widths(text: str) -> tuple[int, ...]:
    kind = "a whole number from 0 on"
    return tuple(_number(part, int, lambda number: number >= 0, kind) for part in text.split(",") if part)
