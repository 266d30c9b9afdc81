"""Several runs side by side: by what their folders tell, or by what their models answer to the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.common import environment
from fastmlp.common.errors import DataError, UsageError
from fastmlp.common.files import claimed, read_json, write_json
from fastmlp.common.progress import say, warn
from fastmlp.common.statistics import accuracy_error, paired_difference
from fastmlp.experiments.results import SCHEMA
from fastmlp.models import metrics
from fastmlp.models.folder import MODEL
from fastmlp.models.predictor import Predictor
from fastmlp.models.views import ONE
from fastmlp.report import comparison

RESULTS = "results.json"
Rows = tuple[NDArray[Any], NDArray[Any]]  # features or images, and labels


@dataclass(frozen=True)
class RunFolder:
    """The folder of a model, or of an evaluation of one; results: of its results.json, or of its config.json alone."""

    path: Path
    results: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def evaluation(self) -> dict[str, Any]:
        """All figures on its own test rows. Raises DataError if there are none."""
        found = self.results.get("evaluation")
        if not found:
            raise DataError(f"{self.path} has no {RESULTS}: train the model again, or compare it by --features.")
        return next(iter(found.values()))

    def row(self, evaluation: dict[str, Any]) -> dict[str, Any]:
        """What the comparison tells of it, with the figures of that evaluation."""
        config, figures = self.results["config"], self.results.get("figures", {})
        recipe = ("preset", "optimizer", "epochs", "batch_size", "learning_rate", "weight_decay", "strength")
        return {
            "run": self.name,
            "sizes": config["sizes"],
            "recipe": {name: config[name] for name in recipe if name in config},
            "training_rows": self.results["data"].get("rows", {}).get("training"),
            "test_rows": evaluation["samples"],
            "train_accuracy": figures.get("train_accuracy"),
            "test_accuracy": evaluation["accuracy"],
            "standard_error": accuracy_error(evaluation["accuracy"], evaluation["samples"]),
            "test_loss": evaluation["loss"],
            "calibration_error": evaluation["calibration_error"],
            "seconds": comparison.seconds_of(self.results),
            "test_set": evaluation["test_set"],
            "views": evaluation.get("views", ONE),
        }


# Finding runs.


def find_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """The runs in these folders, one or several in each. Raises UsageError for fewer than two, and for one twice."""
    found = [run for path in paths for run in _runs_in(path)]
    places = [run.path.resolve() for run in found]
    twice = next((run for run, place in zip(found, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice.path} is given twice: give each run once.")
    if len(found) < 2:
        raise UsageError(f"Two runs or more can be compared, and there is one, {found[0].path}: give another.")
    return found


def _runs_in(path: Path) -> list[RunFolder]:
    """The run in a folder or, if it is none itself, those one level below."""
    own = _run(path)
    if own is not None:
        return [own]
    children = sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
    found = [run for run in map(_run, children) if run is not None]
    if not found:
        raise DataError(f"There is neither a model nor an evaluation in {path}: give folders that fastmlp wrote.")
    return found


def _run(path: Path) -> RunFolder | None:
    """The run in a folder; DataError if its JSON is damaged."""
    file = path / RESULTS
    results = read_json(file) if file.is_file() else None
    if isinstance(results, dict) and "model" in results:
        if not _is_sound(results):
            raise DataError(f"{file} is damaged: run again what wrote it.")
        return RunFolder(path, results)
    if not (path / MODEL).is_file():
        return None
    config = read_json(path / "config.json")
    try:
        trained = {**config["recipe"], "sizes": config["sizes"]}
        return RunFolder(path, {"config": trained, "data": {"rows": config["rows"]}})
    except (KeyError, TypeError):
        raise DataError(f"{path / 'config.json'} is damaged: train the model again.") from None


def _is_sound(results: dict[str, Any]) -> bool:
    """Whether all that a comparison reads is there and of its kind."""
    try:
        (evaluation,) = results["evaluation"].values()
        numbers = [evaluation[name] for name in ("accuracy", "loss", "calibration_error", "samples")]
        numbers += [*results["config"]["sizes"], *results.get("seconds", {}).values()]
        texts = [evaluation["test_set"][name] for name in ("rows", "labels")]
        dicts = [results["data"].get("rows", {}), results.get("figures", {})]
        kinds = (int | float, numbers), (str, texts), (dict, dicts)
        return all(isinstance(value, kind) for kind, values in kinds for value in values) and evaluation["samples"] > 0
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


# Comparing.


def compare(runs: Sequence[RunFolder], out: Path) -> dict[str, Any]:
    """The runs by the figures on their own test rows; written to OUT as results.json and a report."""
    rows = [run.row(run.evaluation) for run in runs]
    found, note = _how_alike([row["test_set"] for row in rows])
    return _written(rows, found, note, out)


def compare_on(
    runs: Sequence[RunFolder],
    open_model: Callable[[Path], Predictor],
    read: Callable[[Predictor], Rows],
    place: str,
    out: Path,
) -> dict[str, Any]:
    """The runs' models on the same rows, which `read` gives as a model takes them, each beside the best of them."""
    without = next((run for run in runs if not (run.path / MODEL).is_file()), None)
    if without is not None:
        raise UsageError(f"{without.path} has no model to evaluate: give folders of models with --features.")
    rows, hits, asked = [], [], []
    for run in runs:
        say(f"Evaluating {run.path}.")
        model = open_model(run.path)
        X, labels = read(model)
        answers = model.answers(X, labels)
        evaluation = {**metrics.evaluate(answers, model.class_names), **model.whence(X, answers)}
        rows.append({**run.row(evaluation), "rows_trained_on": evaluation["rows_trained_on"]})
        hits.append(answers.hits)
        asked.append(labels)
    if not all(np.array_equal(labels, asked[0]) for labels in asked):
        raise UsageError("Different rows were held out for these models: leave --held-out out, or compare others.")
    best = max(range(len(rows)), key=lambda index: (rows[index]["test_accuracy"], -rows[index]["test_loss"]))
    for index, row in enumerate(rows):
        row["behind_best"] = None if index == best else paired_difference(hits[best], hits[index])
    note = " ".join([f"All models answered the same {len(asked[0]):,} rows of {place}.", *_rows_seen(rows)])
    return _written(rows, "same rows", note, out)


