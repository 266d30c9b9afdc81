"""The command line's commands, their options, and help that ends with examples; `cli.main` runs them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastmlp._version import __version__
from fastmlp.cli.arguments import Parser
from fastmlp.cli.completion import SHELLS, Completion
from fastmlp.cli.kinds import files, names, number, numbers, positive, ranges, seed, size, sizes, whole, widths
from fastmlp.common.errors import did_you_mean
from fastmlp.paper import MODELS

EXAMPLES = {
    "reproduce": (
        "fastmlp reproduce",
        "fastmlp reproduce --dataset cifar10 --extractor resnet18 --backend numba --out runs/paper",
        "fastmlp reproduce --dataset folder:photos --preset fast --seeds 10",
    ),
    "extract": (
        "fastmlp extract --dataset cifar10 --extractor resnet18 --weights resnet18.safetensors",
        "fastmlp extract --dataset folder:photos --json",
        "fastmlp extract --dataset 'tar:s3://bucket/photos-{0000..0099}.tar' --engine ray",
    ),
    "train": (
        "fastmlp train --dataset digits --on augmented --epochs 30 --out runs/digits",
        "fastmlp train --features X.npy --labels y.npy --out runs/mine",
        "fastmlp train --features data.npz --hidden-layer-sizes 128,64 --early-stopping --folds 5",
    ),
    "sweep": (
        "fastmlp sweep --dataset digits",
        "fastmlp sweep --learning-rates 0.001,0.003,0.01 --weight-decays 0,0.1 --widths 32,64 --seeds 3",
        "fastmlp sweep --features X.npy --labels y.npy --out runs/mine",
    ),
    "probe": (
        "fastmlp probe --features train.npy --labels y.npy",
        "fastmlp probe --features X.npz --test-features test.npz --protocol decay-grid --out runs/probe",
        "fastmlp probe --dataset digits --protocol my.toml --folds 5 --seeds 3",
    ),
    "evaluate": (
        "fastmlp evaluate --model runs/digits/original",
        "fastmlp evaluate --model runs/mine/head --features X.npy --labels y.npy --json",
    ),
    "compare": (
        "fastmlp compare runs/a runs/b/head",
        "fastmlp compare runs/a/head runs/b/head --features X.npy --labels y.npy",
    ),
    "predict": (
        "fastmlp predict --model runs/digits/original photo.png photos/ --top 3",
        "fastmlp predict --model runs/mine/head X.npy --format csv",
    ),
    "export": (
        "fastmlp export --model runs/mine/head --out head.onnx",
        "fastmlp export --model runs/digits/original --with-extractor",
    ),
    "augment": (
        "fastmlp augment --dataset cifar10 --out samples",
        "fastmlp augment --dataset folder:photos --seed 1",
    ),
    "backends": (
        "fastmlp backends",
        "fastmlp backends --check numba --quick --only softmax",
        "fastmlp backends --measure cupy --network 768,128,100 --optimizer adam",
    ),
    "bench": (
        "fastmlp bench --smoke",
        "fastmlp bench --only step growth --threads 2 --out runs/bench",
    ),
}
AUGMENT_HELP = "kinds and ranges, such as crop=4,rotation=15,cutout=8,contrast=0.5:1.5"
PRESET_HELP = (
    "paper (default): the paper's 300 epochs; fast: seven, in a fiftieth of the time, for features of one scale; "
    "best: twelve, each feature standardised; "
    "tabular (default for --features): 50 of a wider network, each feature standardised"
)
VIEWS_HELP = "mirror: the mean of the answers to each image and to its mirror image (%(default)s)"
HELD_OUT_HELP = "only the rows of --features that were held out when the model was trained on that file"
DEVICE_HELP = "where all contenders compute; emulated runs the cuda code without a GPU (cpu)"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command; SystemExit, with the nearest option, for an unknown one."""
    parser = build_parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        command = commands.choices[options.command]
        names = [name for action in command._actions for name in action.option_strings]
        if unknown[0] in names:
            command.error(f"{unknown[0]} belongs after the command: fastmlp {options.command} {unknown[0]}")
        command.error(f"unrecognized arguments: {' '.join(unknown)}{_nearest(unknown[0], names)}")
    return options


