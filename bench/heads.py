"""The problem of training many heads on the same features: each must end as if it were trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.network.parameters import Parameters, initial_parameters

from .contenders import Problem
from .training import BATCH, PAPER, Training, draw

LEARNING_RATES = tuple(np.geomspace(0.001, 0.03, 8).tolist())
SEEDS = 4
# By the number of heads, the learning rates and seeds that make so many; 132: one for every multiprocessor of an H200.
GRIDS = {
    1: (LEARNING_RATES[:1], 1),
    **{len(LEARNING_RATES) * seeds: (LEARNING_RATES, seeds) for seeds in (1, 2, SEEDS, 8)},
    132: (tuple(np.geomspace(0.001, 0.03, 12).tolist()), 11),
}


@dataclass(frozen=True, kw_only=True)
class Heads(Problem):
    """`heads` trained for one epoch on the same features, ordered by seed, then by learning rate.

    Heads of one seed start from the same weights and see the same batches; contenders may exploit that.
    """

    heads: Sequence[Training]
    learning_rates: Sequence[float]
    judged: int | None = None  # that many heads are checked, evenly spaced; None: all

    @property
    def features(self) -> NDArray[np.float32]:
        return self.heads[0].features

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.heads[0].labels

    @property
    def batch_size(self) -> int:
        return self.heads[0].batch_size

    @property
    def of_seeds(self) -> Sequence[Training]:
        """The first head of each seed, which has everything that the seed's heads share."""
        return self.heads[:: len(self.learning_rates)]

    def check(self, what: str, result: Sequence[Parameters]) -> None:
        """Check loss and accuracy of the judged heads against each of them trained alone in float64."""
        pairs = list(zip(self.heads, result, strict=True))
        for number in np.linspace(0, len(pairs) - 1, self.judged or len(pairs), dtype=int):
            head, got = pairs[number]
            head.check(f"{what}, head {number + 1}", got)


def draw_heads(
    threads: int,
    rows: int,
    learning_rates: Sequence[float] = LEARNING_RATES,
    seeds: int = SEEDS,
    device: str = "cpu",
    judged: int | None = None,
    sizes: tuple[int, ...] = PAPER,
    batch_size: int = BATCH,
) -> Heads:
    """One head from every seed at every learning rate."""
    one = draw("sweep", threads, rows=rows, device=device, sizes=sizes, batch_size=batch_size)
    of_seeds = [
        replace(
            one,
            parameters=initial_parameters(sizes, "he", seed),
            order=np.random.default_rng(seed).permutation(rows),
        )
        for seed in range(seeds)
    ]
    heads = [replace(head, learning_rate=rate) for head in of_seeds for rate in learning_rates]
    return Heads(
        suite="sweep",
        threads=threads,
        title=f"{len(heads)} heads at once, {one.title}",
        unit="step and head",
        units=len(heads) * one.steps,
        heads=heads,
        learning_rates=learning_rates,
        judged=judged,
        rounds=1,
        device=device,
    )


# How peers lay the heads out.


def batches(problem: Heads) -> list[NDArray[Any]]:
    """Row indices int32 (steps, seeds, m): of all full batches, then of the rest, if any."""
    orders = np.stack([head.order for head in problem.of_seeds]).astype(np.int32)
    seeds, rows = orders.shape
    full = rows // problem.batch_size * problem.batch_size
    whole = orders[:, :full].reshape(seeds, -1, problem.batch_size).swapaxes(0, 1)
    rest = orders[None, :, full:]
    return [part for part in (whole, rest) if part.size]


def first_weights(problem: Heads) -> list[NDArray[Any]]:
    """W1, b1, W2, b2, ... of each seed (seeds, ...)."""
    starts = [head.parameters for head in problem.of_seeds]
    layers = range(len(starts[0].weights))
    return [
        np.stack(arrays)
        for layer in layers
        for arrays in ([start.weights[layer] for start in starts], [start.biases[layer] for start in starts])
    ]


def parameters_of(arrays: Sequence[NDArray[Any]]) -> list[Parameters]:
    """The parameters of each head, from W1, b1, W2, b2, ... (seeds, rates, ...)."""
    of_heads = zip(*(array.reshape(-1, *array.shape[2:]) for array in arrays), strict=True)
    return [Parameters(head[::2], head[1::2]) for head in of_heads]
