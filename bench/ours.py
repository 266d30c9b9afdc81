"""Ourselves as contenders: every usable backend in every tier it has; and the floor under all contenders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.accel import together
from fastmlp.backends import names, open_backend, probe
from fastmlp.backends.base import Backend
from fastmlp.backends.cupy import OP_BY_OP
from fastmlp.backends.numpy import blas
from fastmlp.estimators.classifier import MLPClassifier
from fastmlp.estimators.regressor import MLPRegressor
from fastmlp.network.parameters import Parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import Trainer, train_epoch_together
from fastmlp.testing.compare import assert_close
from fastmlp.testing.problems import tiers
from fastmlp.testing.tolerances import STEP
from fastmlp.training.samples import Samples

from . import devices
from .contenders import AbsentError, Bound, Contender, Problem
from .heads import Heads
from .imitating import Fitting, Imitating, Make, Searching, fitted_by, searched_by
from .training import PAPER, Training, train_epoch

ON_GPU = ("cupy", "torch")

# Backends.


def contenders(bind: Callable[[Any, Any], Bound], backends: Sequence[str] | None = None) -> list[Contender]:
    """One contender per given (or registered) backend, for work without tiers."""
    return [Contender(f"fastmlp {name}", "ours", partial(_with_backend, name, bind)) for name in backends or names()]


def training() -> Iterator[Contender]:
    """Every backend in every tier, best first; a backend that cannot run here is one contender, reported as absent."""
    for name in names():
        if not probe(name).usable:
            yield Contender(f"fastmlp {name}", "ours", partial(_with_backend, name, partial(train, tier=None)))
            continue
        backend = open_backend(devices.CPU_BACKENDS.get(name, name))
        for tier in tiers(backend, PAPER, "float32"):
            chosen = tier or choose_tier(PAPER, "float32", backend).tier
            label = "array code" if tier == Tier.ARRAY_CODE else f"tier {chosen.value}"
            bind = partial(_with_backend, name, partial(train, tier=tier))
            yield Contender(f"fastmlp {name}, {label}", "ours", bind)


def training_on_gpu() -> Iterator[Contender]:
    """CuPy in each tier, absent from one that this GPU does not have, and PyTorch's array engine."""
    for tier, label in ((Tier.FUSED_EPOCH, "tier 3"), (Tier.FUSED_OPS, "tier 2"), (Tier.ARRAY_CODE, "array code")):
        bind = partial(_with_backend, "cupy", partial(train, tier=tier))
        yield Contender(f"fastmlp cupy, {label}", "ours", bind)
    yield Contender("fastmlp cupy, tier 2, op by op", "ours", partial(train_in_steps, OP_BY_OP))
    yield Contender("fastmlp torch", "ours", partial(_with_backend, "torch", partial(train, tier=None)))


def growing() -> Iterator[Contender]:
    """Each usable backend with the tier it chooses itself, and the fused ops beside a fused epoch."""
    for name in filter(lambda name: probe(name).usable, names()):
        yield Contender(f"fastmlp {name}", "ours", partial(_with_backend, name, partial(train, tier=None)))
        best = choose_tier(PAPER, "float32", open_backend(devices.CPU_BACKENDS.get(name, name))).tier
        if best > Tier.FUSED_OPS:
            bind = partial(_with_backend, name, partial(train, tier=Tier.FUSED_OPS))
            yield Contender(f"fastmlp {name}, tier 2", "ours", bind)


def fitting() -> list[Contender]:
    """MLPClassifier on every registered backend."""
    return contenders(fit)


def train_with(name: str, problem: Training, tier: Tier | None) -> Bound:
    return _with_backend(name, partial(train, tier=tier), problem)


def train_in_steps(way: str, problem: Training) -> Bound:
    """By CuPy, in tier 2, in that way whatever the size of the batches."""

    def bind(backend: Backend, problem: Training) -> Bound:
        (confined,) = (one for one in backend.step_ways() if one.way == way)
        return train(confined, problem, Tier.FUSED_OPS)

    return _with_backend("cupy", bind, problem)


def _with_backend(name: str, bind: Callable[..., Bound], problem: Problem) -> Bound:
    """The backend is reopened for each problem, with its device and number of threads."""
    return bind(devices.backend(name, problem), problem)


# Training.


def train(backend: Backend, problem: Training, tier: Tier | None) -> Bound:
    """One epoch per run, from the weights that the previous run left."""
    weighted = problem.row_weights is not None
    best = choose_tier(problem.parameters.sizes, "float32", backend, batch_size=problem.batch_size, weighted=weighted)
    if tier is not None and tier > best.tier:
        raise AbsentError(f"{best.reason}.")
    trainer = Trainer(problem.parameters, backend, problem.batch_size, tier, weighted=weighted)
    samples = Samples.place(backend, problem.features, problem.labels, "float32", weights=problem.row_weights)

    def run() -> None:
        train_epoch(trainer, samples, problem)
        backend.synchronize()

    return Bound(run, lambda: trainer.parameters, tier_facts(trainer))


