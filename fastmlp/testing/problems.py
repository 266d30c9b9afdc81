"""What the checks of steps and epochs train: networks and rows drawn so that every wrong digit shows.

The truth is `reference.training`. Rounding may decide on which side of ReLU's kink a hidden unit lies and which of two
equal classes wins: so the rows of each batch are drawn one batch after another, away from both at the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend
from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.network.parameters import DTYPES, Parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.check import Check, where_held
from fastmlp.testing.compare import HostArray, assert_equal
from fastmlp.testing.reference import training as reference

KINK = 1e-4  # how far rows keep from ReLU's kink and from two equal logits, against a spread of about 1
RATES = {"sgd": 0.5, "momentum": 0.03, "adam": 0.003}
SCALE = 0.7
PLAIN = SGD()
TRIES = 6  # draws of each batch, of which the one is taken that magnifies rounding errors least
ROUNDINGS = 8  # how many roundings of its terms a gradient may be off by, where Adam divides it by its own size

Slots = dict[str, HostArray]  # "value of weight 0", "velocity of bias 1", ...
Plan = tuple[tuple[int, int], ...]
Placed = tuple[Array, Array, Array]  # on a device: features, labels, weights of losses


@dataclass(frozen=True)
class Case:
    """A network and how it is trained; centred: on standardised features, with another mean for every column.

    turn: its number among networks trained together, of which each has rates, a mean and a scale of its own.
    """

    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    optimizer: Optimizer = PLAIN
    centred: bool = False
    weighted: bool = False
    smoothing: float = 0.0
    turn: int = 0

    @property
    def network(self) -> str:
        extras = [what for what in ("centred", "weighted") if getattr(self, what)]
        extras += [f"smoothing {self.smoothing:g}"] if self.smoothing else []
        sizes = "-".join(map(str, self.sizes))
        return " ".join([sizes, f"{self.rows} rows in batches of {self.batch_size}", *extras])

    @property
    def method(self) -> str:
        """The optimizer, and what else tells it from others of its kind."""
        plain = [] if getattr(self.optimizer, "nesterov", True) else ["without nesterov"]
        decay = [f"decay {self.optimizer.weight_decay:g}"] if self.optimizer.weight_decay else []
        return " ".join([self.optimizer.name, *plain, *decay])

    def __str__(self) -> str:
        return f"{self.network} by {self.method}"

    def tiers(self, backend: Backend, dtype: str) -> Iterator[Tier | None]:
        """See `tiers`."""
        return tiers(backend, self.sizes, dtype, self.optimizer, self.batch_size, self.weighted, self.smoothing)

    @property
    def mean(self) -> HostArray:
        """Of each column (d,); zeros if the features are not standardised."""
        return single(np.linspace(self.turn - 1, 2, self.sizes[0])) * self.centred

    @property
    def scale(self) -> float:
        return SCALE * (1 + 0.25 * self.turn) if self.centred else 1.0

    def rates(self, rows: int) -> NDArray[np.float64]:
        """Another learning rate for every step over that many rows."""
        steps = -(-rows // self.batch_size)
        return RATES[self.optimizer.name] * (1 - 0.1 * self.turn) * np.linspace(1, 0.3, steps)

    @property
    def rule(self) -> reference.Rule:
        """The optimizer as the reference knows it."""
        own = {name: getattr(self.optimizer, name) for name in ("momentum", "nesterov") if name in vars(self.optimizer)}
        return reference.Rule(self.optimizer.name, self.optimizer.weight_decay, **own)


@dataclass(frozen=True, eq=False)
class Data:
    """Rows to train on: features (n, d), labels int64 (n,), weights of their losses (n,)."""

    features: HostArray
    labels: NDArray[np.int64]
    weights: HostArray

    @classmethod
    def draw(cls, rng: np.random.Generator, case: Case) -> Data:
        """More rows than an epoch takes; the last class is among the labels."""
        count = 2 * max(case.rows, 20)
        features = case.mean + rng.standard_normal((count, case.sizes[0]))
        labels = rng.integers(0, case.sizes[-1], count)
        labels[::7] = case.sizes[-1] - 1
        weights = single(rng.uniform(0.2, 3, count))
        weights[3::11] = 0
        return cls(single(features), labels, weights)

    def place(self, backend: Backend, dtype: str) -> Placed:
        """On the device, features and weights in that dtype."""
        arrays = (self.features.astype(dtype), self.labels.copy(), self.weights.astype(dtype))
        features, labels, weights = map(backend.asarray, arrays)
        return features, labels, weights

    def assert_unchanged(self, what: str, backend: Backend, placed: Sequence[Array]) -> None:
        for name, array in zip(("features", "labels", "weights"), placed, strict=True):
            got = backend.to_numpy(array)
            assert_equal(f"{what}: changed the {name}", got, getattr(self, name).astype(got.dtype))


@dataclass(frozen=True)
class Epoch:
    """One pass over rows of the data of that number, and what it comes to: the sum of losses, and hits."""

    data: int
    order: NDArray[np.int64]
    rates: NDArray[np.float64]
    loss: float
    hits: int


@dataclass(frozen=True)
class Problem:
    """A case drawn: its first parameters, its epochs in turn, and what they leave.

    exact, single: the network that the reference leaves, in float64 and float32. slack: by how much rounding alone may
    move each of Adam's values, by dtype. All floats are float64 holding float32 values, so that both dtypes start from
    the same numbers.
    """

    case: Case
    parameters: Parameters
    data: tuple[Data, ...]
    epochs: Sequence[Epoch]
    exact: reference.Network
    single: reference.Network
    single_losses: Sequence[float]
    slack: dict[str, Slots]

    @classmethod
    @cache
    def draw(cls, case: Case, seed: int, plan: Plan | None = None, given: tuple[Data, ...] | None = None) -> Problem:
        """plan: the number of the data and of the rows of each epoch; by default one epoch of the case's rows.

        given: the data to train on, if they are not to be drawn.
        """
        rng = np.random.default_rng([seed, *case.sizes, case.batch_size, case.rows])
        parameters = first_parameters(case, rng)
        plan = plan or ((0, case.rows),)
        data = given or tuple(Data.draw(rng, case) for _ in range(1 + max(number for number, _ in plan)))
        walk = _Walk(case, parameters, rng)
        epochs = [walk.epoch(number, data[number], rows) for number, rows in plan]
        by_numpy = start(case, parameters, "float32")
        losses = [_again(by_numpy, case, data[epoch.data], epoch) for epoch in epochs]
        return cls(case, parameters, data, epochs, walk.network, by_numpy, losses, walk.slack)

    @property
    def steps(self) -> int:
        return self.exact.steps


def first_parameters(case: Case, rng: np.random.Generator) -> Parameters:
    """Weights of He's size (2015, eq. 10), and biases that are not zero."""
    weights = tuple(single(np.sqrt(2 / k) * rng.standard_normal((k, n))) for k, n in pairwise(case.sizes))
    return Parameters(weights, tuple(single(0.3 * rng.standard_normal(n)) for n in case.sizes[1:]))


