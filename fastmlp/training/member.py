"""A network in training: what it is built from, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fastmlp.backends.base import Backend
from fastmlp.models import storage
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.tiers import choose_tier
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe
from fastmlp.training.stopping import State, Stopping

Fingerprint = dict[str, Any]
WAY = "way"  # of training, in a file's header
BEST = "best."  # the prefix of the names of the best state's arrays


@dataclass(frozen=True)
class Blueprint:
    """All that decides a network's weights, but for its features and the machine.

    together: how many networks train together, by which a GPU may choose its kernels.
    """

    sizes: tuple[int, ...]
    recipe: Recipe
    seed: int
    dtype: str
    stopping: Stopping | None = None
    class_weight: str | None = None  # as `weights.weights_of_classes` takes it
    together: int = 1

    def network(self, backend: Backend, parameters: Parameters | None = None, way: str | None = None) -> Trainer:
        """A network bound to be trained, with these parameters or, where None, with those drawn from the seed.

        way: in which it began (`Trainer`); None: it begins now.
        """
        if parameters is None:
            parameters = initial_parameters(self.sizes, self.recipe.init, self.seed, self.dtype)
        return self.recipe.network(
            parameters, backend, weighted=self.class_weight is not None, networks=self.together, way=way
        )

    def way_on(self, backend: Backend) -> str:
        """The way in which it would begin there: the fastest that was measured, or empty if none was."""
        recipe, weighted = self.recipe, self.class_weight is not None
        rows = (recipe.batch_size, weighted, recipe.label_smoothing)
        return choose_tier(self.sizes, self.dtype, backend, recipe.update_rule, *rows, self.together).way

    def fingerprint(self, features: Sequence[str]) -> Fingerprint:
        """What a checkpoint must agree with; features: names of the feature sets, which change with their content."""
        return {
            "sizes": list(self.sizes),
            "recipe": self.recipe.as_dict(),
            "seed": self.seed,
            "dtype": self.dtype,
            "early_stopping": None if self.stopping is None else asdict(self.stopping),
            "class_weight": self.class_weight,
            "features": list(features),
        }


@dataclass
class Member:
    """One network of a training run, and the history of its epochs; under early stopping, its best state so far."""

    blueprint: Blueprint
    network: Trainer
    history: History = field(default_factory=History)
    best: State = field(default_factory=dict)

    @classmethod
    def new(cls, blueprint: Blueprint, backend: Backend, way: str | None = None) -> Member:
        """way: as of `Blueprint.network`."""
        return cls(blueprint, blueprint.network(backend, way=way))

    @property
    def state(self) -> State:
        """All that its training resumes from, beside the history."""
        return self.network.state | {BEST + name: array for name, array in self.best.items()}

    @state.setter
    def state(self, state: State) -> None:
        """Raises ValueError for the state of another network."""
        best = {name.removeprefix(BEST): array for name, array in state.items() if name.startswith(BEST)}
        if best:
            storage.restore(self.network, best)
        storage.restore(self.network, {name: array for name, array in state.items() if not name.startswith(BEST)})
        self.best = best

    def about(self, fingerprint: Fingerprint) -> dict[str, Any]:
        """What its file holds beside its weights."""
        return {"fingerprint": fingerprint, "history": self.history.as_dict(), **self.way}

    @property
    def way(self) -> dict[str, str]:
        """The way in which its training must go on, as a file has it: nothing where a measurement has chosen none."""
        way = self.network.tier.way
        return {WAY: way} if way else {}

    @property
    def diverged(self) -> bool:
        """Whether its last epoch has a loss, on its batches or on the test set, that is not finite."""
        losses = [*self.history.train_loss[-1:], *self.history.test_loss[-1:]]
        return not all(math.isfinite(loss) for loss in losses)
