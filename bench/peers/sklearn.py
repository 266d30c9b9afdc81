"""scikit-learn's MLPClassifier, plain SGD: no momentum, no weight decay."""

from __future__ import annotations

import warnings

import numpy as np

from fastmlp.network.parameters import Parameters

from ..contenders import Bound
from ..training import Training


def train(problem: Training) -> Bound:
    """More epochs of fit, on rows already in the epoch's order, so that it need not shuffle."""
    return _fit(problem, from_scratch=False)


def fit(problem: Training) -> Bound:
    """The same, with every run from the initial weights."""
    return _fit(problem, from_scratch=True)


def _fit(problem: Training, from_scratch: bool) -> Bound:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, y = problem.features[problem.order], problem.labels[problem.order]
    clf = MLPClassifier(
        hidden_layer_sizes=problem.parameters.sizes[1:-1], solver="sgd", alpha=0.0, batch_size=problem.batch_size,
        learning_rate_init=problem.learning_rate, momentum=0.0, nesterovs_momentum=False, max_iter=problem.epochs,
        shuffle=False, n_iter_no_change=np.inf,
    )  # fmt: skip

    def run() -> None:
        if from_scratch:
            start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs are intended
            clf.fit(X, y)

    def start() -> None:
        clf.coefs_ = [weight.copy() for weight in problem.parameters.weights]
        clf.intercepts_ = [bias.copy() for bias in problem.parameters.biases]

    clf.partial_fit(
        X[: problem.batch_size], y[: problem.batch_size], classes=np.unique(y)
    )  # makes all that a warm start needs
    clf.set_params(warm_start=True)
    start()
    return Bound(run, lambda: Parameters(tuple(map(np.array, clf.coefs_)), tuple(map(np.array, clf.intercepts_))))
