"""Fused epochs that cheat fail the public check, every one of them; the honest one here, which is NumPy, passes it."""

import re
from collections.abc import Callable, Sequence
from itertools import chain
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp.backends.base import Array
from fastmlp.backends.numpy import NumpyBackend
from fastmlp.kernels import EpochKind, EpochTask
from fastmlp.network.parameters import Parameters
from fastmlp.network.tiers import Tier
from fastmlp.network.trainer import Trainer
from fastmlp.ops.network import NetworkOps
from fastmlp.testing import check_backend, running

Epoch = Callable[[EpochTask, Array, Array], tuple[float, int]]

xp = NumpyBackend.xp


def honest_epoch(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    """An epoch of plain gradient descent, in NumPy."""
    ((w1, b1), (w2, b2)), total, hits = task.slots[0], 0.0, 0
    for step, (kept, rate) in enumerate(task.coefficients):
        rows = task.order[step * task.batch_size : (step + 1) * task.batch_size]
        x, y, each = features[rows], labels[rows], np.arange(len(rows))
        if task.mean is not None:
            x = (x - task.mean) * task.scale
        hidden = np.maximum(x @ w1 + b1, 0)
        logits = hidden @ w2 + b2
        shifted = logits - logits.max(axis=1, keepdims=True)
        sums = np.exp(shifted).sum(axis=1)
        total += float(np.sum(np.log(sums) - shifted[each, y]))
        hits += int(np.sum((logits.argmax(axis=1) == y) & ~np.isnan(logits).any(axis=1)))
        delta = np.exp(shifted) / sums[:, None]
        delta[each, y] -= 1
        delta /= len(rows)
        back = delta @ w2.T * (hidden > 0)
        gradients = (x.T @ back, back.sum(axis=0), hidden.T @ delta, delta.sum(axis=0))
        for array, gradient, share in zip((w1, b1, w2, b2), gradients, (kept, 1, kept, 1), strict=True):
            array[...] = share * array - rate * gradient
    return total, hits


class Claims(NumpyBackend):
    """NumPy, with a fused epoch for one hidden layer and plain gradient descent."""

    name = "claims"

    def __init__(self, epoch: Epoch) -> None:
        super().__init__()
        self.epoch = epoch

    def fused_epoch_refusal(self, kind: EpochKind) -> str:
        plain = len(kind.sizes) == 3 and kind.optimizer.name == "sgd" and not kind.weighted and not kind.smoothing
        return "" if plain else "it is not for that"

    def fused_epoch(self, tasks: Sequence[EpochTask], features: Array, labels: Array) -> list[tuple[float, int]]:
        return [self.epoch(task, features, labels) for task in tasks]


def check_epoch(epoch: Epoch) -> str:
    """The messages of what the check of a fused epoch finds wrong."""
    report = check_backend(Claims(epoch), only="sgd run, 24-16-10")
    return "\n".join(result.message for result in report.having("failed"))


def test_an_honest_fused_epoch_passes() -> None:
    check_backend(Claims(honest_epoch), only="sgd ").raise_for_failures()


def epoch_of_nothing(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    return 0.0, 0


def epoch_of_figures_alone(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    """The right loss and hits, from copies: the weights stay."""
    copied = [[(w.copy(), b.copy()) for w, b in task.slots[0]]]
    return honest_epoch(SimpleNamespace(**{**vars(task), "slots": copied}), features, labels)  # type: ignore[arg-type]


def epoch_in_half_precision(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    half = [[(w.astype(np.float16), b.astype(np.float16)) for w, b in task.slots[0]]]
    rounded = SimpleNamespace(**{**vars(task), "slots": half})
    told = honest_epoch(rounded, features.astype(np.float16), labels)  # type: ignore[arg-type]
    for array, new in zip(chain(*task.slots[0]), chain(*half[0]), strict=True):
        array[...] = new
    return told


def epoch_that_changes_the_features(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    told = honest_epoch(task, features, labels)
    features *= 2
    return told


class KnowsTheFirst:
    """Trains once for each shape of network, and answers the same from then on."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], tuple[list[Array], tuple[float, int]]] = {}

    def __call__(self, task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
        if task.sizes not in self.known:
            told = honest_epoch(task, features, labels)
            self.known[task.sizes] = [array.copy() for array in chain(*task.slots[0])], told
        trained, told = self.known[task.sizes]
        for array, new in zip(chain(*task.slots[0]), trained, strict=True):
            array[...] = new
        return told


EPOCHS: dict[str, Epoch] = {
    "nothing": epoch_of_nothing,
    "figures alone": epoch_of_figures_alone,
    "half precision": epoch_in_half_precision,
    "changes the features": epoch_that_changes_the_features,
    "the first answer": KnowsTheFirst(),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_a_fused_epoch_that_cheats_fails(name: str) -> None:
    assert check_epoch(EPOCHS[name])


def epoch_by_array_code(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    (w1, b1), (w2, b2) = task.slots[0]
    trainer = Trainer(Parameters((w1, w2), (b1, b2)), NumpyBackend(), task.batch_size, Tier.ARRAY_CODE)
    loss, accuracy = trainer.train_epoch(features, labels, task.order, task.coefficients[:, 1])
    trained = trainer.parameters
    for array, new in zip((w1, w2, b1, b2), (*trained.weights, *trained.biases), strict=True):
        array[...] = new
    return loss * len(task.order), round(accuracy * len(task.order))


class OtherOps(NetworkOps):
    def gather(self, source: Array, index: Array, out: Array) -> None:
        out[...] = source[index]


def epoch_by_others_ops(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
    gathered = np.empty_like(features[task.order])
    OtherOps(xp).gather(features, task.order, gathered)
    return honest_epoch(task, features, labels)


@pytest.mark.parametrize(
    ("epoch", "culprit"),
    [(epoch_by_array_code, r"the array code of \w+"), (epoch_by_others_ops, r"OtherOps\.gather")],
)
def test_a_fused_epoch_that_is_none_fails_in_one_sentence(epoch: Epoch, culprit: str) -> None:
    assert re.search(rf"^claims's fused epoch calls {culprit}: compute it there", check_epoch(epoch))


def test_a_fused_epoch_that_never_returns_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "TIME_LIMIT", 0.5)

    def never_returns(task: EpochTask, features: Array, labels: Array) -> tuple[float, int]:
        Event().wait()
        return 0.0, 0

    assert "did not return within 0.5 s" in check_epoch(never_returns)
