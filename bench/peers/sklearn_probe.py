"""scikit-learn: one fit of a probe by LogisticRegression, at its own tolerance, as its users run it."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression

from ..contenders import Bound
from ..probing import Probing


def fit(problem: Probing) -> Bound:
    """The chosen strength on all training rows; result: its accuracy on the test rows."""
    train, test = problem.tables.train, problem.tables.test
    model = LogisticRegression(C=problem.reference["strength"], max_iter=1000)

    def run() -> None:
        model.fit(train.features, train.labels)

    return Bound(run, lambda: float(model.score(test.features, test.labels)), units=1)