def _nearest(argument: str, names: Sequence[str]) -> str:
    """The hint at options that begin like the argument or, where none does, at similar ones."""
    given = argument.partition("=")[0]
    longer = [name for name in names if given.startswith("--") and name.startswith(given)]
    return f", did you mean {' or '.join(longer)}" if longer else did_you_mean(given, names)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fastmlp",
        description="One MLP, every array engine: small heads on frozen features.",
        epilog="fastmlp reproduce tries it all on scikit-learn's digits, with nothing to download.\n"
        "fastmlp COMMAND --help shows a command's options, and examples. Options may also be set in the\n"
        "environment: FASTMLP_BACKEND for --backend, and so on.",
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    text = f"print a script that completes commands in that shell: {', '.join(SHELLS)}"
    parser.add_argument("--completion", choices=SHELLS, action=Completion, metavar="SHELL", help=text)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    output, machine, model = _output_options(), _machine_options(), _model_options()
    reading = _reading_options()
    images = [output, _data_options(), reading, _extractor_options(), machine, _run_options()]
    recipe = [*images, _copies_options(), _recipe_options(), _length_options()]
    experiment = [*recipe, _training_options()]
    reproduce = _add(commands, "reproduce", experiment, "the paper: data to Table 1, figures and report")
    _option(reproduce, "seeds", positive, "train this many models of each kind, from --seed on, for intervals (1)")
    _add_memory(reproduce)
    _add_engine_options(_add(commands, "extract", experiment, "the features of a dataset, stored"), "extract")
    train = _add(commands, "train", experiment, "one model on stored features, or on features made elsewhere")
    _add_fitting_options(train)
    train.add_argument("--on", choices=MODELS, default=MODELS[0], help="training images (%(default)s)")
    _add_memory(train)
    _add_features_options(train, "train on these features instead of a dataset's", test=True)
    _add_sweep(commands, recipe)
    _add_probe(commands, [*images, _copies_options(), _length_options()])
    _add_evaluate(commands, [output, model, reading, machine])
    _add_compare(commands, [output, machine])
    _add_predict(commands, [output, model, reading, machine])
    _add_export(commands, [output, model])
    augment = _add(commands, "augment", images, "a sheet of augmented samples (the paper's Figure 1)")
    _option(augment, "augment", ranges, AUGMENT_HELP)
    _add_backends(commands, [output])
    _add_bench(commands, [output])
    return parser


def _add(commands: Any, name: str, parents: Sequence[argparse.ArgumentParser], text: str) -> argparse.ArgumentParser:
    examples = "\n".join(["examples:", *(f"  {example}" for example in EXAMPLES[name])])
    description = text[0].upper() + text[1:] + "."
    return commands.add_parser(name, help=text, description=description, parents=parents, epilog=examples)


def _group(title: str) -> tuple[argparse.ArgumentParser, Any]:
    """A parent parser for commands, and its one group of options."""
    parser = argparse.ArgumentParser(add_help=False)
    return parser, parser.add_argument_group(title)


def _output_options() -> argparse.ArgumentParser:
    parser, group = _group("output")
    group.add_argument("--json", action="store_true", help="print the result as one JSON document")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress: only warnings and errors on stderr")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _data_options() -> argparse.ArgumentParser:
    parser, group = _group("data")
    _option(group, "dataset", str, "cifar10, digits (default), synthetic, folder:PATH, parquet:PATH, tar:PATH (or URL)")
    _option(group, "data-dir", Path, "where cifar10 lies, or is downloaded to")
    _option(group, "limit", whole, "use the first N training and the first N test images")
    return parser