def bind(case: Case, parameters: Parameters, backend: Backend, dtype: str, tier: Tier | None) -> Trainer:
    """Raises AssertionError if another tier is bound than was asked for."""
    first = parameters.astype(dtype)
    trainer = Trainer(first, backend, case.batch_size, tier, case.optimizer, case.weighted, case.smoothing)
    if case.centred:
        trainer.standardize(case.mean, case.scale)
    if tier is not None and trainer.tier.tier != tier:
        raise AssertionError(f"{backend}: {tier.label} was requested, {trainer.tier} was bound")
    return trainer


def start(case: Case, parameters: Parameters, dtype: str) -> reference.Network:
    """The network as the reference trains it."""
    first = parameters.astype(dtype)
    mean = case.mean.astype(dtype) if case.centred else None
    return reference.Network.start(first.weights, first.biases, case.rule, mean, case.scale, case.smoothing)


def away_from_kinks(network: reference.Network, features: HostArray, distance: float = KINK) -> NDArray[np.bool_]:
    """Which rows have no hidden unit near ReLU's kink, and one class that is clearly the largest."""
    passed = reference.forward_and_backward(network, features, np.zeros(len(features), np.int64))
    second, first = np.sort(passed.logits, axis=1)[:, -2:].T
    away: NDArray[np.bool_] = first - second > distance
    for z in passed.before_relu:
        away &= (np.abs(z) > distance).all(axis=1)
    return away


