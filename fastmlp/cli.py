"""The command line: results on stdout, progress and logs on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fastmlp._version import __version__
from fastmlp.errors import FastMLPError
from fastmlp.progress import printable, say

if TYPE_CHECKING:
    from fastmlp.config import Config

INTERRUPTED = 130
MODELS = ("original", "augmented")  # those of fastmlp.report.figures, whose import would slow the help
Run = Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 1 failed, 2 usage, 3 backend, 4 data or weights, 130 interrupted."""
    options = build_parser().parse_args(argv)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        resumable = "resume" in options
        say("Interrupted: the same command with --resume goes on from here." if resumable else "Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # a person gets a sentence; --debug gives the rest
        if options.debug:
            raise
        sentence, code = explain(error)
        say(f"fastmlp: {sentence}")
        return code
    return 0


def explain(error: Exception) -> tuple[str, int]:
    """One sentence and the exit code."""
    if isinstance(error, FastMLPError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "Memory ran out: try --limit, a smaller --batch-size, or a machine with more.", 1
    if isinstance(error, OSError) and error.strerror:
        place = f" {error.filename}" if error.filename else ""
        return f"Cannot use{place}: {error.strerror}. Free some space or choose another place (--out).", 1
    return f"This should not have happened ({type(error).__name__}: {error}); --debug shows where.", 1


# The commands.


def run_reproduce(options: argparse.Namespace) -> None:
    from fastmlp.experiment import reproduce
    from fastmlp.report import table1_text

    config = config_of(options)
    results = reproduce(config)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        print(table1_text(results))
    say(f"Report: {config.folder / 'report.html'}")


def run_extract(options: argparse.Namespace) -> None:
    from fastmlp.experiment import Experiment

    stores = {store.provenance["split"]: store for store in Experiment(config_of(options)).extract()}
    if options.json:
        found = {name: {"path": str(store.path), "shape": store.features.shape} for name, store in stores.items()}
        print(json.dumps(found, indent=2))
    else:
        for name, store in stores.items():
            print(f"{name:10} {store.features.shape[0]:>8,} x {store.features.shape[1]}  {printable(str(store.path))}")


def run_train(options: argparse.Namespace) -> None:
    from fastmlp.experiment import Experiment
    from fastmlp.files import claimed

    config = config_of(options)
    if options.features is not None:
        row, folder = cli_models().train_head(options, config)
    else:
        experiment, folder = Experiment(config), config.folder / options.on
        with claimed(config.folder):
            network, _ = experiment.train(options.on)
            (row,) = experiment.table_rows(options.on, [network])
    print_figures(row, options.json)
    say(f"Model: {folder}")


def run_sweep(options: argparse.Namespace) -> None:
    from fastmlp.report.sweep import table_text
    from fastmlp.sweep import Grid, sweep

    options.preset, options.seeds = options.preset or "fast", options.seeds or 3
    config = config_of(options)
    grid = Grid.around(config.recipe, options.learning_rates, options.weight_decays, options.widths)
    results = sweep(config, options.on, grid)
    print(json.dumps(results, indent=2) if options.json else table_text(results))
    say(f"Chart: {config.folder / 'sweep.png'}, model: {config.folder / 'best'}")


def run_evaluate(options: argparse.Namespace) -> None:
    cli_models().evaluate(options)


def run_predict(options: argparse.Namespace) -> None:
    cli_models().predict(options)


def run_export(options: argparse.Namespace) -> None:
    cli_models().export(options)


def run_augment(options: argparse.Namespace) -> None:
    from fastmlp.experiment import Experiment
    from fastmlp.report.figures import draw_sheet
    from fastmlp.report.style import save

    experiment = Experiment(config_of(options))
    path = experiment.config.folder / "augmentations.png"
    save(draw_sheet(experiment.sheet()), path)
    print(printable(str(path)))


def run_backends(options: argparse.Namespace) -> None:
    from fastmlp.doctor import check, print_table, survey

    if options.check:
        check(options.check)
        return
    found = survey()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print_table(found)


def run_bench(options: argparse.Namespace) -> None:
    from fastmlp.bench import command, report

    out = options.out or Path("runs/bench")
    measurements = command.run(options.only, options.smoke, options.threads, out, options.json)
    print(report.table(measurements))
    say(f"Report: {out / 'report.html'}")


# Shared by the commands.


def config_of(options: argparse.Namespace) -> Config:
    from fastmlp.config import Config

    given = vars(options)
    known = {name: given[name] for name in Config.__dataclass_fields__ if given.get(name) is not None}
    return Config(**known)


def cli_models() -> Any:
    """The commands on models, whose import would slow the help."""
    from fastmlp import cli_models

    return cli_models


def print_figures(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        shown = f"{value:.3%}" if name.endswith("accuracy") else f"{value:,.4g}"
        print(f"{name.replace('_', ' '):15} {shown}")


# The parser.


class Parser(argparse.ArgumentParser):
    """One whose errors repeat no escape codes: what it cannot place may be the name of somebody's file."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fastmlp",
        description="One MLP, every array engine: small heads on frozen features.",
        epilog="Options can also be set by environment variables: FASTMLP_BACKEND for --backend, and so on.",
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    output, data, recipe, model = _output_options(), _data_options(), _recipe_options(), _model_options()
    experiment = [output, data, recipe, _training_options()]
    reproduce = _add(commands, "reproduce", run_reproduce, experiment, "the paper: data to Table 1, figures and report")
    _option(reproduce, "seeds", positive, "train that many models of each kind, from --seed on, for intervals (1)")
    _add(commands, "extract", run_extract, experiment, "the features of a dataset, stored")
    train = _add(commands, "train", run_train, experiment, "one model on stored features")
    train.add_argument("--on", choices=MODELS, default=MODELS[0], help="training images (%(default)s)")
    _add_features_options(train, "train on these features instead of a dataset's", test=True)
    _add_sweep(commands, [output, data, recipe])
    text = "accuracy, loss, per-class figures, confusion and calibration of a model"
    evaluate = _add(commands, "evaluate", run_evaluate, [output, data, model], text)
    _add_features_options(evaluate, "evaluate on these features instead of a dataset's test images")
    _add_predict(commands, [output, data, model])
    _add_export(commands, [output, model])
    _add(commands, "augment", run_augment, [output, data], "a sheet of augmented samples (the paper's Figure 1)")
    backends = _add(commands, "backends", run_backends, [output], "what is usable here, and why not the rest")
    backends.add_argument("--check", metavar="NAME", help="run our own parity cases on that backend")
    _add(commands, "bench", run_bench, [_bench_options()], "the benchmark suite and its report")
    return parser


def _add(
    commands: Any, name: str, run: Run, parents: list[argparse.ArgumentParser], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=parents)
    parser.set_defaults(run=run)
    return parser


def _output_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _bench_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--smoke", action="store_true", help="tiny problems, a round each: does everything run?")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="of the suite, such as step or growth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the results here (OUT/results.jsonl)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    _option(parser, "threads", positive, "CPU threads for everybody (all available cores by default)")
    _option(parser, "out", Path, "where report and charts go (runs/bench)")
    return parser


def _data_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("data and machine")
    _option(group, "dataset", str, "cifar10, digits (default), synthetic or folder:PATH")
    _option(group, "data-dir", Path, "where cifar10 lies, or is downloaded to")
    _option(group, "extractor", str, "patches (default), pixels, resnet18, torchvision:NAME or timm:NAME")
    _option(group, "weights", Path, "the extractor's weights: .safetensors, or a .pth state dict")
    _option(group, "image-size", int, "pixels a side that a backbone sees (its own by default)")
    _option(group, "limit", int, "use the first N training and the first N test images")
    _option(group, "backend", str, "auto (default), numpy, numba, torch, torch:DEVICE or cupy")
    _option(group, "threads", positive, "CPU threads (all available cores by default)")
    _option(group, "seed", seed, "of weights, batch order and augmentation (0)")
    _option(group, "out", Path, "where results go (runs/DATASET-EXTRACTOR)")
    return parser


def _add_sweep(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    text = "many heads at once: the learning rate, weight decay and width that do best on held-out training images"
    sweep = _add(commands, "sweep", run_sweep, parents, text)
    sweep.add_argument("--on", choices=MODELS, default=MODELS[0], help="training images (%(default)s)")
    grid = sweep.add_argument_group("grid")
    _option(grid, "learning-rates", numbers, "a tenth to ten times the preset's by default")
    _option(grid, "weight-decays", numbers, "0 and the preset's by default")
    _option(grid, "widths", sizes, "hidden units (64)")
    _option(grid, "seeds", positive, "heads of each setting, from --seed on (3)")


def _add_features_options(parser: argparse.ArgumentParser, text: str, test: bool = False) -> None:
    group = parser.add_argument_group("features made elsewhere (.npy, .npz, .safetensors or .parquet)")
    group.add_argument("--features", type=Path, metavar="FILE", help=text)
    group.add_argument("--labels", type=Path, metavar="FILE", help="their labels, if they are not in the same file")
    if test:
        group.add_argument("--test-features", type=Path, metavar="FILE", help="to test on (a tenth of --features)")
        group.add_argument("--test-labels", type=Path, metavar="FILE", help="those of --test-features")


def _add_predict(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    predict = _add(commands, "predict", run_predict, parents, "the classes of images, or of rows of features")
    text = "image files, folders of them, or a file of features: .npy, .npz, .safetensors or .parquet"
    predict.add_argument("inputs", nargs="+", type=Path, metavar="IMAGES|FEATURES", help=text)
    predict.add_argument("--format", choices=("table", "csv", "jsonl"), default="table", help="(%(default)s)")
    predict.add_argument("--top", type=positive, default=1, metavar="K", help="the K likeliest classes (%(default)s)")


def _add_export(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    export = _add(commands, "export", run_export, parents, "a model as an ONNX file")
    export.add_argument("--to", choices=("onnx",), default="onnx", help="(%(default)s)")
    export.add_argument("--with-extractor", action="store_true", help="one graph from uint8 images to probabilities")
    export.add_argument("--weights", type=Path, metavar="PATH", help="the extractor's weights, where they have moved")
    export.add_argument("--out", type=Path, metavar="FILE", help="where it goes (DIR/model.onnx)")


def _recipe_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("recipe")
    _option(group, "preset", str, "paper (default): the paper's 300 epochs; fast: two, in a hundredth of the time")
    _option(group, "epochs", positive, "instead of the preset's")
    _option(group, "batch-size", positive, "instead of the preset's")
    _option(group, "dtype", str, "float32 (default) or float64")
    return parser


def _training_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("training")
    _option(group, "learning-rate", float, "instead of the preset's")
    _option(group, "weight-decay", float, "instead of the preset's")
    _option(group, "hidden-layer-sizes", sizes, "widths of the hidden layers, such as 64 or 128,64 (64)")
    group.add_argument("--resume", action="store_true", help="go on where an earlier run with this --out stopped")
    return parser


def _model_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="the folder of a trained model")
    return parser


def _option(group: Any, name: str, kind: Callable[[str], Any], text: str) -> None:
    """An option whose default stands in the environment; None if it is given nowhere."""
    variable = f"FASTMLP_{name.replace('-', '_').upper()}"
    metavar = {str: "NAME", Path: "PATH", float: "X", sizes: "N,N", numbers: "X,X"}.get(kind, "N")
    group.add_argument(f"--{name}", type=kind, default=os.environ.get(variable), metavar=metavar, help=text)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def seed(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"must be 0 or more and less than 2**32, not {number}")
    return number


def numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part)


def sizes(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(",") if part)


if __name__ == "__main__":
    sys.exit(main())