def _reading_options() -> argparse.ArgumentParser:
    parser, group = _group("image files")
    _option(group, "on-bad-image", str, "fail (default), or skip: leave out images that cannot be read")
    _option(group, "max-pixels", positive, "of an image; larger ones are not read (89478485)")
    return parser


def _extractor_options() -> argparse.ArgumentParser:
    parser, group = _group("extractor")
    _option(group, "extractor", str, "patches (default), pixels, resnet18, torchvision:NAME or timm:NAME")
    _option(group, "weights", Path, "the extractor's weights: .safetensors, or a .pth state dict")
    _option(group, "image-size", positive, "side, in pixels, of the images a backbone sees (its own by default)")
    _option(group, "convolutions", str, "of a backbone on a GPU: plain (default), cudnn, compiled or measured")
    return parser


def _machine_options() -> argparse.ArgumentParser:
    parser, group = _group("machine")
    _option(group, "backend", str, "auto (default), numpy, numba, torch, torch:DEVICE, cupy, cupy:NUMBER or cupy:all")
    _option(group, "threads", positive, "CPU threads (all available cores by default)")
    return parser


def _run_options() -> argparse.ArgumentParser:
    parser, group = _group("run")
    _option(group, "seed", seed, "of weights, batch order and augmentation (0)")
    _option(group, "out", Path, "where results go (runs/DATASET-EXTRACTOR)")
    return parser


def _copies_options() -> argparse.ArgumentParser:
    parser, group = _group("augmentation")
    _option(group, "augment", ranges, AUGMENT_HELP)
    _option(group, "copies", positive, "augmented copies of each training image (1)")
    return parser


def _recipe_options() -> argparse.ArgumentParser:
    parser, group = _group("recipe")
    _option(group, "preset", str, PRESET_HELP)
    return parser


def _length_options() -> argparse.ArgumentParser:
    parser, group = _group("training")
    _option(group, "epochs", positive, "instead of the preset's, or the protocol's")
    _option(group, "batch-size", positive, "instead of the preset's, or the protocol's")
    _option(group, "dtype", str, "float32 (default), float64, or tf32, bfloat16 or float16 for a backbone on a GPU")
    return parser


def _training_options() -> argparse.ArgumentParser:
    parser, group = _group("training")
    _option(group, "learning-rate", number, "instead of the preset's")
    _option(group, "optimizer", str, "sgd, momentum or adam, instead of the preset's")
    _option(group, "weight-decay", number, "instead of the preset's")
    _option(
        group, "label-smoothing", number, "the share of each label spread over all classes, instead of the preset's"
    )
    _option(group, "hidden-layer-sizes", sizes, "widths of hidden layers, such as 64 or 128,64, or none (the preset's)")
    group.add_argument("--resume", action="store_true", help="continue where an earlier run with this --out stopped")
    return parser


def _add_engine_options(parser: argparse.ArgumentParser, verb: str) -> None:
    group = parser.add_argument_group("engine")
    _option(group, "engine", str, "auto (default), local: this process, or ray: workers of a Ray cluster")
    _option(group, "address", str, "of a running Ray cluster (one is started on this machine by default)")
    _option(group, "workers", positive, f"processes that {verb} (one per GPU or machine by default)")
    _option(group, "stall", positive, "seconds without progress after which --engine ray gives up (300)")


def _add_fitting_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rows")
    text = "hold a tenth of the training rows out, stop once accuracy on them no longer rises, keep the best epoch"
    group.add_argument("--early-stopping", action="store_true", help=text)
    text = "cross-validate in K folds first; without --test-features, the model is then trained on all rows"
    group.add_argument("--folds", type=int, metavar="K", help=text)
    _option(group, "class-weight", str, "balanced, or NAME=W,NAME=W: how much the loss of a row of each class counts")


