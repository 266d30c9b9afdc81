"""Which kinds of augmentation run and in which ranges, and what is drawn from that for each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fastmlp.augment.kind import Kind, Parameters
from fastmlp.augment.kinds import KINDS, PAPER
from fastmlp.common.errors import UsageError, did_you_mean

WORDS = {word: kind for kind in KINDS.values() for word in kind.settings}


@dataclass(frozen=True, init=False)
class Policy:
    """The kinds that one is drawn from for every image, each with the ranges that its parameters are drawn from.

    `Policy()` is the paper's: crop=4, rotation=15, cutout=8, contrast=0.5:1.5 with a flip of every second image.
    Keywords change ranges by their names in `as_dict`, as in `Policy(crop_padding=2)`; `Policy.parse` takes text.
    The order in which kinds are given does not matter.
    """

    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind, **ranges: float) -> None:
        chosen = {kind.word: kind for kind in kinds} or {word: KINDS[word]() for word in PAPER}
        if len(chosen) < len(kinds):
            raise UsageError(f"A policy has each kind once, not {', '.join(kind.word for kind in kinds)}.")
        for word, kind in chosen.items():
            own = {name: ranges.pop(name) for name in kind.ranges() if name in ranges}
            chosen[word] = type(kind)(**kind.ranges() | own)
        if ranges:
            raise TypeError(f"No kind of {', '.join(chosen)} has the range {', '.join(ranges)}.")
        object.__setattr__(self, "kinds", tuple(chosen[word] for word in KINDS if word in chosen))

    @classmethod
    def parse(cls, text: str, option: str = "--augment") -> Self:
        """The policy of text such as "crop=4,contrast=0.5:1.5,flip=0.25", any kinds in any order.

        Ranges of a kind whose further settings are not given are the default; kinds that are not named do not run.
        Raises UsageError, which begins with the option and what was typed.
        """
        typed: dict[type[Kind], dict[str, str]] = {}
        for item in text.split(","):
            word, _, value = (part.strip() for part in item.partition("="))
            own = typed.setdefault(_kind_of(word, f"{option} {item.strip()}"), {})
            if word in own:
                raise UsageError(f"{option} {item.strip()}: {word} is there twice, give it once.")
            own[word] = value
        return cls(*(_parsed(kind, own, option) for kind, own in typed.items()))

    def __str__(self) -> str:
        """As `parse` takes it."""
        return ",".join(map(str, self.kinds))

    def as_dict(self) -> dict[str, float]:
        """Every range by its name, as results.json and the fingerprint of a feature store have it."""
        return {name: value for kind in self.kinds for name, value in kind.ranges().items()}

    def without_flip(self) -> Policy:
        """The same where a mirror image would be of another class."""
        return Policy(*(kind.without_flip() for kind in self.kinds))


def _kind_of(word: str, typed: str) -> type[Kind]:
    if word not in WORDS:
        near = did_you_mean(word, WORDS)
        raise UsageError(f"{typed}: there is no augmentation {word!r}{near}: choose one of {', '.join(KINDS)}.")
    return WORDS[word]


def _parsed(kind: type[Kind], own: Mapping[str, str], option: str) -> Kind:
    typed = ",".join(f"{word}={value}" if value else word for word, value in own.items())
    if kind.word not in own:
        raise UsageError(f"{option} {typed}: it belongs to {kind.word}, so give {kind()} too.")
    try:
        return kind.parse(own)
    except UsageError as error:
        raise UsageError(f"{option} {typed}: {error}") from None


@dataclass(frozen=True)
class Plan:
    """What happens to each of n images.

    kind        of each image: an index of policy.kinds, (n,)
    parameters  of every kind for every image, whatever the image's kind, by the kind's word: parameters["crop"]["dy"]
    """

    kind: NDArray[np.int64]
    parameters: Mapping[str, Parameters]
    policy: Policy

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> Plan:
        """The plan for some of the images."""
        parameters = {word: {name: own[name][index] for name in own} for word, own in self.parameters.items()}
        return Plan(self.kind[index], parameters, self.policy)

    def only(self, kind: Kind) -> Plan:
        """The plan by which that kind, one of the policy's, happens to every image, its parameters as they are."""
        return replace(self, kind=np.full(len(self), self.policy.kinds.index(kind)))


def draw(rng: np.random.Generator, n: int, policy: Policy | None = None, height: int = 32, width: int = 32) -> Plan:
    """One of the policy's kinds for each of n images, uniformly, and its parameters from the policy's ranges.

    The parameters of every kind are drawn for every image: so those of one kind do not depend on another's range.
    """
    policy = policy or Policy()
    chosen = rng.integers(0, len(policy.kinds), n)
    return Plan(chosen, {kind.word: kind.draw(rng, n, height, width) for kind in policy.kinds}, policy)
