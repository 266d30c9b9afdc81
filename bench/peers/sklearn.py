"""scikit-learn's MLPClassifier, plain SGD: no momentum, no weight decay."""

from __future__ import annotations

import warnings

import numpy as np

from fastmlp.mlp import Parameters

from ..contenders import Bound
from ..training import Training


def train(problem: Training) -> Bound:
    """One epoch of fit, on rows that lie in the epoch's order already, which spares it the shuffling."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, y = problem.features[problem.order], problem.labels[problem.order]
    clf = MLPClassifier(
        hidden_layer_sizes=problem.parameters.sizes[1:-1], solver="sgd", alpha=0.0, batch_size=problem.batch_size,
        learning_rate_init=problem.learning_rate, momentum=0.0, nesterovs_momentum=False, max_iter=1, shuffle=False,
        warm_start=True,
    )  # fmt: skip

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is what was asked for
            clf.fit(X, y)

    run()  # makes the attributes that hold the weights
    clf.coefs_ = [weight.copy() for weight in problem.parameters.weights]
    clf.intercepts_ = [bias.copy() for bias in problem.parameters.biases]
    return Bound(run, lambda: Parameters(tuple(map(np.array, clf.coefs_)), tuple(map(np.array, clf.intercepts_))))
