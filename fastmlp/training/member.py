"""A network in training: what it is built from, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmlp.backends.base import Backend
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe

Fingerprint = dict[str, Any]


@dataclass(frozen=True)
class Blueprint:
    """All that decides a network's weights, but for its features and the machine."""

    sizes: tuple[int, ...]
    recipe: Recipe
    seed: int
    dtype: str

    def network(self, backend: Backend, parameters: Parameters | None = None) -> Trainer:
        """A network bound to be trained, with these parameters or, where None, with those drawn from the seed."""
        if parameters is None:
            parameters = initial_parameters(self.sizes, self.recipe.init, self.seed, self.dtype)
        return self.recipe.network(parameters, backend)

    def fingerprint(self, features: Sequence[str]) -> Fingerprint:
        """What a checkpoint must agree with; features: names of the feature sets, which change with their content."""
        return {
            "sizes": list(self.sizes),
            "recipe": self.recipe.as_dict(),
            "seed": self.seed,
            "dtype": self.dtype,
            "features": list(features),
        }


@dataclass
class Member:
    """One network of a training run, and the history of its epochs."""

    blueprint: Blueprint
    network: Trainer
    history: History = field(default_factory=History)

    @classmethod
    def new(cls, blueprint: Blueprint, backend: Backend) -> Member:
        return cls(blueprint, blueprint.network(backend))

    def about(self, fingerprint: Fingerprint) -> dict[str, Any]:
        """What its file holds beside its weights."""
        return {"fingerprint": fingerprint, "history": self.history.as_dict()}

    @property
    def diverged(self) -> bool:
        """Whether its last epoch has a loss, on its batches or on the test set, that is not finite."""
        losses = [*self.history.train_loss[-1:], *self.history.test_loss[-1:]]
        return not all(math.isfinite(loss) for loss in losses)
