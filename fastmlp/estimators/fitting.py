"""What MLPClassifier's training adds to `fastmlp.training`: scaled features, early stopping, fits that resume."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.estimators.arrays import on_backend, to_host
from fastmlp.estimators.rows import Rows
from fastmlp.network.parameters import Parameters, initial_parameters
from fastmlp.network.scaling import Moments
from fastmlp.training.held_out import hold_out
from fastmlp.training.history import History
from fastmlp.training.loop import train
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Samples
from fastmlp.training.stopping import Stopping, Watch

TELLING_ROWS = 30  # of which a deviation is known to about an eighth
State = dict[str, NDArray[Any]]


@dataclass
class Fit:
    """The state of a fit between two calls, all on the host, so that it can be pickled.

    parameters: with what standardises the features, by the moments of the rows so far. recipe and rows: how, and on how
    many rows, it was trained last. state: what training resumes from (see `Trainer.state`), once it has begun.
    """

    parameters: Parameters
    classes: NDArray[Any]
    recipe: Recipe
    seed: int
    rows: int
    moments: Moments | None = None
    state: State = field(default_factory=dict)
    history: History = field(default_factory=History)

    @classmethod
    def begin(
        cls,
        rows: Rows,
        classes: NDArray[Any],
        recipe: Recipe,
        seed: int,
        dtype: str,
    ) -> Fit:
        """A fit with new weights."""
        initial = initial_parameters(_sizes(rows, classes, recipe), recipe.init, seed, dtype)
        moments = None
        if recipe.standardize != "none":
            moments = Moments.of(to_host(rows.features), rows.weights)
            initial = replace(initial, scaling=moments.scaling(recipe.standardize == "each"))
        return cls(initial, classes, recipe, seed, len(rows.labels), moments)

    @property
    def seen(self) -> int:
        """Rows of all calls so far, where features are standardised, else of the last one."""
        return self.rows if self.moments is None else self.moments.rows

    def can_resume(self, rows: Rows, classes: NDArray[Any], recipe: Recipe, dtype: str) -> bool:
        """Whether its network and optimizer are the ones asked for."""
        mine = (self.parameters.sizes, self.parameters.dtype, self.recipe.optimizer)
        same = mine == (_sizes(rows, classes, recipe), dtype, recipe.optimizer)
        return same and np.array_equal(self.classes, classes)

    def continue_training(
        self,
        rows: Rows,
        recipe: Recipe,
        backend: Backend,
        shuffle: bool,
        stopping: Stopping | None = None,
        verbose: bool = False,
    ) -> str:
        """Train from the history's end to the recipe's last epoch, or until it is time to stop.

        verbose: print the loss of every epoch. Returns the name of what trained: the backend, and its way if one was
        measured to be the fastest.
        """
        trainer = recipe.network(self.parameters, backend, weighted=rows.relative_weights is not None)
        if self.state:
            trainer.state = self.state
        watch = None
        if stopping is not None:
            rows, held_out = self._split(rows, stopping.fraction)
            watch = Watch(trainer, self._placed(backend, held_out), stopping)
        samples = self._placed(backend, rows)

        def on_epoch(history: History) -> bool:
            if verbose:
                print(f"Iteration {history.epochs}, loss = {history.train_loss[-1]:.8f}")
            return watch is not None and watch(history)

        train(trainer, samples, recipe, self.seed, shuffle=shuffle, history=self.history, on_epoch=on_epoch)
        if watch is not None:
            trainer.state = watch.best_state
        self.state, self.recipe, self.rows = trainer.state, recipe, len(samples)
        self.parameters = replace(trainer.parameters, scaling=self.parameters.scaling)
        return str(trainer.backend)

    def having_seen(self, rows: Rows) -> Fit:
        """It, standardising by the statistics of all rows so far, these included, with the answers that it had before.

        The first layer, and what the optimizer remembers of it, are expressed for the new scaling, whose shift the
        biases take up. Scales of features that have been constant, or of a few rows, tell nothing: there the weights
        stay as they are.
        """
        before, own = self.moments, self.parameters.scaling
        if before is None or own is None:
            return self
        moments = before.merged(Moments.of(to_host(rows.features), rows.weights))
        scaling = moments.scaling(self.recipe.standardize == "each")
        known = (before.squares > 0) & (before.rows >= TELLING_ROWS)
        own = replace(own, scale=np.where(known, own.scale, scaling.scale))
        parameters = replace(self.parameters, scaling=own).rescaled(scaling)
        state = _rescaled_state(self.state, parameters, scaling.scale / own.scale)
        return replace(self, moments=moments, parameters=parameters, state=state)

    def _split(self, rows: Rows, fraction: float) -> tuple[Rows, Rows]:
        """The rows to train on, and those held out. Raises UsageError if there are none to hold out."""
        kept, held_out = hold_out(rows.labels, self.seed, fraction)
        if len(held_out) == 0:
            raise UsageError(
                f"early_stopping cannot hold out {fraction:g} of {len(rows.labels)} rows and keep one of each class: "
                "pass more rows of each class, a larger validation_fraction, or early_stopping=False."
            )
        return rows.take(kept), rows.take(held_out)

    def _placed(self, backend: Backend, rows: Rows) -> Samples:
        dtype, scaling, weights = self.parameters.dtype, self.parameters.scaling, rows.relative_weights
        return Samples(
            on_backend(backend, rows.features, dtype, scaling),
            backend.asarray(rows.labels.astype(np.int64)),
            None if weights is None else backend.asarray(weights.astype(dtype)),
            scaling,
        )


def _sizes(rows: Rows, classes: NDArray[Any], recipe: Recipe) -> tuple[int, ...]:
    return (rows.features.shape[1], *recipe.hidden_layer_sizes, len(classes))


def _rescaled_state(state: State, parameters: Parameters, ratio: NDArray[np.float64]) -> State:
    """The training state with these parameters, where features (d,) have become that many times as large.

    The first layer's gradients, and with them the optimizer's k-th moments, grow by the k-th power.
    """
    flat = {
        "weights": np.concatenate([weight.ravel() for weight in parameters.weights]),
        "biases": np.concatenate(parameters.biases),
    }
    first = parameters.weights[0].size
    for power in (1, 2):
        moment = state.get(f"moment_{power}_weights")
        if moment is not None:
            grown = moment[:first].reshape(len(ratio), -1) * ratio[:, None] ** power
            flat[f"moment_{power}_weights"] = np.concatenate([grown.ravel(), moment[first:]]).astype(moment.dtype)
    return {**state, **flat}