class _Walk:
    """Trains the reference batch by batch, on rows that it draws for each; adds up the slack."""

    def __init__(self, case: Case, parameters: Parameters, rng: np.random.Generator) -> None:
        self.case, self.rng = case, rng
        self.network = start(case, parameters, "float64")
        self.slack = {dtype: {name: np.zeros_like(v) for name, v in slots_of(self.network).items()} for dtype in DTYPES}

    def epoch(self, number: int, data: Data, rows: int) -> Epoch:
        size, rates = self.case.batch_size, self.case.rates(rows)
        batches, loss, hits = [], 0.0, 0
        for first, rate in zip(range(0, rows, size), rates, strict=True):
            tried = (self._try(data, min(size, rows - first), rate) for _ in range(TRIES))
            best = min(tried, key=lambda tried: tried.amplification)
            self.network = best.network
            self._add_slack(best.uncertain, rate)
            batches.append(best.rows)
            loss, hits = loss + best.passed.losses.sum(), hits + int(best.passed.hits.sum())
        return Epoch(number, np.concatenate(batches), rates, loss, hits)

    def _try(self, data: Data, count: int, rate: float) -> _Tried:
        """A step on rows that are away from kinks and ties as the network is now; some may come twice."""
        drawn = self.rng.integers(0, len(data.labels), 3 * count + 20)
        away = away_from_kinks(self.network, data.features[drawn])
        if away.sum() < count:
            raise RuntimeError(f"{self.case}: {away.sum()} of {len(away)} rows are away from kinks, {count} are needed")
        rows = drawn[away][:count]
        weights = data.weights[rows] if self.case.weighted else None
        passed = reference.forward_and_backward(self.network, data.features[rows], data.labels[rows], weights)
        network = replace(self.network, weights=[*self.network.weights], biases=[*self.network.biases])
        network.steps = self.network.steps
        reference.take_step(network, passed, rate)
        return _Tried(rows, passed, network, rate)

    def _add_slack(self, uncertain: Slots, rate: float) -> None:
        for dtype, slack in self.slack.items():
            for name, of_one_rounding in uncertain.items():
                slack[name] += rate * np.minimum(ROUNDINGS * float(np.finfo(dtype).eps) * of_one_rounding, 2)


