"""Training by the rules of scikit-learn's MLPClassifier and MLPRegressor, on any backend.

With one random_state, the initial weights, the rows held out and the order of the batches are those that scikit-learn
draws; steps, learning rates and the end of training follow the same rules. What follows from rounding alone may differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastmlp.network.inputs import Rows
from fastmlp.network.objective import Objective
from fastmlp.network.objective_epoch import train_epoch
from fastmlp.network.optimizers import Optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.training.sklearn_steps import UncorrectedAdam, Velocity

LEAST_RATE = 1e-6  # an adaptive learning rate stops training once it is no higher
SLOWER = 5.0  # what an adaptive learning rate is divided by
# It begins as scikit-learn's, which filters of warnings may name.
NOT_CONVERGED = (
    "Stochastic Optimizer: Maximum iterations ({}) reached and the optimization hasn't converged yet: raise it."
)
LARGEST_BATCH = 200  # of batch_size="auto"


@dataclass(frozen=True)
class Settings:
    """scikit-learn's parameters, by its names and with its defaults."""

    hidden_layer_sizes: Sequence[int] | int = (100,)
    activation: str = "relu"
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    tol: float = 1e-4
    verbose: bool | int = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000

    @property
    def optimizer(self) -> Optimizer:
        if self.solver == "sgd":
            return Velocity(momentum=self.momentum, nesterov=self.nesterovs_momentum)
        return UncorrectedAdam(beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon)

    def rows_per_batch(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(LARGEST_BATCH, rows)
        if int(self.batch_size) > rows:
            text = f"batch_size={self.batch_size} is more than the {rows} rows: all of them are one batch."
            warnings.warn(text, stacklevel=6)
        return min(int(self.batch_size), rows)


def initial_parameters(
    sizes: Sequence[int], activation: str, generator: np.random.RandomState, dtype: str
) -> Parameters:
    """Weights and then biases of each layer, uniform within the bound of Glorot and Bengio (2010, eq. 16).

    The bound is sqrt(6 / (inputs + outputs)), after a logistic activation sqrt(2 / (inputs + outputs)).
    """
    weights, biases = [], []
    for inputs, outputs in pairwise(sizes):
        bound = np.sqrt((2 if activation == "logistic" else 6) / (inputs + outputs))
        weights.append(generator.uniform(-bound, bound, (inputs, outputs)).astype(dtype))
        biases.append(generator.uniform(-bound, bound, outputs).astype(dtype))
    return Parameters(tuple(weights), tuple(biases))


@dataclass
class Descent:
    """What sgd and adam remember from step to step: the learning rate, the steps taken, and the optimizer's moments.

    moments: of the weights and of the biases, (moments, n) each, on the host; none before the first step.
    """

    learning_rate: float
    steps: int = 0
    moments: tuple[NDArray[Any], ...] = ()

    def load(self, objective: Objective) -> None:
        for group, moments in zip((objective.weights, objective.biases), self.moments, strict=False):
            group.slots[1:, ...] = objective.backend.asarray(moments)

    def keep(self, objective: Objective) -> None:
        host = objective.backend.to_numpy
        self.moments = tuple(np.array(host(group.slots[1:, ...])) for group in (objective.weights, objective.biases))

    def coefficients(self, optimizer: Optimizer, steps: int) -> NDArray[np.float64]:
        """Those of the next steps."""
        rows = optimizer.coefficients(np.full(steps, self.learning_rate), self.steps + 1)
        self.steps += steps
        return rows


@dataclass
class Progress:
    """How far training has come: epochs of the last fit; all else since the network was new.

    scores: on the held-out rows, where there are any, else None; idle: the last epochs without improvement; best: the
    parameters of the best score, at first the initial ones.
    """

    best: Parameters
    epochs: int = 0
    rows_seen: int = 0
    losses: list[float] = field(default_factory=list)
    best_loss: float | None = np.inf
    scores: list[float] | None = None
    best_score: float | None = None
    idle: int = 0

    # What scikit-learn's estimators call all of it but `best`.
    ATTRIBUTES: ClassVar[Mapping[str, str]] = {
        "epochs": "n_iter_",
        "rows_seen": "t_",
        "losses": "loss_curve_",
        "best_loss": "best_loss_",
        "scores": "validation_scores_",
        "best_score": "best_validation_score_",
        "idle": "_no_improvement_count",
    }

    @classmethod
    def new(cls, parameters: Parameters, validated: bool) -> Progress:
        """Of a network that has not been trained yet."""
        return cls(parameters, best_loss=None, scores=[], best_score=-np.inf) if validated else cls(parameters)

    def watch_loss(self, tol: float) -> None:
        loss, best = self.losses[-1], np.inf if self.best_loss is None else self.best_loss
        self.idle = self.idle + 1 if loss > best - tol else 0
        self.best_loss = min(best, loss) if loss == loss else best  # a NaN is no loss

    def watch_score(self, score: float, tol: float, parameters: Callable[[], Parameters]) -> None:
        best = -np.inf if self.best_score is None else self.best_score
        self.scores = [] if self.scores is None else self.scores
        self.scores.append(score)
        self.idle = self.idle + 1 if score < best + tol else 0
        self.best_score = best
        if score > best:
            self.best_score, self.best = score, parameters()


def descend(
    objective: Objective,
    rows: Rows,
    settings: Settings,
    descent: Descent,
    progress: Progress,
    generator: np.random.RandomState,
    *,
    once: bool = False,
    score: Callable[[], float] | None = None,
) -> None:
    """Train by sgd or adam until it is time to stop, or for one epoch.

    score: of the network on held-out rows; without, the training loss tells when to stop. An interrupt (Ctrl-C) ends
    the training with a warning. Issues a ConvergenceWarning where max_iter ends it.
    """
    count, progress.epochs = rows.inputs.rows, 0
    size, order = settings.rows_per_batch(count), np.arange(count)
    descent.load(objective)
    try:
        while progress.epochs < settings.max_iter:
            if settings.shuffle:
                order = _shuffled(order, generator)
            coefficients = descent.coefficients(objective.optimizer, -(-count // size))
            progress.losses.append(train_epoch(objective, rows, order, size, coefficients))
            progress.epochs += 1
            progress.rows_seen += count
            _tell(settings, f"Iteration {progress.epochs}, loss = {progress.losses[-1]:.8f}")
            _watch(objective, settings, progress, score)
            _after_epoch(settings, descent, progress.rows_seen)
            if _is_over(settings, descent, progress, score is not None) or once:
                break
            if progress.epochs == settings.max_iter:
                warnings.warn(NOT_CONVERGED.format(settings.max_iter), ConvergenceWarning, stacklevel=5)
    except KeyboardInterrupt:
        warnings.warn("Training was interrupted: the network is as it was then.", stacklevel=5)
    descent.keep(objective)


def _shuffled(order: NDArray[np.int64], generator: np.random.RandomState) -> NDArray[np.int64]:
    """What sklearn.utils.shuffle draws, without its checks of the arguments, which take as long as a step."""
    places = np.arange(len(order))
    generator.shuffle(places)
    return order[places]


def _watch(objective: Objective, settings: Settings, progress: Progress, score: Callable[[], float] | None) -> None:
    if score is None:
        progress.watch_loss(settings.tol)
        return
    progress.watch_score(score(), settings.tol, lambda: objective.parameters)
    assert progress.scores is not None
    _tell(settings, f"Validation score: {progress.scores[-1]:f}")


def _after_epoch(settings: Settings, descent: Descent, rows_seen: int) -> None:
    """An inverse scaling learning rate is the first one over (rows seen + 1)^power_t."""
    if settings.solver == "sgd" and settings.learning_rate == "invscaling":
        descent.learning_rate = settings.learning_rate_init / (rows_seen + 1) ** settings.power_t


def _is_over(settings: Settings, descent: Descent, progress: Progress, validated: bool) -> bool:
    """Whether to stop after too many epochs without improvement; an adaptive learning rate falls first."""
    if progress.idle <= settings.n_iter_no_change:
        return False
    what = "Validation score" if validated else "Training loss"
    why = f"{what} did not improve more than tol={settings.tol:f} for {settings.n_iter_no_change} consecutive epochs."
    if settings.solver != "sgd" or settings.learning_rate != "adaptive":
        _tell(settings, f"{why} Stopping.")
        return True
    if descent.learning_rate <= LEAST_RATE:
        _tell(settings, f"{why} Learning rate too small. Stopping.")
        return True
    descent.learning_rate /= SLOWER
    _tell(settings, f"{why} Setting learning rate to {descent.learning_rate:f}")
    progress.idle = 0
    return False


def _tell(settings: Settings, line: str) -> None:
    if settings.verbose:
        print(line)
