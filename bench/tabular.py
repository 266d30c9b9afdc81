"""How good MLPClassifier's defaults are on tables, beside scikit-learn's: python -m fastmlp.bench.tabular

fits all contenders, on one thread, which takes six minutes; appends what it finds to bench/results/tabular.jsonl; and
writes the tables of docs/tabular.md, which a test holds to the newest results.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastmlp.common.clock import work_seconds
from fastmlp.common.files import write_text
from fastmlp.common.progress import progress
from fastmlp.common.statistics import summarize

from . import results, threads
from .compare import Comparison, comparisons, digits
from .readme import END, FOLDER, Run, newest_runs, updated
from .results import Measurement
from .tables import TABLES, Split, Table

SUITE = "tabular"
START = "<!-- bench: made by python -m fastmlp.bench.tabular -->"
PAGE = FOLDER.parents[1] / "docs" / "tabular.md"
REPORTED = 0  # the seed of the rows and splits on that page
OURS = "fastmlp"
MLPS = ("their MLP", "their MLP, scaled")
LOGISTIC = "logistic regression, scaled"
CONTENDERS = (OURS, *MLPS, LOGISTIC)
MOST_BEHIND = 0.5  # points of accuracy, of which it must not be behind the better of MLPS

Found = dict[str, float]  # seconds, accuracy and log_loss of one fit


def main() -> None:
    threads.pin_loaded(1)
    results.append(FOLDER / "tabular.jsonl", measured(TABLES))
    write_text(PAGE, page(PAGE.read_text(), newest_runs(FOLDER, SUITE)))


def contender(name: str, seed: int) -> Any:
    """That classifier with its defaults, except for seed and threads."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier as TheirClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from fastmlp.estimators.classifier import MLPClassifier

    if name == OURS:
        return MLPClassifier(backend="numba", threads=1, random_state=seed)
    model = LogisticRegression() if name == LOGISTIC else TheirClassifier(random_state=seed)
    return make_pipeline(StandardScaler(), model) if name.endswith("scaled") else model


# Measuring.


def measured(tables: Sequence[Table], seed: int = REPORTED) -> Iterator[Measurement]:
    """Each contender on each table: one measurement of all splits."""
    common: dict[str, Any] = {"run": results.new_run(), "commit": results.commit(), "machine": results.machine()}
    with progress("fitting", len(tables), "tables") as done:
        for table in tables:
            splits = list(table.splits(seed))
            for name in CONTENDERS:
                found = [fitted(contender(name, number), split) for number, split in enumerate(splits)]
                yield Measurement(
                    **common,
                    threads=1,
                    smoke=False,
                    suite=SUITE,
                    title=table.name,
                    unit="fit",
                    contender=name,
                    kind="ours" if name == OURS else "peer",
                    seconds=results.summary([one["seconds"] for one in found]),
                    rounds=len(found),
                    facts={
                        **size(splits[0]),
                        "accuracy": [one["accuracy"] for one in found],
                        "log_loss": [one["log_loss"] for one in found],
                    },
                )
            done.advance(1)


def fitted(model: Any, split: Split) -> Found:
    from sklearn.metrics import log_loss

    start = work_seconds()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence, which some peers do not reach by default
        model.fit(*split.train)
    seconds = work_seconds() - start
    X, y = split.test
    probabilities = model.predict_proba(X).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # those in float32 add up to 1 but for its rounding
    return {
        "seconds": seconds,
        "accuracy": float(np.mean(model.classes_[probabilities.argmax(axis=1)] == y)),
        "log_loss": float(log_loss(y, probabilities, labels=model.classes_)),
    }


def size(split: Split) -> dict[str, int]:
    X, y = split.train
    return {"rows": len(X), "features": X.shape[1], "classes": len(np.unique(y)), "tested": len(split.test[1])}


# What the page shows.


def page(before: str, runs: Sequence[Run]) -> str:
    """The page with the tables of the last of these runs."""
    return updated(before, text(runs[-1]) if runs else "No run is recorded yet.", START, END)


def text(run: Run) -> str:
    """Three tables, of accuracy, log-loss and time."""
    first, compared = run[0], comparisons(run)
    machine = first.machine
    versions = ", ".join(f"{name} {machine[name]}" for name in ("scikit-learn", "numpy", "numba"))
    return "\n\n".join(
        [
            f"One thread of {machine['cpu']}, {first.run[:10]}, commit {first.commit}; {versions}.",
            _table("accuracy, %", (*CONTENDERS, "ahead of their better MLP by, points"), map(_accuracies, compared)),
            _table("log-loss", CONTENDERS, map(_log_losses, compared)),
            _table("seconds to fit, median", (*CONTENDERS, "their MLP, scaled, over ours"), map(_times, compared)),
        ]
    )


def _table(what: str, columns: Sequence[str], rows: Any) -> str:
    header = [f"| {what} | rows | features | classes | {' | '.join(columns)} |", f"|---|{'---:|' * (3 + len(columns))}"]
    return "\n".join([*header, *(f"| {' | '.join(row)} |" for row in rows)])


def by_contender(compared: Comparison) -> dict[str, Measurement]:
    return {one.contender: one for one in compared.measurements}


def _named(compared: Comparison) -> list[str]:
    facts = compared.measurements[0].facts
    return [compared.title, f"{facts['rows']:,}", str(facts["features"]), str(facts["classes"])]


def ahead(compared: Comparison) -> dict[str, Any]:
    """Points of accuracy by which ours is ahead of the better of their two MLPs, over the splits: see `summarize`."""
    accuracies = {name: np.array(one.facts["accuracy"]) for name, one in by_contender(compared).items()}
    better = max(MLPS, key=lambda name: accuracies[name].mean())
    return summarize((100 * (accuracies[OURS] - accuracies[better])).tolist())


def _accuracies(compared: Comparison) -> list[str]:
    found, lead = by_contender(compared), ahead(compared)
    means = {name: 100 * statistics.mean(found[name].facts["accuracy"]) for name in CONTENDERS}
    best = max(means.values())
    interval = f"{lead['mean']:+.1f} ({lead['low']:+.1f} to {lead['high']:+.1f})"
    cells = [_bold(f"{mean:.1f}", mean == best) for mean in means.values()]
    return [*_named(compared), *cells, _bold(interval, lead["mean"] < -MOST_BEHIND)]


def _log_losses(compared: Comparison) -> list[str]:
    found = by_contender(compared)
    means = [statistics.mean(found[name].facts["log_loss"]) for name in CONTENDERS]
    return [*_named(compared), *(_bold(f"{mean:.3f}", mean == min(means)) for mean in means)]


def _times(compared: Comparison) -> list[str]:
    found = by_contender(compared)
    seconds = [found[name].median for name in CONTENDERS]
    return [*_named(compared), *map(digits, seconds), digits(found[MLPS[1]].median / found[OURS].median)]


def _bold(cell: str, is_bold: bool) -> str:
    return f"**{cell}**" if is_bold else cell


if __name__ == "__main__":
    main()
