"""Tables of every kind to classify: those that ship with scikit-learn, and what its generators draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import StratifiedShuffleSplit

Rows = tuple[NDArray[np.float64], NDArray[np.int64]]  # features (n, d) and labels (n,)
SPLITS = 5
TESTED = 5_000  # rows to test on, of a table that is drawn
TESTED_SHARE = 1 / 3  # of one that ships


class Split(NamedTuple):
    """Rows to train on, and rows to test on."""

    train: Rows
    test: Rows


@dataclass(frozen=True)
class Table:
    """load(seed) gives its rows, `rows` of them to train on; None: all of them but a third."""

    name: str
    load: Callable[[int], Rows]
    rows: int | None = None

    def splits(self, seed: int) -> Iterator[Split]:
        """Rows drawn from the seed, split in several ways that keep the shares of the classes."""
        X, y = self.load(seed)
        tested = TESTED_SHARE if self.rows is None else TESTED
        for train, test in StratifiedShuffleSplit(
            SPLITS, train_size=self.rows, test_size=tested, random_state=seed
        ).split(X, y):
            yield Split((X[train], y[train]), (X[test], y[test]))


def shipped(name: str, load: Any) -> Table:
    return Table(name, lambda _: load(return_X_y=True))


def drawn(name: str, rows: int, draw: Any, **settings: Any) -> Table:
    """Rows by one of scikit-learn's generators, with those settings."""
    return Table(name, lambda seed: draw(n_samples=rows + TESTED, random_state=seed, **settings), rows)


def unlike_scales(**settings: Any) -> Rows:
    """Features of scales from 1e-4 to 1e6, with offsets of up to ten times that, and two that are constant."""
    X, y = datasets.make_classification(**settings)
    scales = np.geomspace(1e-4, 1e6, X.shape[1])
    offsets = scales * np.random.default_rng(settings["random_state"]).uniform(-10, 10, X.shape[1])
    constant = np.repeat([[0.0, 1e6]], len(X), axis=0)
    return np.hstack([X * scales + offsets, constant]), y


def heavy_tails(**settings: Any) -> Rows:
    """Features whose logarithms would be well-behaved: the largest are a hundred deviations from the mean."""
    X, y = datasets.make_classification(**settings)
    return np.sinh(2 * X), y


def categories(n_samples: int, random_state: int) -> Rows:
    """Four columns of 30 categories each, one-hot, the rarest in one row of hundreds; some rows are mislabelled."""
    rng = np.random.default_rng(random_state)
    shares = 1 / np.arange(1, 31)
    columns = rng.choice(30, size=(n_samples, 4), p=shares / shares.sum())
    effects = rng.standard_normal((4, 30))
    y = effects[np.arange(4), columns].sum(axis=1) + 0.5 * rng.standard_normal(n_samples) > 0
    return np.eye(30)[columns].reshape(n_samples, -1), y.astype(np.int64)


classes = partial(drawn, draw=datasets.make_classification)

TABLES = (
    shipped("iris", datasets.load_iris),
    shipped("wine", datasets.load_wine),
    shipped("breast cancer", datasets.load_breast_cancer),
    shipped("digits", datasets.load_digits),
    classes("few informative", 500, n_features=50, n_informative=4, n_redundant=0),
    classes("many informative", 2_000, n_features=40, n_informative=30),
    classes("many classes", 5_000, n_features=30, n_informative=20, n_classes=20),
    classes("many clusters", 20_000, n_features=20, n_informative=10, n_clusters_per_class=16),
    classes("imbalanced", 2_000, n_features=20, n_informative=6, weights=[0.95]),
    classes("noisy labels, few rows", 150, n_features=20, n_informative=6, flip_y=0.3),
    classes("noisy labels, many rows", 20_000, n_features=20, n_informative=6, flip_y=0.3),
    classes("wide, few rows", 100, n_features=500, n_informative=10),
    drawn("moons", 150, datasets.make_moons, noise=0.25),
    drawn("circles", 300, datasets.make_circles, noise=0.15, factor=0.5),
    drawn("Gaussian quantiles", 2_000, datasets.make_gaussian_quantiles, n_features=10, n_classes=3),
    drawn("blobs", 300, datasets.make_blobs, n_features=5, centers=8, cluster_std=4.0),
    drawn("Hastie 10.2", 20_000, datasets.make_hastie_10_2),
    drawn("unlike scales", 1_000, unlike_scales, n_features=20, n_informative=8),
    drawn("heavy tails", 2_000, heavy_tails, n_features=20, n_informative=8),
    drawn("categories", 1_000, categories),
)
