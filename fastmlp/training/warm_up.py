"""Kernels are compiled before there is anything to train on: by training networks alike on a few rows of noise."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from fastmlp.backends.base import Backend
from fastmlp.network.evaluation import ROWS
from fastmlp.training.loop import DivergedError, train_together
from fastmlp.training.member import Blueprint
from fastmlp.training.samples import Samples


def warm_up(blueprint: Blueprint, networks: int, rows: int, backend: Backend) -> None:
    """Train that many networks of the blueprint together for an epoch, and test them; rows: of the real data."""
    short = replace(blueprint, recipe=blueprint.recipe.changed(epochs=1), stopping=None, class_weight=None)
    trainers = [short.network(backend) for _ in range(networks)]
    inputs, *_, classes = blueprint.sizes
    count = min(rows, ROWS)
    noise = np.random.default_rng(0).standard_normal((count, inputs), dtype=np.float32)
    samples = Samples.place(backend, noise, np.arange(count) % classes, blueprint.dtype)
    with suppress(DivergedError):  # all has run by then; what diverges on noise need not do so on the data
        train_together(trainers, samples, [short.recipe] * networks, [0] * networks, test=samples)
