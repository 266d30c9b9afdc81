"""Epochs of mini-batches: of one network, or of several at once, each as if it were alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fastmlp.common.errors import FastMLPError, UsageError
from fastmlp.network.trainer import Trainer
from fastmlp.training.history import History
from fastmlp.training.recipe import Recipe
from fastmlp.training.samples import Figures, Order, Samples
from fastmlp.training.standardize import standardize


class DivergedError(FastMLPError):
    """A training whose loss became NaN or infinite."""


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

    on_epoch is called after every epoch; returning True ends the training. Raises DivergedError for a loss that is not
    finite.
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

    rows: how many of the first samples each network trains on; None: all. The recipes share their number of epochs and
    their batch size. Training resumes where the histories end; a network that was stopped there needs its `state` back.
    The order of an epoch's rows depends on the seed and the epoch alone, so a resumed run takes the same steps as one
    that never stopped. on_epoch is called with all histories after every epoch; returning True ends the training.
    A loss that is not finite is recorded; DivergedError is raised once no network has a finite loss, on its batches and
    on the test set together.
    """
    _check_alike(networks, recipes)
    kept = [History() for _ in networks] if histories is None else list(histories)
    counts = [len(samples)] * len(networks) if rows is None else rows
    done = kept[0].epochs
    if done == 0:
        standardize(networks, recipes, samples, counts)
    epochs = range(done + 1, recipes[0].epochs + 1)
    for epoch, orders in _orders(samples, seeds, counts, epochs, shuffle, networks[0].backend.beside_host):
        steps = [-(-len(order) // networks[0].batch_size) for order in orders]
        rates = [recipe.learning_rates(epoch, count) for recipe, count in zip(recipes, steps, strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is checked once, below
            trained = samples.train_epoch(networks, orders, rates)
            tested = [None] * len(networks) if test is None else test.evaluate_each(networks)
        _check_finite(trained, tested, epoch, rates)
        for history, rate, seen, test_figures in zip(kept, rates, trained, tested, strict=True):
            history.add(float(rate.max()), seen, test_figures)
        if on_epoch is not None and on_epoch(kept):
            break
    return kept


def _check_alike(networks: Sequence[Trainer], recipes: Sequence[Recipe]) -> None:
    if len({network.batch_size for network in networks}) != 1 or len({recipe.epochs for recipe in recipes}) != 1:
        raise UsageError("Networks that train together need the same batch size and the same number of epochs.")


def _orders(
    samples: Samples, seeds: Sequence[int], counts: Sequence[int], epochs: Iterable[int], shuffle: bool, ahead: bool
) -> Iterator[tuple[int, list[Order]]]:
    """Each epoch, and the order of each network's rows in it: one object for equal seeds and numbers of rows.

    ahead: draw the next epoch's orders while this one is computed.
    """

    def draw(epoch: int) -> list[Order]:
        pairs = set(zip(seeds, counts, strict=True))
        drawn = {(seed, rows): samples.order(seed, epoch, rows, shuffle) for seed, rows in pairs}
        return [drawn[key] for key in zip(seeds, counts, strict=True)]

    if not ahead:
        yield from ((epoch, draw(epoch)) for epoch in epochs)
        return
    with ThreadPoolExecutor(1) as worker:
        coming: deque[tuple[int, Future[list[Order]]]] = deque()
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
