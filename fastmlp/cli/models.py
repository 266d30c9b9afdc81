"""The commands that use trained models, and how heads find features made elsewhere; parsed by `fastmlp.cli`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import datasets
from fastmlp.common.errors import UsageError
from fastmlp.common.files import has_wildcards, to_json
from fastmlp.common.progress import printable, say, warn
from fastmlp.common.text import normalized
from fastmlp.datasets.base import LeftOut
from fastmlp.datasets.folder import read_images
from fastmlp.datasets.reading import Reading
from fastmlp.experiments.compare import compare, compare_on, find_runs
from fastmlp.experiments.config import Config
from fastmlp.experiments.evaluate import write_evaluation
from fastmlp.experiments.feature_files import HEAD, FileFeatures, open_tables
from fastmlp.experiments.machine import Machine
from fastmlp.features.columns import Columns
from fastmlp.features.contents import SUFFIXES
from fastmlp.features.shard_files import holds_shards
from fastmlp.features.shards import open_features, open_table
from fastmlp.models.predictor import Predictor, load_model
from fastmlp.models.views import ONE
from fastmlp.report.comparison import table_text

SHOWN_CLASSES = 25  # a larger confusion matrix fits no terminal
# Options that --features rules out.
OF_EXTRACTOR = ("extractor", "weights", "image_size", "convolutions")
OF_IMAGES = ("dataset", *OF_EXTRACTOR, "augment", "copies", "on_bad_image", "max_pixels")
# Options that go with --features.
OF_FEATURES = ("labels", "test_features", "test_labels", "label_column", "drop_columns")

Row = dict[str, Any]


# fastmlp predict


def predict(options: argparse.Namespace) -> None:
    """Labels and probabilities of image files and folders, or of a file of features or images."""
    model = _open(options)
    origins, X = _inputs(options, model)
    rows = answers(model, model.predict_proba(X, options.views), origins, options.top)
    (_write_json if options.json else WRITERS[options.format])(rows)


def _inputs(options: argparse.Namespace, model: Predictor) -> tuple[list[Row], Any]:
    """Where each row comes from, and the rows: images, or features in files; an "error" where there is no row."""
    paths, columns = options.inputs, _columns(options, model)
    if not any(path.suffix.lower() in SUFFIXES or holds_shards(path) for path in paths):
        if columns.label or columns.drop:
            raise UsageError(
                "--label-column and --drop-columns are for a file of features: leave them out with images."
            )
        found, (images, reasons) = read_images(paths, _reading(options))
        errors = {path: {"error": reason} for path, reason in reasons.items()}
        return [{"image": str(path), **errors.get(path, {})} for path in found], images
    if len(paths) > 1:
        raise UsageError("Give image files and folders, or one file of features: not several kinds at once.")
    X = open_features(paths[0], columns)
    return [{"row": row} for row in range(len(X))], X


def answers(model: Predictor, probabilities: NDArray[Any], origins: Sequence[Row], top: int) -> Iterator[Row]:
    """Per row: its origin, label and probability, then label_2, probability_2, ... of the next most likely classes.

    An origin with an error, of which there is no row of probabilities, is an answer as it is.
    """
    labels, rows = model.classes.tolist(), iter(probabilities)
    for origin in origins:
        answer = dict(origin)
        if "error" in origin:
            yield answer
            continue
        row = next(rows)
        for place, best in enumerate(np.argsort(-row, kind="stable")[:top], start=1):
            suffix = f"_{place}" if place > 1 else ""
            answer |= {f"label{suffix}": labels[best], f"probability{suffix}": float(row[best])}
        yield answer


def _write_json(rows: Iterator[Row]) -> None:
    """One document, one line per row."""
    lines = ",\n".join(map(json.dumps, rows))
    print(f"[\n{lines}\n]")


def _write_json_lines(rows: Iterator[Row]) -> None:
    for row in rows:
        print(json.dumps(row))


def _answered(rows: Iterator[Row]) -> Iterator[Row]:
    """Those that have an answer's columns."""
    return (row for row in rows if "error" not in row)


def _write_csv(rows: Iterator[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, row in enumerate(_answered(rows)):
        if number == 0:
            writer.writerow(row)
        writer.writerow([printable(str(value)) for value in row.values()])


def _write_table(rows: Iterator[Row]) -> None:
    cells = [{name: _cell(value) for name, value in row.items()} for row in _answered(rows)]
    _print_aligned([list(cells[0]), *(list(row.values()) for row in cells)])


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))