def train_together(backend: Backend, problem: Heads) -> Bound:
    """One epoch of all heads per run, in one call, likewise."""
    trainers = [Trainer(head.parameters, backend, head.batch_size) for head in problem.heads]
    samples = Samples.place(backend, problem.features, problem.labels, "float32")
    orders = [head.order for head in problem.heads]
    rates = [np.full(head.steps, head.learning_rate) for head in problem.heads]

    def run() -> None:
        train_epoch_together(trainers, samples.features, samples.labels, orders, rates)
        backend.synchronize()

    return Bound(run, lambda: [trainer.parameters for trainer in trainers], tier_facts(trainers[0]))


def tier_facts(trainer: Trainer) -> dict[str, str | int]:
    return {"tier": trainer.tier.tier.value, "tier_reason": trainer.tier.reason}


def fit(backend: Backend, problem: Training) -> Bound:
    """MLPClassifier, one whole fit per run; it draws the same initial weights as the problem."""
    X, y = problem.features[problem.order], problem.labels[problem.order]
    clf = MLPClassifier(
        preset="paper",
        hidden_layer_sizes=problem.parameters.sizes[1:-1],
        backend=str(backend),
        max_iter=problem.epochs,
        batch_size=problem.batch_size,
        learning_rate_init=problem.learning_rate,
        init="he",
        shuffle=False,
        random_state=0,
    )
    return Bound(lambda: clf.fit(X, y), lambda: Parameters(tuple(clf.coefs_), tuple(clf.intercepts_)))


# scikit-learn's training.


def fit_as_sklearn(backend: Backend, problem: Fitting) -> Bound:
    return fitted_by(problem, _imitating(backend, problem))


def search_as_sklearn(backend: Backend, problem: Searching, side_by_side: bool = False) -> Bound:
    """In turn, as by default, or within `together`."""
    return searched_by(problem, _imitating(backend, problem), together if side_by_side else nullcontext)


def searching() -> list[Contender]:
    """On Numba and NumPy, in turn and together."""
    in_turn = contenders(search_as_sklearn, ("numba", "numpy"))
    at_once = contenders(partial(search_as_sklearn, side_by_side=True), ("numba", "numpy"))
    return [*in_turn, *(replace(contender, name=f"{contender.name}, together") for contender in at_once)]


def _imitating(backend: Backend, problem: Imitating) -> Make:
    """Our class in the place of scikit-learn's."""
    if problem.classifies:
        return partial(MLPClassifier, preset="sklearn", backend=str(backend))
    return partial(MLPRegressor, backend=str(backend))


# The floor.


def products(problem: Training, threads: int | None) -> Bound:
    """A0 W1 and A0' dZ1 of one batch, in cache, written in place by NumPy's BLAS.

    threads=None takes all; with products as small as these, one thread is often faster than two.
    """
    rng = np.random.default_rng(0)
    rows, inputs, hidden = problem.batch_size, *problem.parameters.weights[0].shape
    a, w, dz = (_noise(rng, shape) for shape in ((rows, inputs), (inputs, hidden), (rows, hidden)))
    z, dw = np.empty((rows, hidden), np.float32), np.empty((inputs, hidden), np.float32)

    def run() -> None:
        with blas().limit(limits=threads or problem.threads):
            for _ in range(problem.steps):
                np.matmul(a, w, out=z)
                np.matmul(a.T, dz, out=dw)

    def check(what: str) -> None:
        for product, left, right in ((z, a, w), (dw, a.T, dz)):
            assert_close(what, product, left.astype(np.float64) @ right, STEP["float32"])

    return Bound(run, check=check)


def all_products(problem: Training) -> Bound:
    """Every product of one batch's step, layer by layer, likewise."""
    rng = np.random.default_rng(0)
    rows, threads = problem.batch_size, problem.threads
    layers = []
    for number, (inputs, units) in enumerate(pairwise(problem.parameters.sizes)):
        a, w, dz = (_noise(rng, shape) for shape in ((rows, inputs), (inputs, units), (rows, units)))
        layers += [(a, w, np.empty_like(dz)), (a.T, dz, np.empty_like(w))]
        layers += [(dz, w.T, np.empty_like(a))] if number > 0 else []

    def run() -> None:
        with blas().limit(limits=threads):
            for _ in range(problem.steps):
                for left, right, out in layers:
                    np.matmul(left, right, out=out)

    def check(what: str) -> None:
        for left, right, out in layers:
            assert_close(what, out, left.astype(np.float64) @ right, STEP["float32"])

    return Bound(run, check=check)


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


FLOORS = (
    Contender("two products alone, 1 thread", "floor", partial(products, threads=1)),
    Contender("two products alone, all threads", "floor", partial(products, threads=None)),
)