def _model_options() -> argparse.ArgumentParser:
    parser, group = _group("model")
    group.add_argument("--model", type=Path, required=True, metavar="DIR", help="the folder of a trained model")
    _option(group, "weights", Path, "the extractor's weights, where they have moved")
    return parser


def _add_sweep(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    text = "many heads at once: finds the best learning rate, weight decay and width"
    sweep = _add(commands, "sweep", parents, text)
    sweep.add_argument("--on", choices=MODELS, default=MODELS[0], help="training images (%(default)s)")
    _add_memory(sweep)
    grid = sweep.add_argument_group("grid")
    _option(grid, "learning-rates", numbers, "a tenth to ten times the preset's by default")
    _option(grid, "weight-decays", numbers, "0 and the preset's by default")
    _option(grid, "widths", sizes, "hidden units (the preset's)")
    _option(grid, "seeds", positive, "heads per setting, from --seed on (3)")
    _add_engine_options(sweep, "train")
    _add_features_options(sweep, "train on these features instead of a dataset's", test=True)


def _add_probe(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    probe = _add(commands, "probe", parents, "a protocol of linear probes: its heads at once, and the best of them")
    probe.add_argument("--on", choices=MODELS, default=MODELS[0], help="training images (%(default)s)")
    _add_memory(probe)
    group = probe.add_argument_group("protocol")
    _option(group, "protocol", str, "sgd-grid (default), decay-grid, logistic, or a file of your own: my.toml")
    _option(group, "normalize", str, "raw, l2 or standard, instead of the protocol's")
    _option(group, "widths", widths, "hidden units instead of the protocol's; 0: none, a linear head")
    _option(group, "seeds", positive, "heads per setting, from --seed on, for intervals (1)")
    group.add_argument("--folds", type=int, metavar="K", help="choose in K folds, not on a tenth of the rows")
    probe.add_argument("--resume", action="store_true", help="continue where an earlier run with this --out stopped")
    _add_features_options(probe, "train on these features instead of a dataset's", test=True)


def _add_features_options(parser: argparse.ArgumentParser, text: str, test: bool = False) -> None:
    title = "features made elsewhere (.npy, .npz, .safetensors, .parquet, or a folder or glob of these)"
    group = parser.add_argument_group(title)
    group.add_argument("--features", type=files, metavar="FILE", help=text)
    group.add_argument("--labels", type=files, metavar="FILE", help="their labels, if they are not in the same file")
    if test:
        group.add_argument("--test-features", type=files, metavar="FILE", help="to test on (a tenth of --features)")
        group.add_argument("--test-labels", type=files, metavar="FILE", help="those of --test-features")
    _add_columns_options(group)


def _add_memory(parser: argparse.ArgumentParser) -> None:
    text = "hold no more of the features than this, such as 1GB; they are read and shuffled window by window"
    parser.add_argument("--memory", type=size, metavar="SIZE", help=text)


def _add_columns_options(group: Any) -> None:
    text = "the column, or array, of the labels (label, labels, target or y)"
    group.add_argument("--label-column", metavar="NAME", help=text)
    text = "columns, or arrays, that are no features"
    group.add_argument("--drop-columns", type=names, default=(), metavar="NAME,NAME", help=text)


def _add_evaluate(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    evaluate = _add(commands, "evaluate", parents, "accuracy, loss, confusion and calibration of a model")
    group = evaluate.add_argument_group("data")
    _option(group, "dataset", str, "evaluate on its test images (by default on those of the model's own)")
    _option(group, "data-dir", Path, "where cifar10 lies, or is downloaded to")
    _option(group, "limit", whole, "use the first N images, or rows of features")
    _add_features_options(evaluate, "evaluate on these features instead of a dataset's test images")
    _option(group, "out", Path, "where a report goes (none by default)")
    evaluate.add_argument("--held-out", action="store_true", help=HELD_OUT_HELP)
    _add_views(evaluate)


def _add_compare(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    compare = _add(commands, "compare", parents, "several runs side by side, in one table and chart")
    text = "folders of models or evaluations, or of such folders (of train, reproduce, sweep, evaluate --out)"
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=text)
    _add_features_options(compare, "evaluate every model on these features, and tell paired differences")
    compare.add_argument("--held-out", action="store_true", help=HELD_OUT_HELP)
    _option(compare, "out", Path, "where table, chart and report go (runs/compare)")


def _add_predict(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    predict = _add(commands, "predict", parents, "the classes of images, or of rows of features")
    text = (
        "image files, folders of them, or features: .npy, .npz, .safetensors or .parquet, or a folder or glob of these"
    )
    predict.add_argument("inputs", nargs="+", type=files, metavar="IMAGES|FEATURES", help=text)
    _add_columns_options(predict.add_argument_group("files of features"))
    predict.add_argument("--format", choices=("table", "csv", "jsonl"), default="table", help="(%(default)s)")
    predict.add_argument("--top", type=positive, default=1, metavar="K", help="the K most likely classes (%(default)s)")
    _add_views(predict)


def _add_views(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--views", choices=("one", "mirror"), default="one", help=VIEWS_HELP)


def _add_export(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    export = _add(commands, "export", parents, "a model as an ONNX file")
    export.add_argument("--to", choices=("onnx",), default="onnx", help="(%(default)s)")
    export.add_argument("--with-extractor", action="store_true", help="one graph from uint8 images to probabilities")
    export.add_argument("--out", type=Path, metavar="FILE", help="where it goes (DIR/model.onnx)")


def _add_bench(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    bench = _add(commands, "bench", parents, "the benchmark suite and its report")
    bench.add_argument("--smoke", action="store_true", help="tiny problems, one round each: does everything run?")
    bench.add_argument("--device", choices=("cpu", "cuda", "emulated"), default="cpu", help=DEVICE_HELP)
    bench.add_argument("--only", nargs="+", default=(), metavar="NAME", help="of the suite, such as step or growth")
    bench.add_argument("--results", type=Path, metavar="FILE", help="append JSON lines here (OUT/results.jsonl)")
    _option(bench, "threads", positive, "CPU threads for every contender (all available cores by default)")
    _option(bench, "out", Path, "where report and charts go (runs/bench)")


def _add_backends(commands: Any, parents: Sequence[argparse.ArgumentParser]) -> None:
    backends = _add(commands, "backends", parents, "what is usable here, and why not the rest")
    group = backends.add_argument_group("check")
    group.add_argument("--check", metavar="NAME", help="hold that backend to NumPy's numbers, by the cases of our own")
    group.add_argument("--quick", action="store_true", help="a first look, of ten seconds for Numba")
    group.add_argument("--only", default="", metavar="TEXT", help="run the checks whose name contains this")
    _option(group, "seed", seed, "of all that a check draws (0)")
    group = backends.add_argument_group("measurement")
    group.add_argument(
        "--measure", metavar="NAME", help="rank that GPU backend's ways to train a network; runs go by it"
    )
    group.add_argument("--network", type=sizes, metavar="N,N", help="inputs, hidden widths and classes (512,64,10)")
    _option(group, "batch-size", positive, "of the steps to measure (64)")
    _option(group, "optimizer", str, "sgd (default), momentum or adam")


def _option(group: Any, name: str, kind: Callable[[str], Any], text: str) -> None:
    """An option whose default comes from the environment; None if it is given in neither place."""
    variable = f"FASTMLP_{name.replace('-', '_').upper()}"
    metavar = {str: "NAME", Path: "PATH", number: "X", sizes: "N,N", widths: "N,N", numbers: "X,X", ranges: "TEXT"}.get(
        kind, "N"
    )
    group.add_argument(f"--{name}", type=kind, default=os.environ.get(variable), metavar=metavar, help=text)
