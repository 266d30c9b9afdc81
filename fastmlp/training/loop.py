"""Training: epochs of mini-batches, the learning-rate schedules, the history, several networks, stopping, going on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.common.errors import FastMLPError, UsageError
from fastmlp.common.randomness import Purpose, generator
from fastmlp.network.optimizers import Optimizer, make_optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.network.trainer import Trainer
from fastmlp.training.samples import Figures, Samples

SCHEDULES = ("step", "one-cycle", "constant")
WARM_UP = 0.2  # the share of one cycle's steps in which the learning rate rises
MOST_SPREAD = 100  # times the median of the features' standard deviations
LEAST_SIZE, MOST_SIZE = 1e-3, 100.0  # of features, root mean square
SAMPLED_ROWS = 1024  # for the features' mean and spread: their standard error is then about 3% of the spread


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's: 300 epochs, batch 64, 0.01, times 0.1 after every 100 epochs.

    schedule: "step" multiplies the learning rate by drop_factor after every drop_every epochs; "one-cycle" raises it
    from 0 to learning_rate and lowers it to 0 again, step by step, each along half a cosine (Smith and Topin 2018);
    "constant" keeps it. optimizer and weight_decay: see `network.optimizers`. standardize: train on features less
    their mean, divided by their spread. init: see `initial_parameters`. least_steps: few rows are gone over
    more often, until there are that many steps in all (`for_rows`).
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.01
    schedule: str = "step"
    drop_every: int = 100  # epochs
    drop_factor: float = 0.1
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    standardize: bool = False
    init: str = "paper"
    least_steps: int = 0

    def __post_init__(self) -> None:
        counts: tuple[Any, ...] = (self.epochs, self.batch_size)
        if not all(isinstance(count, Integral) for count in counts) or min(counts) < 1:
            raise UsageError(f"Epochs and batch size must be whole numbers from 1 on, not {counts[0]} and {counts[1]}.")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"The learning rate must be a positive number, not {self.learning_rate}.")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"The schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}.")
        _ = self.update_rule  # checks itself

    @property
    def update_rule(self) -> Optimizer:
        return make_optimizer(self.optimizer, self.weight_decay)

    def learning_rates(self, epoch: int, steps: int) -> NDArray[np.float64]:
        """The learning rate of each of the steps (steps,) of an epoch, counted from 1."""
        if self.schedule == "one-cycle":
            done = (np.arange((epoch - 1) * steps, epoch * steps) + 0.5) / (self.epochs * steps)
            falling = 1 + (done - WARM_UP) / (1 - WARM_UP)
            angle = np.pi * np.where(done < WARM_UP, done / WARM_UP, falling)
            return self.learning_rate * (1 - np.cos(angle)) / 2
        drops = (epoch - 1) // self.drop_every if self.schedule == "step" else 0
        return np.full(steps, self.learning_rate * self.drop_factor**drops)

    def network(self, parameters: Parameters, backend: Backend) -> Trainer:
        """A network bound to be trained this way."""
        return Trainer(parameters, backend, self.batch_size, optimizer=self.update_rule)

    def changed(self, **changes: Any) -> Recipe:
        """This recipe with some values changed; None leaves a value as it is. Given epochs hold for few rows too."""
        given = {name: value for name, value in changes.items() if value is not None}
        least_steps = 0 if "epochs" in given else self.least_steps
        return replace(self, **{"least_steps": least_steps, **given})

    def for_rows(self, rows: int) -> Recipe:
        """This recipe with as many more epochs as its least number of steps takes on that many rows."""
        steps = max(1, -(-rows // self.batch_size))
        return replace(self, epochs=max(self.epochs, -(-self.least_steps // steps)))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# The fast preset trains on CIFAR-10's 50,000 images in a hundredth of the paper's time, and on ResNet-18 features no
# less accurately. Chosen on a tenth of the training images, held out, over several seeds:
# - two epochs are what a hundredth pays for: by Adam and one cycle of learning rates they get as far as the paper;
# - centred features give 1.5 points, which no step size per weight makes up for; a spread for each gives nothing more;
# - batches of 64 to 512 do alike, each at its best rate; 128 is the largest whose products one thread computes best;
# - weight decay of 0.05 to 0.3 does alike; in longer runs 0.2 gains a point over the paper, and less of it less;
# - 750 steps are these two epochs, and on fewer images as many steps do as well as the paper's 300 epochs or better.
PRESETS = {
    "paper": Recipe(),
    "fast": Recipe(
        epochs=2,
        batch_size=128,
        learning_rate=0.01,
        schedule="one-cycle",
        optimizer="adam",
        weight_decay=0.2,
        standardize=True,
        init="he",
        least_steps=750,
    ),
}


@dataclass
class History:
    """What happened in each epoch: its highest learning rate, mean loss and accuracy over its batches, and the same
    two on the test set after it."""

    epoch: list[int] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.epoch)

    def add(self, learning_rate: float, train: tuple[float, float], test: tuple[float, float] | None) -> None:
        self.epoch.append(self.epochs + 1)
        self.learning_rate.append(learning_rate)
        self.train_loss.append(train[0])
        self.train_accuracy.append(train[1])
        if test is not None:
            self.test_loss.append(test[0])
            self.test_accuracy.append(test[1])

    def as_dict(self) -> dict[str, list[Any]]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> History:
        """What `as_dict` gave; ValueError or TypeError for anything else."""
        history = cls(**values)
        epochs, tested = history.epochs, len(history.test_loss)
        columns: list[list[Any]] = list(vars(history).values())
        counted = history.epoch == list(range(1, epochs + 1)) and tested in (0, epochs)
        if not counted or [len(column) for column in columns] != [epochs] * 4 + [tested] * 2:
            raise ValueError("its history does not tell of every epoch")
        if not all(isinstance(value, int | float) and abs(value) < 1e300 for column in columns for value in column):
            raise ValueError("its history holds something other than numbers")
        return history


class DivergedError(FastMLPError):
    """Training whose loss became NaN or infinite."""


def train(
    network: Trainer,
    samples: Samples,
    recipe: Recipe,
    seed: int,
    *,
    test: Samples | None = None,
    shuffle: bool = True,
    history: History | None = None,
    on_epoch: Callable[[History], bool | None] | None = None,
) -> History:
    """Train the network in place, from where `history` ends to the recipe's last epoch: `train_together` of one.

    on_epoch is called after every epoch, and ends the training by returning True. Raises DivergedError if the loss is
    not finite.
    """

    def on_each(histories: list[History]) -> bool | None:
        return None if on_epoch is None else on_epoch(histories[0])

    histories = None if history is None else [history]
    trained = train_together(
        [network], samples, [recipe], [seed], test=test, shuffle=shuffle, histories=histories, on_epoch=on_each
    )
    return trained[0]


def train_together(
    networks: Sequence[Trainer],
    samples: Samples,
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    *,
    rows: Sequence[int] | None = None,
    test: Samples | None = None,
    shuffle: bool = True,
    histories: Sequence[History] | None = None,
    on_epoch: Callable[[list[History]], bool | None] | None = None,
) -> list[History]:
    """Train networks in place on the same samples, each by its own recipe and seed, and as if it were alone.

    rows: how many of the samples, from the first on, each network has; None: all. All recipes have the same number of
    epochs and the same batch size. Training goes on from where the histories end, and networks that were stopped then
    need their `state` back. The order of an epoch's rows depends on the seed and the epoch alone, so a run that stops
    and goes on takes the same steps as one that never stopped. on_epoch is called with all histories after every epoch,
    and ends the training by returning True. A loss that is not finite stands in its history; DivergedError is raised
    when no network has a finite one, on its batches and on the test set.
    """
    _check_alike(networks, recipes)
    kept = [History() for _ in networks] if histories is None else list(histories)
    counts = [len(samples)] * len(networks) if rows is None else rows
    done = kept[0].epochs
    if done == 0:
        _standardize(networks, recipes, samples, counts)
    epochs = range(done + 1, recipes[0].epochs + 1)
    for epoch, orders in _orders(seeds, counts, epochs, shuffle, ahead=networks[0].backend.beside_host):
        steps = [-(-len(order) // networks[0].batch_size) for order in orders]
        rates = [recipe.learning_rates(epoch, count) for recipe, count in zip(recipes, steps, strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is checked once, here below
            trained = samples.train_epoch(networks, orders, rates)
            tested = [_evaluate(network, test) for network in networks]
        _check_finite(trained, tested, epoch, rates)
        for history, rate, seen, test_figures in zip(kept, rates, trained, tested, strict=True):
            history.add(float(rate.max()), seen, test_figures)
        if on_epoch is not None and on_epoch(kept):
            break
    return kept


def _check_alike(networks: Sequence[Trainer], recipes: Sequence[Recipe]) -> None:
    if len({network.batch_size for network in networks}) != 1 or len({recipe.epochs for recipe in recipes}) != 1:
        raise UsageError("Networks that are trained together need the same batch size and the same number of epochs.")


def _standardize(
    networks: Sequence[Trainer], recipes: Sequence[Recipe], samples: Samples, counts: Sequence[int]
) -> None:
    """Let networks whose recipe says so train on features less their mean, divided by their spread.

    Both of evenly spaced rows of the network's own. One spread for all features: the root of the mean variance.
    Centring is what speeds training up (LeCun et al. 1998, section 4.3); one number keeps what features weigh against
    each other, which a rare feature's own spread would not.
    """
    for network, recipe, rows in zip(networks, recipes, counts, strict=True):
        if recipe.standardize:
            spaced = samples.spaced_rows(network.backend, rows, SAMPLED_ROWS)
            mean = spaced.mean(axis=0)
            spread = float(np.sqrt(np.mean((spaced - mean) ** 2)))
            network.standardize(mean, 1 / spread if spread > 0 else 1.0)


def odd_scale(features: Array, centred: bool = False) -> str | None:
    """What a warning says of features (n, d) on the host that gradient descent may not bear, or None.

    Of some evenly spaced rows; centred: the mean of all is taken off, and one spread divided by, before training.
    """
    rows = np.asarray(features[:: max(1, len(features) // SAMPLED_ROWS)], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is found elsewhere
        spreads, size = rows.std(axis=0), np.sqrt(np.mean(rows**2))
    spreads = spreads[spreads > 0]
    mend = "standardise them by (X - X.mean(axis=0)) / X.std(axis=0)"
    if len(spreads) and spreads.max() > MOST_SPREAD * np.median(spreads):
        low, high = np.median(spreads), spreads.max()
        return f"have spreads as different as {low:.2g} and {high:.2g}, and may not train well: {mend}"
    if not centred and len(spreads) and not LEAST_SIZE <= size <= MOST_SIZE:
        return f"are of the size of {size:.2g}, and may not train well: {mend}"
    return None


def _evaluate(network: Trainer, test: Samples | None) -> tuple[float, float] | None:
    return None if test is None else test.evaluate(network)


def _orders(
    seeds: Sequence[int], counts: Sequence[int], epochs: Iterable[int], shuffle: bool, ahead: bool
) -> Iterator[tuple[int, list[NDArray[np.int64]]]]:
    """Each epoch, and the order of each network's rows in it: one array for equal seeds and numbers of rows.

    ahead: an epoch's are drawn while the one before is computed.
    """

    def draw(epoch: int) -> list[NDArray[np.int64]]:
        drawn = {
            (seed, rows): generator(seed, Purpose.BATCH_ORDER, epoch).permutation(rows) if shuffle else np.arange(rows)
            for seed, rows in set(zip(seeds, counts, strict=True))
        }
        return [drawn[key] for key in zip(seeds, counts, strict=True)]

    if not ahead:
        yield from ((epoch, draw(epoch)) for epoch in epochs)
        return
    with ThreadPoolExecutor(1) as worker:
        coming: deque[tuple[int, Future[list[NDArray[np.int64]]]]] = deque()
        for epoch in epochs:
            coming.append((epoch, worker.submit(draw, epoch)))
            if len(coming) > 1:
                drawn, orders = coming.popleft()
                yield drawn, orders.result()
        for drawn, orders in coming:
            yield drawn, orders.result()


def _check_finite(
    trained: Sequence[Figures],
    tested: Sequence[Figures | None],
    epoch: int,
    learning_rates: Sequence[NDArray[np.float64]],
) -> None:
    losses = [loss + (figures[0] if figures else 0.0) for (loss, _), figures in zip(trained, tested, strict=True)]
    if not np.isfinite(losses).any():
        raise DivergedError(
            f"Training diverged in epoch {epoch} (the loss is {losses[0]}): lower the learning rate (now "
            f"{min(rates.max() for rates in learning_rates):g}) or scale the features to about -1 .. 1."
        )
