"""A race of all ways in which a GPU trains a network: those that hold to the reference are timed, and ranked.

It trains networks of its own. What wins is chosen from then on, so kernels that no GPU has run before are held to
float64 first, on the same GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.backends.cuda_ranking import COUNTS, Found
from fastmlp.backends.cupy import CudaBackend
from fastmlp.common.errors import UsageError
from fastmlp.common.progress import say, warn
from fastmlp.kernels import EpochKind
from fastmlp.network.optimizers import Optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.testing.epochs import assert_epochs
from fastmlp.testing.problems import Case
from fastmlp.testing.sequences import assert_together

ROWS = 20_000  # of features, which an epoch takes again and again
STEPS, WORK = 256, 2**35  # of an epoch, and its multiply-adds: milliseconds, beside which a launch is little
LEAST_STEPS = 8
WARM_UP, ROUNDS = 2, 5  # epochs of each way: the first compiles, the second records steps
RATE = 1e-4  # at which no network diverges


@dataclass(frozen=True)
class Network:
    """What is to be trained: inputs, hidden units and classes, and its steps."""

    sizes: tuple[int, ...]
    batch_size: int
    optimizer: Optimizer

    def kind(self, together: int = 1) -> EpochKind:
        return EpochKind(self.sizes, "float32", self.batch_size, self.optimizer, networks=together)

    def steps(self, together: int) -> int:
        """Of an epoch to be timed."""
        weights = sum(inputs * units for inputs, units in pairwise(self.sizes))
        return max(LEAST_STEPS, min(STEPS, WORK // (together * self.batch_size * weights)))


def measure(
    backend: Backend,
    network: Network,
    clock: Callable[[], float] = time.perf_counter,
    counts: Sequence[int] = COUNTS,
    steps: int = STEPS,
) -> dict[int, list[Found]]:
    """Rank the backend's ways for so many such networks at once, and keep the rankings for training to go by.

    Of each way, fastest first, its name and either us a step and network, or what is wrong with it. Raises UsageError
    for a backend that does not choose by measurement.
    """
    if not isinstance(backend, CudaBackend) or backend.ranking is None:
        raise UsageError(f"Backend {backend} needs no measurement to choose its kernels: --measure is for cupy.")
    right, wrong = _judged(backend, network)
    found = {}
    for count in counts:
        rows = _Rows.draw(backend, network, min(steps, network.steps(count)))
        timed = _timed(right, network, rows, count, clock)
        found[count] = backend.ranking.keep(network.kind(count), [*timed, *wrong])
    return found


def table(found: Mapping[int, Sequence[Found]]) -> str:
    """In Markdown: the ways that have a time, by that of one network alone, then what is wrong with the others."""
    counts, first = list(found), next(iter(found.values()))
    times = {count: {one["way"]: one["us"] for one in of_count if "us" in one} for count, of_count in found.items()}
    lines = ["| us a step and network, of so many together | " + " | ".join(map(str, counts)) + " |"]
    lines.append("| --- |" + " ---: |" * len(counts))
    for one in first:
        cells = [f"{times[count][one['way']]:.2f}" if "us" in one else "wrong" for count in counts]
        lines.append(f"| {one['way']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# Whether they are right.


def _judged(backend: CudaBackend, network: Network) -> tuple[list[CudaBackend], list[Found]]:
    """The ways that hold to the reference, and what is wrong with the others."""
    right, wrong = [], []
    for way in backend.rivals(network.kind()):
        say(f"Checking {way.way}.")
        try:
            _assert_right(way, network)
        except Exception as error:  # noqa: BLE001  (CuPy, NVRTC and the driver each raise their own; others may run)
            wrong.append({"way": way.way, "wrong": f"{type(error).__name__}: {error}"})
            warn(f"It cannot be chosen: {wrong[-1]['wrong']}")
        else:
            right.append(way)
    return right, wrong


def _assert_right(way: CudaBackend, network: Network) -> None:
    """Every weight, moment, loss and hit, in each kind of epoch that is compiled by itself; and of two networks."""
    size = network.batch_size
    plain = Case(network.sizes, size, 2 * size + size // 2 + 1, network.optimizer)
    centred = replace(plain, centred=True)
    for case in (plain, centred, replace(centred, weighted=True, smoothing=0.1)):
        assert_epochs(way, case, "float32", None)
    assert_together([replace(centred, turn=1)], way, centred, "float32", None)


# How fast they are.


def _timed(
    ways: Sequence[CudaBackend], network: Network, rows: _Rows, count: int, clock: Callable[[], float]
) -> list[Found]:
    """Of each way us a step and network. Round by round, so that a GPU that slows down does so for all."""
    epochs = [_Epoch.of(way, network, rows, count) for way in ways]
    for epoch in epochs * WARM_UP:
        epoch()
    rounds = [[epoch.seconds(clock) for epoch in epochs] for _ in range(ROUNDS)]
    medians = [median(seconds) for seconds in zip(*rounds, strict=True)]
    return [
        {"way": way.way, "us": round(1e6 * seconds / epoch.steps, 3)}
        for way, epoch, seconds in zip(ways, epochs, medians, strict=True)
    ]


@dataclass(frozen=True)
class _Rows:
    """What all networks train on: features (n, d) and labels (n,) on the device, and the order of an epoch's rows."""

    features: Array
    labels: Array
    order: NDArray[np.int64]

    @classmethod
    def draw(cls, backend: CudaBackend, network: Network, steps: int) -> _Rows:
        rng, count = np.random.default_rng(0), steps * network.batch_size
        rows = min(ROWS, count)
        features = rng.standard_normal((rows, network.sizes[0]), dtype=np.float32)
        labels = rng.integers(0, network.sizes[-1], rows)
        return cls(backend.asarray(features), backend.asarray(labels), rng.integers(0, rows, count))


@dataclass(frozen=True)
class _Epoch:
    """Of networks that train together; of one, where each takes its steps by itself, as others come after it."""

    trainers: Sequence[Trainer]
    rows: _Rows

    @classmethod
    def of(cls, way: CudaBackend, network: Network, rows: _Rows, count: int) -> _Epoch:
        first = initial_parameters(network.sizes, "he")
        networks = [Trainer(first, way, network.batch_size, None, network.optimizer) for _ in range(count)]
        together = networks[0].fuses(weighted=False) or networks[0].group((), [0])
        return cls(networks if together else networks[:1], rows)

    @property
    def _rates(self) -> NDArray[np.float64]:
        return np.full(len(self.rows.order) // self.trainers[0].batch_size, RATE)

    @property
    def steps(self) -> int:
        """Of all networks."""
        return len(self.trainers) * len(self._rates)

    def __call__(self) -> None:
        each = len(self.trainers)
        orders, rates = [self.rows.order] * each, [self._rates] * each
        train_epoch_together(self.trainers, self.rows.features, self.rows.labels, orders, rates)

    def seconds(self, clock: Callable[[], float]) -> float:
        """train_epoch_together returns figures, so the device has done its work then."""
        began = clock()
        self()
        return clock() - began
