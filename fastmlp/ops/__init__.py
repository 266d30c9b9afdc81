"""The ops: every step of a computation in array code, once, for all engines.

A class of ops holds an array namespace. A method takes its inputs, then the arrays that it fills, and returns nothing;
it changes no input unless the caller passes that array as output too, which elementwise ops allow. An op composed of
others calls them as methods. A backend derives a class and overrides the methods that it speeds up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Array = Any  # of the backend's namespace


def names_of(ops: type) -> list[str]:
    """The ops of a class in array code, in source order."""
    return [name for name, value in vars(ops).items() if not name.startswith("_") and callable(value)]


def overridden(ops: Any, array_code: type) -> Iterator[str]:
    """The ops that an object implements itself instead of inheriting the array code."""
    return (name for name in names_of(array_code) if getattr(type(ops), name) is not getattr(array_code, name))
