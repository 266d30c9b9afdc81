"""Keras' fit, on JAX where that is installed, its fastest engine on a CPU, else on PyTorch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastmlp.mlp import Parameters

from ..contenders import AbsentError, Bound
from ..training import Training

ENGINES = ("jax", "torch")


def train(problem: Training) -> Bound:
    """One epoch of fit, on rows that lie in the epoch's order already, which spares it the shuffling."""
    engine = next((engine for engine in ENGINES if find_spec(engine)), None)
    if engine is None:
        raise AbsentError("Keras has no engine: pip install 'fastmlp[bench]'.")
    os.environ["KERAS_BACKEND"] = engine  # read when Keras is imported
    import keras

    X, y = problem.features[problem.order], problem.labels[problem.order]
    model = _model(keras, problem)

    def run() -> None:
        model.fit(X, y, batch_size=problem.batch_size, epochs=1, shuffle=False, verbose=0)

    return Bound(run, lambda: _parameters(model), {"engine": keras.backend.backend()})


def _model(keras: Any, problem: Training) -> Any:
    inputs, hidden, classes = problem.parameters.sizes
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(hidden, "relu"), keras.layers.Dense(classes)])
    first = zip(problem.parameters.weights, problem.parameters.biases, strict=True)
    model.set_weights([array for pair in first for array in pair])
    model.compile(
        keras.optimizers.SGD(problem.learning_rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def _parameters(model: Any) -> Parameters:
    arrays = [np.asarray(array) for array in model.get_weights()]
    return Parameters(tuple(arrays[::2]), tuple(arrays[1::2]))
