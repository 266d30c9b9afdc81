"""What drives a network through epochs: step by step on its ops, or a whole epoch in one call of a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Array, Backend, Data, EpochRunner
from fastmlp.common.errors import UsageError
from fastmlp.kernels import EpochKind, EpochTask
from fastmlp.network import evaluation
from fastmlp.network.buffers import Batch, slots_of
from fastmlp.network.evaluation import NO_ROWS, Figures, means
from fastmlp.network.network import Network
from fastmlp.network.optimizers import SGD, Optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.network.step_group import StepGroup
from fastmlp.network.tiers import Tier, TierChoice, tier_of
from fastmlp.ops.network import NetworkOps

NO_ORDER, NO_COEFFICIENTS = np.empty(0, np.int64), np.empty((0, 1))
FLOPS_WORTH_THREADS = 16_000_000  # of one product: about 0.1 ms on one core


class Trainer:
    """A network bound to a backend, an optimizer and a largest batch: a step then checks and copies nothing.

    tier: the best by default; weighted: for rows of different weights; smoothing: the share of a row's target that is
    spread over all classes while it trains; networks: how many train together. Not to be shared between threads.

    way: of the backend's ways (`Backend.by_way`), the one to go on by; None: the fastest that was measured here, if
    any was and no tier is given. Raises UsageError for a batch size below 1, or a tier that this network does not have
    on the backend, BackendError for a way that it does not have.
    """

    def __init__(
        self,
        parameters: Parameters,
        backend: Backend,
        batch_size: int,
        tier: Tier | None = None,
        optimizer: Optimizer | None = None,
        weighted: bool = False,
        smoothing: float = 0.0,
        networks: int = 1,
        way: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"The batch size must be 1 or more, not {batch_size}.")
        self.batch_size, self.sizes, self.dtype = batch_size, parameters.sizes, parameters.dtype
        self.optimizer, self.steps = SGD() if optimizer is None else optimizer, 0
        self.weighted, self.smoothing = weighted, smoothing
        kind = EpochKind(self.sizes, self.dtype, batch_size, self.optimizer, weighted, smoothing, networks=networks)
        as_measured = way is None and tier is None
        self.backend = backend = backend.fastest(kind) if as_measured else backend.by_way(way or "", kind)
        best = tier_of(kind, backend)
        self.tier = best if tier in (None, best.tier) else _lower_tier(best, Tier(tier), backend)
        array_code = tier == Tier.ARRAY_CODE
        ops = NetworkOps(backend.xp) if array_code else backend.network_ops
        self.network = Network(parameters, backend, self.optimizer, ops)
        self._batches: dict[int, Batch] = {}
        self._runner: EpochRunner | None = None
        self._group: StepGroup | None = None  # that it is the first of
        self._memory: dict[Any, Any] = {}

    # What is trained.

    @property
    def parameters(self) -> Parameters:
        """See `Network.parameters`."""
        return self.network.parameters

    def standardize(self, mean: NDArray[np.float64], scale: float) -> None:
        """See `Network.standardize`."""
        self.network.standardize(mean, scale)
        self._runner = None

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """All that training resumes from, to the last bit, copied to the host: assign it to a trainer like this one.

        The flat weights and biases (n,), the optimizer's moments of them, the number of steps taken (1,), and, where
        features are standardised, mean (inputs,) and scale (1,).
        """
        state = {name: np.array(self.backend.to_numpy(array)) for name, array in self._arrays()}
        state["steps"] = np.array([self.steps])
        if self.network.mean is not None:
            mean = np.array(self.backend.to_numpy(self.network.mean))
            state |= {"mean": mean, "scale": np.array([self.network.scale])}
        return state

    @state.setter
    def state(self, state: Mapping[str, NDArray[Any]]) -> None:
        for name, array in self._arrays():
            array[...] = self.backend.asarray(state[name])
        self.steps = int(state["steps"][0])
        if "mean" in state:
            self.standardize(state["mean"], state["scale"][0])

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        for kind, group in (("weights", self.network.weights), ("biases", self.network.biases)):
            yield kind, group.slots[0, ...]
            for moment in range(1, group.slots.shape[0]):
                yield f"moment_{moment}_{kind}", group.slots[moment, ...]

    # Epochs.

    def train_epoch(
        self, features: Array, labels: Array, order: NDArray[np.int64], learning_rates: NDArray[np.float64]
    ) -> Figures:
        """Mini-batch training over the rows in that order, one learning rate per step (steps,).

        Returns the mean loss and accuracy seen on the way. Raises UsageError if there are no rows, or not as many
        learning rates as batches.
        """
        return train_epoch_together([self], features, labels, [order], [learning_rates])[0]

    def gradients(self, data: Data, index: Array, loss: Array, hits: Array) -> None:
        """Fill the gradients of the mean loss over the rows that index names; loss, hits as `softmax_xent` does."""
        features, labels, weights = data
        batch, network = self._batch(index.shape[0]), self.network
        network.load(batch, features, labels, weights, index)
        network.forward(batch.activations, network.weights.values, network.biases.values)
        network.loss(batch, weights is not None, self.smoothing, loss, hits)
        network.backward(batch)

    def coefficients(self, learning_rates: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
        """The optimizer's numbers for each of the next steps, one pass over that many rows; counts the steps."""
        steps = -(-rows // self.batch_size)
        if rows == 0:
            raise UsageError(NO_ROWS)
        if np.shape(learning_rates) != (steps,):
            raise UsageError(f"Give one learning rate per step, {steps} here, not {np.size(learning_rates)}.")
        coefficients = self.optimizer.coefficients(learning_rates, self.steps + 1)
        self.steps += steps
        return coefficients

    def start_epoch(
        self, data: Data, order: NDArray[np.int64], coefficients: NDArray[np.float64]
    ) -> tuple[Array, Array]:
        """Hand an epoch of single ops to the device; its losses (steps,) and hits int64 (steps,) to come."""
        losses = self.backend.empty((len(coefficients),), self.dtype)
        hits = self.backend.empty((len(coefficients),), "int64")
        if self._runner is None:
            kernels = self.tier.tier > Tier.ARRAY_CODE
            self._runner = self.backend.epoch_runner(self.batch_size, kernels)
        with self.backend.without_autograd(), self._threading():
            self._runner(self._take_steps, data, order, coefficients, losses, hits)
        return losses, hits

    def group(self, others: Sequence[Trainer], own: Sequence[int]) -> StepGroup | None:
        """This network and others, to take steps together by those of the orders; None if steps are not fused."""
        if self.tier.tier == Tier.ARRAY_CODE:
            return None
        tasks = [replace(trainer.task(), memory={}) for trainer in (self, *others)]  # no circle: these hold the group
        if self._group is None or not self._group.is_of(tasks, own):
            steps = self.backend.fused_steps(tasks, own)
            self._group = None if steps is None else StepGroup(self.backend, steps, tasks, own)
        return self._group

    def _take_steps(self, data: Data, order: Array, coefficients: Sequence[Any], losses: Array, hits: Array) -> None:
        """Steps over the rows in that order, each by a row of the optimizer's coefficients."""
        split = self.backend.split
        batches = zip(split(order, self.batch_size), split(losses, 1), split(hits, 1), coefficients, strict=True)
        for index, loss, hit, row in batches:
            self.gradients(data, index, loss, hit)
            self.network.update(row)

    def task(
        self,
        order: NDArray[np.int64] = NO_ORDER,
        coefficients: NDArray[np.float64] = NO_COEFFICIENTS,
        row_weights: Array | None = None,
    ) -> EpochTask:
        """This network's epoch over those rows as a fused epoch takes it."""
        network = self.network
        return EpochTask(
            slots_of(network.weights, network.biases),
            self.optimizer,
            order,
            self.batch_size,
            coefficients,
            network.mean,
            network.scale,
            row_weights,
            self.smoothing,
            memory=self._memory,
        )

    def fuses(self, weighted: bool) -> bool:
        """Whether epochs of such rows are fused: of weighted ones only if it was bound for them."""
        return self.tier.tier == Tier.FUSED_EPOCH and self.weighted >= weighted

    def _threading(self) -> AbstractContextManager[Any]:
        """One thread for small products: two gain little from sharing them, and lose a lot where a core is busy."""
        largest = 2 * self.batch_size * max(weight.shape[0] * weight.shape[1] for weight in self.network.weights.values)
        return self.backend.one_thread() if largest < FLOPS_WORTH_THREADS else nullcontext()

    def _batch(self, rows: int) -> Batch:
        """Memory for a batch of that many rows, a part of the largest one's."""
        if rows not in self._batches:
            largest = self._batches.get(self.batch_size) or Batch.new(
                self.backend, self.batch_size, self.sizes, self.dtype
            )
            self._batches[self.batch_size] = largest
            self._batches[rows] = largest if rows == self.batch_size else largest.first(rows)
        return self._batches[rows]

    # Answers.

    def evaluate(self, features: Array, labels: Array) -> Figures:
        """Mean cross-entropy and accuracy over all rows. Raises UsageError if there are none."""
        count = features.shape[0]
        if self.tier.tier < Tier.FUSED_EPOCH or not self.backend.fuses_evaluation or count == 0:
            return evaluation.evaluate(self.network, features, labels)
        every_row = self.task(np.arange(count))
        [(loss, hits)] = self.backend.fused_evaluation([every_row], features, labels)
        return loss / count, hits / count

    def logits(self, features: Array) -> NDArray[Any]:
        """Logits (n, classes) of features (n, inputs), on the host."""
        return evaluation.logits(self.network, features)

    def logit_batches(self, features: Array) -> Iterator[NDArray[Any]]:
        """The same, batch by batch: of many classes, all rows' logits may not fit into memory."""
        return evaluation.logit_batches(self.network, features)


def _lower_tier(best: TierChoice, tier: Tier, backend: Backend) -> TierChoice:
    if tier > best.tier:
        raise UsageError(f"Backend {backend} has no tier {tier.value} for this network: its best is {best.tier.value}.")
    return TierChoice(tier, "requested")


def train_epoch_together(
    trainers: Sequence[Trainer],
    features: Array,
    labels: Array,
    orders: Sequence[NDArray[np.int64]],
    learning_rates: Sequence[NDArray[np.float64]],
    weights: Array | None = None,
) -> list[Figures]:
    """One epoch of each network over the same rows, each in its own order; its mean loss and accuracy.

    The trainers have one backend, shape and batch size. Every network ends as if trained alone. weights (n,), of
    the features' dtype and of mean 1, weigh each row's loss: a trainer of unweighted rows takes them op by op.
    """
    each = list(zip(trainers, orders, learning_rates, strict=True))
    coefficients = [trainer.coefficients(rates, len(order)) for trainer, order, rates in each]
    backend, data = trainers[0].backend, (features, labels, weights)
    if not all(trainer.fuses(weighted=weights is not None) for trainer in trainers):
        return _train_in_steps(trainers, data, orders, coefficients)
    epochs = list(zip(trainers, orders, coefficients, strict=True))
    tasks = [trainer.task(order, steps, weights) for trainer, order, steps in epochs]
    totals = backend.fused_epoch(tasks, features, labels)
    return [(loss / len(order), hits / len(order)) for (loss, hits), order in zip(totals, orders, strict=True)]


def _train_in_steps(
    trainers: Sequence[Trainer], data: Data, orders: Sequence[NDArray[np.int64]], coefficients: Sequence[Any]
) -> list[Figures]:
    """The same of networks whose epochs are not fused: all are handed to the device before any is waited for."""
    started: list[tuple[list[int], Array, Array]] = []
    for members in _alike(trainers, orders):
        distinct, own = _distinct([orders[n] for n in members])
        first, *others = (trainers[n] for n in members)
        if group := first.group(others, own):
            started.append((members, *group.start(data, distinct, [coefficients[n] for n in members])))
        else:
            started += (([n], *trainers[n].start_epoch(data, orders[n], coefficients[n])) for n in members)
    figures: dict[int, Figures] = {}
    for members, *sums in started:
        losses, hits = (trainers[0].backend.to_numpy(array).reshape(-1, len(members)) for array in sums)
        figures |= {n: means(losses[:, place], hits[:, place], len(orders[n])) for place, n in enumerate(members)}
    return [figures[n] for n in range(len(trainers))]


def _alike(trainers: Sequence[Trainer], orders: Sequence[NDArray[np.int64]]) -> Iterable[list[int]]:
    """The numbers of those with the same tier, and way of it, optimizer and number of steps, as many as go together."""
    found: dict[Any, list[int]] = {}
    for n, (trainer, order) in enumerate(zip(trainers, orders, strict=True)):
        rule = trainer.optimizer.name, tuple(sorted(trainer.optimizer.constants.items()))
        found.setdefault((trainer.tier.tier, trainer.backend.way, rule, len(order)), []).append(n)
    most = trainers[0].backend.most_networks
    return (members[start : start + most] for members in found.values() for start in range(0, len(members), most))


def _distinct(orders: Sequence[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], list[int]]:
    """Each order once, as networks of one seed share theirs, and which of them each network's is."""
    of_id = {id(order): order for order in orders}
    places = {name: place for place, name in enumerate(of_id)}
    return list(of_id.values()), [places[id(order)] for order in orders]
