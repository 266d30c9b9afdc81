"""The command line: results on stdout, progress and logs on stderr."""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.cli import interrupts
from fastmlp.cli.parser import parse
from fastmlp.common.clock import BEGUN
from fastmlp.common.errors import BackendError, FastMLPError, UsageError
from fastmlp.common.files import to_json
from fastmlp.common.progress import printable, quietly, say, warn

if TYPE_CHECKING:
    from fastmlp.experiments.config import Config
    from fastmlp.experiments.engine_options import EngineOptions
    from fastmlp.experiments.feature_sets import FeatureSet
    from fastmlp.experiments.machine import Machine

INTERRUPTED = 130

atexit.register(gc.freeze)  # a process that ends need not look for garbage


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 1 failed, 2 usage, 3 backend, 4 data or weights, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may hold what the terminal's encoding cannot
        sys.stdout.reconfigure(errors="backslashreplace")
    options = parse(argv)
    with quietly(options.quiet), interrupts.not_ignored():
        return run(options)


def run(options: argparse.Namespace) -> int:
    """The exit code of a command, once it is parsed."""
    try:
        COMMANDS[options.command](options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        resumable = "resume" in options
        warn("Interrupted: the same command with --resume continues from here." if resumable else "Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # a person gets a sentence; --debug gives the rest
        if options.debug:
            raise
        sentence, code = explain(error)
        warn(f"fastmlp: {sentence}")
        return code
    return 0


def explain(error: Exception) -> tuple[str, int]:
    """One sentence and the exit code."""
    if isinstance(error, FastMLPError):
        return str(error), error.exit_code
    from fastmlp.backends.cuda_diagnosis import is_out_of_memory, out_of_memory_within

    if is_out_of_memory(error):
        return out_of_memory_within(error), BackendError.exit_code
    if isinstance(error, MemoryError):
        return "Memory ran out: try --limit, a smaller --batch-size, or a machine with more.", 1
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}" if error.filename else ""
        return f"Cannot use{place}: {error.strerror}. Free some space or choose another place (--out).", 1
    return f"This should not have happened ({type(error).__name__}: {error}); --debug shows where.", 1


# The commands.


def run_reproduce(options: argparse.Namespace) -> None:
    from fastmlp.experiments.reproduce import reproduce
    from fastmlp.report import table1_text

    config = config_of(options)
    results = reproduce(config, BEGUN)
    print(to_json(results) if options.json else table1_text(results))
    say(f"Report: {config.folder / 'report.html'}")


def run_extract(options: argparse.Namespace) -> None:
    from fastmlp.experiments.extract import extract

    stores = extract(config_of(options), engine_of(options))
    if options.json:
        found = {name: {"path": str(store.path), "shape": store.shape} for name, store in stores.items()}
        print(to_json(found))
    else:
        for name, store in stores.items():
            print(f"{name:10} {store.shape[0]:>8,} x {store.shape[1]}  {printable(str(store.path))}")


def run_train(options: argparse.Namespace) -> None:
    from fastmlp.experiments.train import train_one

    config, machine, name, features = what_to_train_on(options)
    results = train_one(config, machine, name, features)
    over_folds = {"over_folds": results["over_folds"]} if "over_folds" in results else {}
    if options.json:
        print(to_json({**results["figures"], **over_folds}))
    else:
        print_figures(results["figures"])
        print_folds(**over_folds)
    say(f"Model: {config.folder / name}, report: {config.folder / name / 'report.html'}")


def run_sweep(options: argparse.Namespace) -> None:
    from fastmlp.experiments.sweep import Grid, sweep
    from fastmlp.report.sweep import table_text

    engine = engine_of(options)
    options.seeds = options.seeds or 3
    if options.features is None:
        options.preset = options.preset or "fast"
    config, machine, name, features = what_to_train_on(options)
    recipe = config.recipe.for_data(features.images, features.inputs)
    grid = Grid.around(recipe, options.learning_rates, options.weight_decays, options.widths)
    results = sweep(config, machine, name, features, grid, engine)
    print(to_json(results) if options.json else table_text(results))
    say(f"Chart: {config.folder / 'sweep.png'}, model: {config.folder / 'best'}")


def run_probe(options: argparse.Namespace) -> None:
    from fastmlp.experiments.probe import run_probe as run
    from fastmlp.experiments.protocols import changed, open_protocol
    from fastmlp.report.sweep import table_text

    protocol = open_protocol(options.protocol or "sgd-grid")
    options.protocol = changed(protocol, {"normalize": options.normalize, "widths": options.widths})
    config, machine, name, features = what_to_train_on(options)
    results = run(config, machine, name, features)
    print(to_json(results) if options.json else table_text(results))
    say(f"Report: {config.folder / 'report.html'}, model: {config.folder / 'best'}")


def run_evaluate(options: argparse.Namespace) -> None:
    cli_models().evaluate(options)


def run_compare(options: argparse.Namespace) -> None:
    cli_models().compare_runs(options)


def run_predict(options: argparse.Namespace) -> None:
    cli_models().predict(options)


def run_export(options: argparse.Namespace) -> None:
    cli_models().export(options)


def run_augment(options: argparse.Namespace) -> None:
    from fastmlp.experiments.bad_images import list_bad_images
    from fastmlp.experiments.images import Images
    from fastmlp.report.figures import draw_sheet
    from fastmlp.report.style import save

    config = config_of(options)
    images, path = Images(config, machine_of(config)), config.folder / "augmentations.png"
    save(draw_sheet(images.sheet()), path)
    list_bad_images(images.dataset.left_out.images, config.folder)
    print(to_json({"path": str(path)}) if options.json else printable(str(path)))


def run_backends(options: argparse.Namespace) -> None:
    from fastmlp.cli.doctor import check, measure, print_table, survey

    if options.measure:
        measure(options.measure, options.json, options.network, options.batch_size, options.optimizer)
        return
    if options.network:
        raise UsageError("--network says what to measure: give --measure NAME too.")
    if options.check:
        check(options.check, options.json, quick=options.quick, only=options.only, seed=options.seed or 0)
        return
    if options.quick or options.only:
        raise UsageError("--quick and --only say which checks of a backend to run: give --check NAME too.")
    found = survey()
    if options.json:
        print(to_json(found))
    else:
        print_table(found)


def run_bench(options: argparse.Namespace) -> None:
    from fastmlp.bench import command, report

    out = options.out or Path("runs/bench")
    measurements = command.run(options.only, options.smoke, options.threads, out, options.results, options.device)
    print(to_json([asdict(one) for one in measurements]) if options.json else report.table(measurements))
    say(f"Report: {out / 'report.html'}")


# Shared by the commands.


def config_of(options: argparse.Namespace) -> Config:
    from fastmlp.experiments.config import Config
    from fastmlp.extractors.base import REDUCED

    given = vars(options)
    known = {name: given[name] for name in Config.__dataclass_fields__ if given.get(name) is not None}
    if known.get("dtype") in REDUCED:  # in which only backbones compute
        known |= {"dtype": "float32", "extractor_dtype": known["dtype"]}
    return Config(**known)


def engine_of(options: argparse.Namespace) -> EngineOptions:
    from fastmlp.experiments.engine_options import EngineOptions

    given = {name: vars(options)[name] for name in EngineOptions.__dataclass_fields__}
    return EngineOptions(**{name: value for name, value in given.items() if value is not None})


def what_to_train_on(options: argparse.Namespace) -> tuple[Config, Machine, str, FeatureSet]:
    """The configuration, where it computes, the model's name, and its features: made elsewhere, or of images."""
    from fastmlp.experiments.feature_sets import ImageFeatures

    if options.features is not None and "preset" in options:
        options.preset = options.preset or "tabular"
    config = config_of(options)
    if options.features is not None:
        return cli_models().features_made_elsewhere(options, config)
    if any(getattr(options, name) for name in cli_models().OF_FEATURES):
        given = "--labels, --test-features, --test-labels, --label-column and --drop-columns"
        raise UsageError(f"{given} go with --features: give that too.")
    machine = machine_of(config)
    return config, machine, options.on, ImageFeatures(config, machine).of(options.on)


def machine_of(config: Config) -> Machine:
    from fastmlp.experiments.machine import Machine

    return Machine(config.backend, config.threads)


def cli_models() -> Any:
    """The commands on models, whose import would slow down the help."""
    from fastmlp.cli import models

    return models


def print_figures(figures: dict[str, float]) -> None:
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):15} {shown(name, value)}")


def print_folds(over_folds: dict[str, Any] | None = None) -> None:
    """A line for each fold, and mean and standard deviation over them."""
    if over_folds is None:
        return
    names = list(over_folds["folds"][0])
    rows = [["fold", *(name.replace("_", " ") for name in names)]]
    for number, figures in enumerate(over_folds["folds"], start=1):
        rows.append([str(number), *(shown(name, value) for name, value in figures.items())])
    for label, statistic in (("mean", "mean"), ("± std", "std")):
        rows.append([label, *(shown(name, over_folds[name][statistic]) for name in names)])
    print()
    for row in rows:
        print("  ".join([f"{row[0]:5}", *(f"{cell:>14}" for cell in row[1:])]))


def shown(name: str, value: float) -> str:
    """A figure of that name, as people read it."""
    return f"{value:.3%}" if name.endswith("accuracy") else f"{value:,.4g}"


COMMANDS = {
    "reproduce": run_reproduce,
    "extract": run_extract,
    "train": run_train,
    "sweep": run_sweep,
    "probe": run_probe,
    "evaluate": run_evaluate,
    "compare": run_compare,
    "predict": run_predict,
    "export": run_export,
    "augment": run_augment,
    "backends": run_backends,
    "bench": run_bench,
}
