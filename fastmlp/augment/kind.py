"""What one kind of augmentation is: the ranges of its parameters, how they are drawn, and its op in array code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.common.errors import UsageError

Op = Callable[..., None]  # op(xp, images, *arguments, out)
Parameters = Mapping[str, NDArray[Any]]  # by name, each (n,)
Given = Mapping[str, ArrayLike]  # the same as people give them: one number per image, or one for all


class Kind(ABC):
    """A record: a frozen dataclass whose fields are its ranges, each with the default that is used if none is given.

    A module of `fastmlp.augment.kinds` holds one, as KIND. Its number in a plan, its place in `--augment` and its
    kernels are found from it: kernels have the name of its op.

    settings  the words that set its fields in text, as in `contrast=0.5:1.5`; the first is the kind's own
    name      what it can do, in figures; by default the kind's word
    op        its array code: op(xp, images, *arguments, out) fills out uint8 (n, 3, h, w); arguments (n,)
    """

    settings: ClassVar[Mapping[str, tuple[str, ...]]]
    word: ClassVar[str]
    name: ClassVar[str]
    op: ClassVar[Op]

    def __init_subclass__(cls) -> None:
        cls.word = next(iter(cls.settings))
        cls.name = cls.__dict__.get("name", cls.word)

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int, height: int, width: int) -> Parameters:
        """The parameters of n images of that size, drawn from the ranges."""

    @abstractmethod
    def arguments(self, n: int, parameters: Given) -> tuple[NDArray[Any], ...]:
        """What the op takes, (n,) each, on the host: UsageError for parameters that make no sense."""

    def without_flip(self) -> Self:
        """This kind where a mirror image would be of another class."""
        return self

    @property
    def label(self) -> str:
        """What it does in these ranges, as figures name it."""
        return self.name

    def ranges(self) -> dict[str, float]:
        return asdict(self)  # type: ignore[call-overload]  # every kind is a dataclass

    @classmethod
    def parse(cls, typed: Mapping[str, str]) -> Self:
        """The kind with ranges from text, by the words of `settings`; UsageError for what is no range."""
        defaults = cls().ranges()
        values: dict[str, float] = {}
        for word, text in typed.items():
            names, parts = cls.settings[word], text.split(":")
            try:
                values |= {name: type(defaults[name])(part) for name, part in zip(names, parts, strict=True)}
            except ValueError:
                raise UsageError(f"give it as in {cls()._setting(word)}.") from None
        return cls(**values)

    def __str__(self) -> str:
        """As `parse` takes it; of further settings only those that differ from the default."""
        default = type(self)()
        words = [word for word in self.settings if word == self.word or self._setting(word) != default._setting(word)]
        return ",".join(map(self._setting, words))

    def _setting(self, word: str) -> str:
        values = (getattr(self, field) for field in self.settings[word])
        return f"{word}={':'.join(str(value).removesuffix('.0') for value in values)}"