def _rows_seen(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Warn, and return, which models were trained on how many of the rows, and of which it is not known."""
    counts = {row["run"]: row["rows_trained_on"] for row in rows}
    seen = [f"{name} {count:,}" for name, count in counts.items() if count]
    unknown = [name for name, count in counts.items() if count is None]
    told = [f"Rows that equal rows a model was trained on, which flatter it: {', '.join(seen)}."] if seen else []
    told += [f"Whether these were trained on such rows is not known: {', '.join(unknown)}."] if unknown else []
    for sentence in told:
        warn(sentence)
    return told


def _how_alike(test_sets: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """Whether the runs were tested on the same rows, in a word and in a sentence."""
    rows, labels = ({test_set[name] for test_set in test_sets} for name in ("rows", "labels"))
    if len(rows) == 1:
        return "same rows", "All runs were tested on the same rows; --features and --labels give paired differences."
    if len(labels) == 1:
        return "same labels", (
            "The runs were tested on rows of the same labels, in the same order, but of different features: the "
            "comparison is fair if these are features of the same things."
        )
    return "different rows", (
        "The runs were tested on different rows, so the comparison is not fair: give --features and --labels, and all "
        "models answer the same."
    )


def _written(rows: Sequence[dict[str, Any]], alike: str, note: str, out: Path) -> dict[str, Any]:
    """The results, the best run first unless they were tested on different rows; written to OUT."""
    fair = alike != "different rows"
    ordered = sorted(rows, key=lambda row: (-row["test_accuracy"], row["test_loss"])) if fair else list(rows)
    results = {
        "schema": SCHEMA,
        "tested_on": alike,
        "note": note,
        "runs": ordered,
        "environment": environment.describe(),
    }
    with claimed(out):
        comparison.write(results, out)
        write_json(out / RESULTS, results)
    return results