WRITERS: dict[str, Callable[[Iterator[Row]], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "jsonl": _write_json_lines,
}


# fastmlp evaluate


def evaluate(options: argparse.Namespace) -> None:
    """A model's figures on the test images of a dataset, or on labelled features."""
    model = _open(options)
    X, labels, left_out = _rows_to_evaluate(model, options)
    if options.limit is not None:
        X, labels = X[: options.limit], labels[: options.limit]
    figures = model.evaluate(X, labels, options.views)
    _warn_of_rows_trained_on(figures, model, options)
    print(to_json(figures)) if options.json else _print_evaluation(figures)
    if options.out is not None:
        rows = options.features.name if options.features else options.dataset or model.config["dataset"]
        write_evaluation(model, figures, rows, options.out, left_out)
        say(f"Report: {options.out / 'report.html'}")


def _rows_to_evaluate(model: Predictor, options: argparse.Namespace) -> tuple[Any, NDArray[Any], LeftOut]:
    """Features or images, their labels, and what could not be among them."""
    if options.features is not None:
        return *_labelled_rows(model, options), LeftOut()
    _refuse_options_of_features(options)
    return _test_images(model, options)


def _labelled_rows(model: Predictor, options: argparse.Namespace) -> tuple[Any, NDArray[Any]]:
    """Those of --features, as the model takes them, or the ones among them that were held out of its training."""
    table = open_table(options.features, options.labels, _columns(options, model))
    X, labels = table.features, table.labels
    if not options.held_out:
        return X, labels
    if model.trained_rows is None:
        raise UsageError(f"The model in {model.folder} does not tell which rows were held out: train it again.")
    rows = model.trained_rows.held_out_of(X, options.features)
    return X[rows], labels[rows]


def _warn_of_rows_trained_on(figures: Row, model: Predictor, options: argparse.Namespace) -> None:
    if figures["rows_trained_on"] is None:
        say("The model's folder does not tell which rows it was trained on: whether these are among them is not known.")
    if not figures["rows_trained_on"]:
        return
    others = model.trained_rows is not None and len(model.trained_rows.held_out) and not options.held_out
    fix = "--held-out takes only the rows that were held out" if others else "give rows that it has not seen"
    warn(
        f"{figures['rows_trained_on']:,} of these {figures['samples']:,} rows equal rows that the model was trained "
        f"on, so its figures are too good: {fix}."
    )


def _test_images(model: Predictor, options: argparse.Namespace) -> tuple[Any, NDArray[np.int64], LeftOut]:
    if model.config["extractor"] is None:
        raise UsageError("The model was trained on features made elsewhere: give --features and --labels.")
    dataset = datasets.load(options.dataset or model.config["dataset"], options.data_dir, _reading(options))
    if list(dataset.class_names) != [normalized(name) for name in model.class_names]:
        raise UsageError(f"The model knows other classes than {dataset.name}: choose the --dataset it was trained on.")
    return dataset.test.images, dataset.test.labels, dataset.left_out


def _print_evaluation(figures: dict[str, Any]) -> None:
    print(f"{figures['samples']:,} samples")
    if figures["views"] != ONE:
        print(f"views              {figures['views']}")
    print(f"accuracy           {figures['accuracy']:.3%}")
    print(f"loss               {figures['loss']:.4g}")
    print(f"calibration error  {figures['calibration_error']:.3%}\n")
    shown = _most_mistaken(figures["classes"])
    _print_aligned([list(shown[0]), *([_cell(value) for value in row.values()] for row in shown)])
    if len(shown) < len(figures["classes"]):
        print(f"\nThe {len(shown)} of {len(figures['classes']):,} classes with most mistakes; --json has all.")
        _print_mistakes(figures["mistakes"])
    else:
        _print_confusion(figures)


def _most_mistaken(classes: Sequence[Row]) -> Sequence[Row]:
    """All classes in their order or, where a terminal has no room for them, those with most rows answered wrongly."""
    if len(classes) <= SHOWN_CLASSES:
        return classes
    return sorted(classes, key=lambda row: -row["support"] * (1 - row["recall"]))[:SHOWN_CLASSES]


def _print_mistakes(mistakes: Sequence[Row]) -> None:
    if mistakes:
        print("\nThe most frequent mistakes:\n")
        _print_aligned([list(mistakes[0]), *([_cell(value) for value in row.values()] for row in mistakes)])


def _print_confusion(figures: Row) -> None:
    print("\nRows of each class, and the class they were taken for:\n")
    names = [printable(row["name"]) for row in figures["classes"]]
    confusion = zip(names, figures["confusion"], strict=True)
    _print_aligned([["", *names], *([name, *map(str, counts)] for name, counts in confusion)])


def _print_aligned(rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their longest cell, numbers aligned right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{'>' if _is_number(cell) else '<'}{width}}" for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdecimal()


# fastmlp compare


def compare_runs(options: argparse.Namespace) -> None:
    """Runs side by side: by what their folders tell, or by what their models answer to the same features."""
    out = options.out or Path("runs/compare")
    runs = find_runs(options.runs)
    if options.features is None:
        _refuse_options_of_features(options)
        results = compare(runs, out)
    else:
        results = compare_on(
            runs,
            lambda folder: load_model(folder, options.backend or "auto", threads=options.threads),
            lambda model: _labelled_rows(model, options),
            options.features.name,
            out,
        )
    print(to_json(results) if options.json else table_text(results))
    say(f"Report: {out / 'report.html'}")


# fastmlp export


def export(options: argparse.Namespace) -> None:
    """The model as one ONNX file."""
    from fastmlp.models.export import export_onnx

    path = options.out or options.model / "model.onnx"
    # on the CPU, where nothing computes in fewer digits than the graph that is held against it
    difference = export_onnx(load_model(options.model, "numpy", weights=options.weights), path, options.with_extractor)
    if options.json:
        print(to_json({"path": str(path), "bytes": path.stat().st_size, "largest_difference": difference}))
    else:
        print(printable(str(path)))
    say(f"ONNX Runtime's probabilities are ours, to {difference:.1e}.")


# fastmlp train, sweep --features


def features_made_elsewhere(options: argparse.Namespace, config: Config) -> tuple[Config, Machine, str, FileFeatures]:
    """The configuration, where it computes, the head's name, and its features, which lie in files."""
    _refuse_image_options(options, config)
    config = replace(config, out=options.out or Path("runs") / f"features-{_named_after(options.features)}")
    columns = Columns(options.label_column, options.drop_columns)
    files = (options.features, options.labels, options.test_features, options.test_labels)
    out_of_fold = config.folds is not None and config.protocol is None
    tables = open_tables(*files, config.seed, config.limit, columns, out_of_fold, config.memory is not None)
    return config, Machine(config.backend, config.threads), HEAD, FileFeatures(tables, config)


def _named_after(features: Path) -> str:
    """What to call a run on these: after the file or folder or, of a glob, the last folder that it names."""
    names = [part for part in features.parts if not has_wildcards(part)]
    return Path(names[-1] if names else "shards").stem


def _refuse_image_options(options: argparse.Namespace, config: Config) -> None:
    """UsageError for options given on the command line; those in the environment are meant for other commands."""
    for name in OF_IMAGES:
        value = getattr(options, name)
        if value is not None and str(value) != os.environ.get(f"FASTMLP_{name.upper()}"):
            raise UsageError(f"--{name.replace('_', '-')} is for images: leave it out with --features.")
    if config.extractor_dtype != "float32":
        raise UsageError(f"{config.extractor_dtype} is for extracting: leave --dtype out with --features.")
    if options.on != "original":
        raise UsageError("Features cannot be augmented: leave --on out with --features.")


# Shared by the commands.


def _refuse_options_of_features(options: argparse.Namespace) -> None:
    if options.labels or options.label_column or options.drop_columns or options.held_out:
        raise UsageError("--labels, --label-column, --drop-columns and --held-out go with --features: give both.")


def _columns(options: argparse.Namespace, model: Predictor) -> Columns:
    """What is known of a file's columns: by the options, and by the columns that the model was trained on."""
    usual = model.config.get("label_column")
    return Columns(options.label_column, options.drop_columns, model.feature_names, usual)


def _reading(options: argparse.Namespace) -> Reading:
    given = {"on_bad_image": options.on_bad_image, "max_pixels": options.max_pixels}
    return Reading(**{name: value for name, value in given.items() if value is not None})


def _open(options: argparse.Namespace) -> Predictor:
    """The model, which can answer to the views that are asked for."""
    model = load_model(options.model, options.backend or "auto", weights=options.weights, threads=options.threads)
    model.check_views(options.views)
    return model
