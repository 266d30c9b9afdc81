"""Keras's fit, on JAX, its fastest engine on a CPU, if installed, else on PyTorch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastmlp.network.parameters import Parameters

from ..contenders import AbsentError, Bound
from ..training import Training

ENGINES = ("jax", "torch")


def engine() -> str:
    """The engine for Keras to run on. Raises AbsentError if none is installed."""
    installed = [engine for engine in ENGINES if find_spec(engine)]
    if not installed:
        raise AbsentError("Keras has no engine: pip install 'fastmlp[bench]'.")
    return installed[0]


def train(problem: Training) -> Bound:
    """More epochs of fit, on rows already in the epoch's order, so that it need not shuffle."""
    return _fit(problem, from_scratch=False)


def fit(problem: Training) -> Bound:
    """The same, with every run from the initial weights."""
    return _fit(problem, from_scratch=True)


def _fit(problem: Training, from_scratch: bool) -> Bound:
    os.environ["KERAS_BACKEND"] = engine()  # read when Keras is imported
    import keras

    X, y = problem.features[problem.order], problem.labels[problem.order]
    model = _model(keras, problem)
    start = [array for pair in _pairs(problem.parameters) for array in pair]
    model.set_weights(start)

    def run() -> None:
        if from_scratch:
            model.set_weights(start)
        model.fit(X, y, batch_size=problem.batch_size, epochs=problem.epochs, shuffle=False, verbose=0)

    return Bound(run, lambda: _parameters(model), {"engine": keras.backend.backend()})


def _model(keras: Any, problem: Training) -> Any:
    inputs, hidden, classes = problem.parameters.sizes
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(hidden, "relu"), keras.layers.Dense(classes)])
    model.compile(
        keras.optimizers.SGD(problem.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=32 if keras.backend.backend() == "jax" else 1,  # a quarter faster; PyTorch allows 1 alone
    )
    return model


def _pairs(parameters: Parameters) -> Any:
    return zip(parameters.weights, parameters.biases, strict=True)


def _parameters(model: Any) -> Parameters:
    arrays = [np.asarray(array) for array in model.get_weights()]
    return Parameters(tuple(arrays[::2]), tuple(arrays[1::2]))
