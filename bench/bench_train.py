"""A classifier fitted from its initial weights through each library's own interface, including all that `fit` does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import ours
from .contenders import Contender
from .peers import keras, sklearn
from .training import Training, draw

PEERS = (
    Contender("scikit-learn, fit", "peer", sklearn.fit),
    Contender("Keras, fit", "peer", keras.fit, needs=("keras",)),
)


@pytest.fixture(scope="module")
def problem(threads: int, smoke: bool) -> Training:
    return draw("train", threads, rows=1_000 if smoke else 50_000, epochs=3, unit="epoch", rounds=1)


@pytest.mark.contenders(*ours.fitting(), *PEERS)
def bench_train(measure: Callable[[Training], None], problem: Training) -> None:
    measure(problem)