@dataclass
class _Tried:
    """A step tried: its rows, how it passed, and the network after it."""

    rows: NDArray[np.int64]
    passed: reference.Pass
    network: reference.Network
    rate: float

    @cached_property
    def terms(self) -> Slots:
        """The sum of the absolute terms that each gradient consists of: its rounding errors are roundings of those."""
        layers = list(enumerate(zip(self.passed.inputs, self.passed.deltas, strict=True)))
        weights = {f"weight {layer}": np.abs(inputs).T @ np.abs(delta) for layer, (inputs, delta) in layers}
        return weights | {f"bias {layer}": np.abs(delta).sum(axis=0) for layer, (_, delta) in layers}

    @cached_property
    def uncertain(self) -> Slots:
        """By how many of its steps a rounding moves a value that Adam divides by the root of its second moment."""
        if self.network.rule.name != "adam":
            return {}
        slots, unbias = slots_of(self.network), 1 - reference.BETA_2**self.network.steps
        return {
            f"value of {name}": terms / (np.sqrt(slots[f"second of {name}"] / unbias) + reference.EPSILON)
            for name, terms in self.terms.items()
        }

    @property
    def amplification(self) -> float:
        """By how much the step magnifies rounding errors, at the worst: of gradients, of moments, of Adam's values."""
        first = {"adam": ("first", 1 - reference.BETA_1), "momentum": ("velocity", 1.0)}.get(self.network.rule.name)
        slots, found = slots_of(self.network), [self.rate * terms.max() for terms in self.uncertain.values()]
        gradients = dict(zip(self.terms, itertools.chain(*self.passed.gradients), strict=True))
        for name, terms in self.terms.items():
            found.append(_ratio(terms, gradients[name]))
            if first:
                moment, share = first
                found.append(_ratio(share * terms, slots[f"{moment} of {name}"]))
        return max(found)


def _ratio(terms: HostArray, array: HostArray) -> float:
    """Of their largest numbers; 0 where there are no terms, as of a layer whose units are all off."""
    return float(terms.max() / np.abs(array).max()) if terms.any() else 0.0


def _again(network: reference.Network, case: Case, data: Data, epoch: Epoch) -> float:
    """The epoch in the network's own dtype; the sum of its losses."""
    dtype = network.weights[0][0].dtype
    weights = data.weights.astype(dtype) if case.weighted else None
    features = data.features.astype(dtype)
    return reference.train(network, features, data.labels, epoch.order, case.batch_size, epoch.rates, weights)[0]


def checks_of(
    what: str, backend: Backend, case: Case, seed: int, run: Callable[..., None], *, quick: bool
) -> Iterator[Check]:
    """run(backend, case, dtype, tier, seed), in each dtype and tier; what: the beginning of the checks' names."""
    for dtype in DTYPES[:1] if quick else DTYPES:
        for tier in case.tiers(backend, dtype):
            check = partial(run, backend, case, dtype, tier, seed)
            yield Check(f"{what}, {case.network}, {tier_name(tier)}, {dtype}", where_held(backend, dtype, check))


# Small parts.


def slots_of(network: reference.Network) -> Slots:
    """Every array that training changes, by its name."""
    names = ("value", *reference.MOMENTS[network.rule.name])
    return {
        f"{slot} of {kind} {layer}": array
        for kind, group in (("weight", network.weights), ("bias", network.biases))
        for layer, slots in enumerate(group)
        for slot, array in zip(names, slots, strict=True)
    }


def slots_of_trainer(trainer: Trainer) -> Slots:
    """The same of a trainer, on the host."""
    groups = (("weight", trainer.network.weights), ("bias", trainer.network.biases))
    return {
        f"{slot} of {kind} {layer}": np.array(trainer.backend.to_numpy(array))
        for kind, group in groups
        for slot, arrays in zip(("value", *trainer.optimizer.moments), [group.values, *group.moments], strict=True)
        for layer, array in enumerate(arrays)
    }


def single(array: NDArray[Any]) -> HostArray:
    """Float64, of values that float32 holds."""
    return array.astype(np.float32).astype(np.float64)


def tier_name(tier: Tier | None) -> str:
    return "best tier" if tier is None else tier.label


def tiers(
    backend: Backend,
    sizes: Sequence[int],
    dtype: str,
    optimizer: Optimizer | None = None,
    batch_size: int = 64,
    weighted: bool = False,
    smoothing: float = 0.0,
) -> Iterator[Tier | None]:
    """What to give `Trainer` so that all its code runs: None for the best tier, and every lower one."""
    yield None
    best = choose_tier(sizes, dtype, backend, optimizer, batch_size, weighted, smoothing).tier
    yield from (tier for tier in Tier if tier < max(best, Tier.FUSED_OPS))
